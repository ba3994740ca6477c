"""Masked convolutions in Triton, as matrix products on tensor cores (_masked_product.py), with bias, condition and activation in
the epilogue; gates and concatenated ELUs (_gates.py).

Sums are float32, those of 16-bit floats and of float32 alike; float32 is multiplied in full precision, or in TF32 where
torch.backends.cuda.matmul.allow_tf32 says so. float64 convolutions are the reference's. An output does not depend on its batch. The
gradient at the weight is summed over splits of the pixels, then over the splits, in an order that the shapes alone decide.

Tensors have any strides, and none is empty. Callers check the arguments.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ._gates import concat_elu_backward_kernel, concat_elu_kernel, gate_backward_kernel, gate_kernel
from ._launch import accumulator, index_type
from ._masked_product import pack_kernel, product_kernel, rows_kernel, weight_kernel, weight_sum_kernel

__all__ = [
    "concat_elu",
    "concat_elu_backward",
    "gated_activation",
    "gated_activation_backward",
    "masked_conv2d",
    "masked_conv2d_backward",
]

BLOCK = 1024  # elements, for what is no product
BLOCK_ROWS, BLOCK_PACK = 64, 64  # rows of an image, and of a packed weight
PROGRAMS, LEAST_SHARE = 512, 1024  # of the gradient at the weight: about how many, each of so many pixels at least
FUSING = {"enable_fp_fusion": True}


class Tile(NamedTuple):
    """Of a product: rows, columns, and depth of a step."""

    m: int
    n: int
    k: int
    num_warps: int
    num_stages: int
    precision: str = "ieee"

    def options(self) -> dict[str, object]:
        return {"PRECISION": self.precision, "num_warps": self.num_warps, "num_stages": self.num_stages} | FUSING


class Live(NamedTuple):
    """What of a masked weight is live: whole taps, then of the centre a part, by colour group."""

    taps: int
    centre: str
    """The mask where the centre depends on the groups, else empty."""
    groups: int
    pairs: bool
    """Whether the outputs are two halves, each divided into the groups."""

    def ends(self, channels: int, length: int) -> tuple[int, ...]:
        """Of the outputs of each group: up to which k = tap * length + channel they see inputs."""
        if not self.centre:
            return (self.taps * length,)
        seen = (group + (self.centre == "B") for group in range(self.groups))
        return tuple(self.taps * length + first(group, channels, self.groups) for group in seen)

    def adjoint_ends(self, outputs: int, length: int) -> tuple[int, ...]:
        """Of the inputs of each group: up to which k = tap * length + place they are seen, places being in reverse order."""
        if not self.centre:
            return (self.taps * length,)
        units = outputs // 2 if self.pairs else outputs
        unseen = [first(group + (self.centre == "A"), units, self.groups) for group in range(self.groups)]
        return tuple(self.taps * length + (units - before) * (outputs // units) for before in unseen)


def first(group: int, channels: int, groups: int) -> int:
    """The first channel c with c * groups // channels = group."""
    return -(-group * channels // groups)


def live_of(weight: Tensor, mask: str, color_groups: int, gated_layout: bool) -> Live:
    height, width = weight.shape[2:]
    beside = {"A": width // 2, "B": width // 2, "rows": width, "above": 0}[mask]
    centre = mask if mask in ("A", "B") else ""
    groups = color_groups if centre else 1
    return Live(height // 2 * width + beside, centre, groups, gated_layout and groups > 1)


def tile_of(x: Tensor, columns: int) -> Tile:
    """A float32 tile of full precision is multiplied outside the tensor cores and held in registers. Elsewhere two programs share a
    multiprocessor, so that the one multiplies while the other loads or stores."""
    n = max(16, triton.next_power_of_2(columns))
    if x.dtype == torch.float32 and not allows_tf32():
        return Tile(64, min(n, 64), 32, 4, 2)
    precision, k = ("tf32", 32) if x.dtype == torch.float32 else ("ieee", 64)
    return Tile(128, min(n, 128), k, 8, 3, precision)


def allows_tf32() -> bool:
    matmul = torch.backends.cuda.matmul
    try:
        return matmul.allow_tf32
    except RuntimeError:  # PyTorch refuses the older name where the newer was set
        return matmul.fp32_precision == "tf32"


def length_of(channels: int, dtype: torch.dtype) -> int:
    """Of a row of so many channels."""
    unit = 16 // dtype.itemsize
    return triton.cdiv(channels, unit) * unit


def rows_of(x: Tensor, pairs: bool = False, reverse: bool = False) -> Tensor:
    """(N, C, H, W) as rows of channels, one for each pixel: itself where it is so already and in this order."""
    n, channels, height, width = x.shape
    length = length_of(channels, x.dtype)
    if not reverse and length == channels and x.permute(0, 2, 3, 1).is_contiguous():
        return x
    flat = x.flatten(2)
    rows = torch.empty((n * height * width, length), dtype=x.dtype, device=x.device)
    block_c = min(64, triton.next_power_of_2(length))
    rows_kernel[(triton.cdiv(len(rows), BLOCK_ROWS), triton.cdiv(length, block_c))](
        rows, flat, len(rows), channels, height * width, *flat.stride(), LENGTH=length,
        PAIRS=pairs, REVERSED=reverse, INDEX=index_type(rows.numel()), BLOCK_M=BLOCK_ROWS, BLOCK_C=block_c, num_warps=4,
        **FUSING,
    )  # fmt: skip
    return rows


def multiply(
    out: Tensor,
    source: Tensor,
    size: tuple[int, int],
    weight: Tensor,
    bias: Tensor | None,
    condition: tuple[Tensor, int, int, int] | None,
    ends: tuple[int, ...],
    pairs: bool,
    stride: int,
    activation: str,
    adjoint: bool,
) -> Tensor:
    """Fills out with the product of the source, rows of images of this size, and the weight, or its transpose (adjoint)."""
    outer, inner = (1, 0) if adjoint else (0, 1)
    columns, channels = weight.shape[outer], weight.shape[inner]
    groups, (kernel_height, kernel_width) = len(ends), weight.shape[2:]
    widest = triton.cdiv(columns // 2, groups) * 2 if pairs and not adjoint else triton.cdiv(columns, groups)
    tile = tile_of(out, widest)
    width = triton.cdiv(widest, tile.n) * tile.n
    depth = max(triton.cdiv(max(ends), tile.k), 1) * tile.k
    packed = torch.empty((depth, groups * width), dtype=weight.dtype, device=weight.device)
    shared = {"LENGTH": length_of(channels, weight.dtype), "GROUPS": groups, "WIDTH": width, "KW": kernel_width}
    pack_kernel[(triton.cdiv(depth, BLOCK_PACK), groups * width // tile.n)](
        packed, weight, ends, depth, channels, columns, weight.stride(inner), weight.stride(outer), *weight.stride()[2:],
        **shared, REVERSED=adjoint and groups > 1, INNER_PAIRS=pairs and adjoint, OUTER_PAIRS=pairs and not adjoint,
        BLOCK_K=BLOCK_PACK, BLOCK_N=tile.n, num_warps=tile.num_warps, **FUSING,
    )  # fmt: skip
    n, (out_height, out_width) = len(out), out.shape[2:]
    pixels = n * out_height * out_width
    product_kernel[(triton.cdiv(pixels, tile.m) * groups * (width // tile.n),)](
        out, source, packed, bias, condition, ends,
        pixels, *size, columns, out_height, out_width, **shared,
        PAIRS=pairs and not adjoint, ABOVE=kernel_height // 2, LEFT=kernel_width // 2, STRIDE=stride, ADJOINT=adjoint,
        ACTIVATION=activation, INDEX=index_type(source.numel(), pixels),
        BLOCK_M=tile.m, BLOCK_N=tile.n, BLOCK_K=tile.k, **tile.options(),
    )  # fmt: skip
    return out


def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    condition: Tensor | None,
    mask: str,
    color_groups: int,
    stride: int,
    activation: str,
    gated_layout: bool,
) -> Tensor | None:
    """activation(sum over live taps of weight * x + bias + condition). None for float64."""
    if x.dtype == torch.float64:
        return None
    n, channels, height, width = x.shape
    live = live_of(weight, mask, color_groups, gated_layout)
    outputs = weight.shape[0] // 2 if activation == "gated" else weight.shape[0]
    shape = n, outputs, triton.cdiv(height, stride), triton.cdiv(width, stride)
    out = torch.empty(shape, dtype=x.dtype, device=x.device)
    added = None
    if condition is not None:
        maps = (
            condition.flatten(2) if condition.dim() == 4 else condition[:, :, None].expand(-1, -1, shape[2] * shape[3])
        )
        added = (maps, *maps.stride())
    with torch.cuda.device_of(x):
        return multiply(
            out, rows_of(x), (height, width), weight, None if bias is None else bias.contiguous(), added,
            live.ends(channels, length_of(channels, x.dtype)), live.pairs or activation == "gated", stride, activation, False,
        )  # fmt: skip


def masked_conv2d_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    mask: str,
    color_groups: int,
    gated_layout: bool,
    stride: int,
    needs: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None] | None:
    """Of the linear part, those that are needed: dx, and dweight, which is 0 at dead taps. None for float64."""
    if x.dtype == torch.float64:
        return None
    live = live_of(weight, mask, color_groups, gated_layout)
    dx = dw = None
    with torch.cuda.device_of(x):
        rows = rows_of(grad, live.pairs, live.groups > 1)
        if needs[0]:
            dx = multiply(
                torch.empty(x.shape, dtype=x.dtype, device=x.device), rows, tuple(grad.shape[2:]), weight, None, None,
                live.adjoint_ends(len(weight), length_of(len(weight), x.dtype)), live.pairs, stride, "none", True,
            )  # fmt: skip
        if needs[1]:
            dw = weight_gradient(rows, x, weight, live, grad.shape[2:], stride)
    return dx, dw


def weight_gradient(
    rows: Tensor, x: Tensor, weight: Tensor, live: Live, out_size: tuple[int, int], stride: int
) -> Tensor:
    """From the gradient's rows."""
    d_weight = torch.zeros(weight.shape, dtype=weight.dtype, device=weight.device)
    outputs, channels, kernel_height, kernel_width = weight.shape
    lengths = {"LENGTH": length_of(channels, x.dtype), "OUTPUTS": length_of(outputs, x.dtype)}
    ends = live.ends(channels, lengths["LENGTH"])
    depth, pixels = max(ends), len(x) * out_size[0] * out_size[1]
    if depth == 0:
        return d_weight
    tile = tile_of(x, outputs)
    grid = triton.cdiv(depth, tile.m), triton.cdiv(outputs, tile.n)
    wanted = max(1, min(PROGRAMS // (grid[0] * grid[1]), pixels // LEAST_SHARE))
    share = triton.cdiv(triton.cdiv(pixels, wanted), tile.k) * tile.k
    splits = triton.cdiv(pixels, share)
    source = rows_of(x)
    parts = torch.empty((splits, depth, lengths["OUTPUTS"]), dtype=torch.float32, device=x.device)
    weight_kernel[(*grid, splits)](
        parts, source, rows, pixels, share, depth, *x.shape[2:], **lengths, OUT_HEIGHT=out_size[0], OUT_WIDTH=out_size[1],
        KW=kernel_width, ABOVE=kernel_height // 2, LEFT=kernel_width // 2, STRIDE=stride,
        INDEX=index_type(source.numel(), rows.numel()), BLOCK_M=tile.k, BLOCK_N=tile.n, BLOCK_K=tile.m, **tile.options(),
    )  # fmt: skip
    weight_sum_kernel[(triton.cdiv(parts[0].numel(), BLOCK),)](
        d_weight, parts, ends, splits, depth, channels, outputs, kernel_height * kernel_width,
        **lengths, GROUPS=live.groups, PAIRS=live.pairs, REVERSED=live.groups > 1, BLOCK=BLOCK, num_warps=4, **FUSING,
    )  # fmt: skip
    return d_weight


def gated_activation(x: Tensor, first: str) -> Tensor:
    """tanh(a) * sigmoid(b), or a * sigmoid(b), of the halves a and b of x (N, 2C, ...)."""
    out = torch.empty((len(x), x.shape[1] // 2, *x.shape[2:]), dtype=x.dtype, device=x.device)
    return elementwise(gate_kernel, out, (x,), out.numel(), TANH=first == "tanh")


def gated_activation_backward(grad: Tensor, x: Tensor, first: str) -> Tensor:
    """With t = tanh(a) or a, and s = sigmoid(b): da = grad t' s, db = grad t s (1 - s)."""
    d_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return elementwise(gate_backward_kernel, d_x, (grad, x), grad.numel(), TANH=first == "tanh")


def concat_elu(x: Tensor) -> Tensor:
    """elu(x) and elu(-x) side by side in the channels."""
    out = torch.empty((len(x), 2 * x.shape[1], *x.shape[2:]), dtype=x.dtype, device=x.device)
    return elementwise(concat_elu_kernel, out, (x,), x.numel())


def concat_elu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """elu'(x) = exp(min(x, 0))."""
    d_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return elementwise(concat_elu_backward_kernel, d_x, (grad, x), x.numel())


def elementwise(
    kernel: triton.JITFunction, out: Tensor, inputs: tuple[Tensor, ...], count: int, **constants: object
) -> Tensor:
    """Fills out; count: the elements of the tensor without halves."""
    length = count // len(out)
    with torch.cuda.device_of(out):
        kernel[(len(out) * triton.cdiv(length, BLOCK),)](
            out, *(x.contiguous() for x in inputs), length, **constants,
            COMPUTE=accumulator(out), INDEX=index_type(2 * count), BLOCK=BLOCK, num_warps=4, **FUSING,
        )  # fmt: skip
    return out
