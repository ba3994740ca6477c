"""The Laplacian loss: one launch a level, forward and backward.

loss_n = sum_l c[n, l] sum m_l |h_l| over sample n, h_l the levels of the Laplacian pyramid of input - target. Going down, a level
reads its image once, writes the next and, where a gradient is wanted, the signs of its band, a byte each; every program leaves one
sum of an image, all of which are then added in one order, whatever the batch. The gradient is the pyramid's transpose of
c m sign(h).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._arithmetic import plane_offset
from ._launch import described, empty, planes_of
from ._levels import FEWEST_ROWS, MOST_ROWS, Level, Mode, Size, half, packing, run_level
from ._strip import LOSS, SIGNS, total_kernel

FORWARD = Mode(reduce=True, expand=True, adjoint=False, use=LOSS.value)
BACKWARD = Mode(reduce=True, expand=True, adjoint=True, use=SIGNS.value)
BLOCK = 256
OPTIONS = {"BLOCK": BLOCK, "num_warps": 4, "enable_fp_fusion": True}


@triton.jit(do_not_specialize=["coefficients", "partials"])
def residual_kernel(image, mask, grad, coefficients, partials, height, width, inner, BLOCK: tl.constexpr):
    """The sum of mask |image| of a plane, times its coefficient, and, unless grad is None, that sum's gradient."""
    plane = tl.program_id(0)
    factor = tl.load(coefficients[0] + plane // coefficients[2] * coefficients[1] + coefficients[3])
    total = tl.zeros((BLOCK,), dtype=image[0].dtype.element_ty)
    for start in range(0, height * width, BLOCK):
        pixel = start + tl.arange(0, BLOCK)
        row, column = (pixel // width).to(tl.int64), (pixel % width).to(tl.int64)
        inside = pixel < height * width
        at = plane_offset(plane, inner, image[1], image[2]) + row * image[3] + column * image[4]
        x = tl.load(image[0] + at, mask=inside, other=0)
        weight = factor + tl.zeros((BLOCK,), dtype=x.dtype)
        if mask is not None:
            at = plane_offset(plane, inner, mask[1], mask[2]) + row * mask[3] + column * mask[4]
            weight = factor * tl.load(mask[0] + at, mask=inside, other=0).to(x.dtype)
        total += tl.abs(x) * weight
        if grad is not None:
            at = plane_offset(plane, inner, grad[1], grad[2]) + row * grad[3] + column * grad[4]
            sign = tl.where(x == x, (x > 0).to(x.dtype) - (x < 0).to(x.dtype), x)
            tl.store(grad[0] + at, sign * weight, mask=inside)
    tl.store(partials[0] + plane.to(tl.int64) * partials[1] + partials[2], tl.sum(total, axis=0))


def cropped(x: Tensor, size: Size) -> Tensor:
    return x[..., : size[0], : size[1]]


def expanded(mask: Tensor, like: Tensor) -> Tensor:
    return mask.expand(*like.shape[:-2], *mask.shape[-2:])


def grown(like: Tensor, size: Size, full: Size, dtype: torch.dtype) -> Tensor:
    """Of size `full`, to be filled up to `size`; zero beyond."""
    x = empty(like, full, dtype)
    return x if size == full else x.zero_()


def rows_of(size: Size) -> int:
    """Of a program: by the size of an image alone, so that sums do not depend on the batch."""
    return min(max(triton.next_power_of_2(size[0] // 32), FEWEST_ROWS), MOST_ROWS)


def programs(size: Size) -> int:
    """How many sums a level leaves of an image."""
    return packing(size[1])[2] * triton.cdiv(half(size)[0], rows_of(size))


def residual(
    x: Tensor,
    mask: Tensor | None,
    grad: Tensor | None,
    coefficients: tuple[Tensor, int, int, int],
    partials: tuple[Tensor, int, int],
) -> None:
    found = described((x, mask, grad))
    if found is None:
        assert mask is not None  # the others are ours
        return residual(x, mask.contiguous(), grad, coefficients, partials)
    inner, strides = found
    tensors = [None if each is None else (each, *steps) for each, steps in zip((x, mask, grad), strides, strict=True)]
    with torch.cuda.device_of(x):
        residual_kernel[(planes_of(x),)](*tensors, coefficients, partials, *x.shape[-2:], inner, **OPTIONS)


def laplacian_loss(
    input: Tensor,
    target: Tensor,
    mask: list[Tensor] | None,
    coefficients: Tensor,
    sizes: Sequence[Size],
    border: str,
    with_grad: bool,
) -> tuple[Tensor, Tensor | None] | None:
    """(loss (N,), d(sum of loss)/d input or None); None for what is not fused: circular borders, no levels, no pixels.

    input and target (N, ..., H, W); mask: of every level, broadcastable to it; coefficients (N, L), or (N, L + 1) where the
    residual counts; sizes: of the levels after cropping, the residual's last. Sums, and the images between, are float32, or float64
    for float64.
    """
    if border == "circular" or len(sizes) < 2 or input.numel() == 0:
        return None
    compute, levels, planes = coefficients.dtype, len(sizes) - 1, planes_of(input)
    begins = [0, *accumulate(programs(size) for size in sizes[:-1])]
    with_residual = coefficients.shape[1] > levels
    sums = torch.empty((planes, begins[-1] + with_residual), dtype=compute, device=input.device)
    partials = [(sums, sums.shape[1], begin) for begin in begins]
    per_sample, (row, column) = planes // len(input), coefficients.stride()
    factors = [(coefficients, row, per_sample, depth * column) for depth in range(len(sizes))]
    masks = [None] * len(sizes) if mask is None else [expanded(m, input) for m in mask]

    x, second, signs = cropped(input, sizes[0]), cropped(target, sizes[0]), []
    for depth, size in enumerate(sizes[:-1]):
        low = empty(input, half(size), compute)
        band = empty(input, size, torch.int8) if with_grad else None
        level = Level(size, x, None, low, band, second, masks[depth], factors[depth], partials[depth])
        run_level(FORWARD, level, border, rows_of(size))
        x, second = cropped(low, sizes[depth + 1]), None
        signs.append(band)

    total = torch.zeros(x.shape, dtype=compute, device=input.device) if with_grad else None
    if with_residual:
        residual(x, masks[-1], total, factors[-1], partials[-1])
    loss = torch.empty(len(input), dtype=compute, device=input.device)
    with torch.cuda.device_of(input):
        total_kernel[(len(input),)](loss, sums, per_sample * sums.shape[1], **OPTIONS)
    if total is None:
        return loss, None
    for depth in reversed(range(levels)):
        size = sizes[depth]
        full = half(sizes[depth - 1]) if depth else (input.shape[-2], input.shape[-1])
        fine = grown(input, size, full, compute)
        level = Level(size, signs[depth], total, None, cropped(fine, size), None, masks[depth], factors[depth])
        run_level(BACKWARD, level, border)
        total = fine
    return loss, total
