"""Masked convolutions, gated activations and concatenated ELUs: what the PixelCNN family is made of.

Images are `(N, C, H, W)`. Every op takes any strides, gives contiguous results, and has gradients of any order.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._eager import wants_gradient
from lapcore.ops._registered import Registered, by_recomputation, save_all, saved
from lapcore.reference import masked_conv as reference
from lapcore.reference.masked_conv import MASKS

__all__ = ["concat_elu", "gated_activation", "mask_of", "masked_conv2d"]

ACTIVATIONS = ("none", "relu", "gated")
FIRSTS = ("tanh", "identity")


def mask_of(
    mask: str,
    kernel_size: int | tuple[int, int],
    in_channels: int,
    out_channels: int,
    color_groups: int = 1,
    *,
    gated_layout: bool = False,
    device: torch.device | str | None = None,
) -> Tensor:
    """Which weights of a masked convolution are live: bool, shape (out_channels, in_channels, kh, kw).

    The centre of a kernel, odd or even, is (kh // 2, kw // 2). Live are

    - "A": the rows above the centre's, what stands left of the centre in its row, and the centre tap where g_in < g_out;
    - "B": the same, and the centre tap where g_in <= g_out;
    - "rows": the rows up to and with the centre's, whole, whatever the groups;
    - "above": the rows above the centre's, whole, whatever the groups.

    g = c * G // C is the colour group, of G = color_groups, of channel c of C: contiguous parts, so that logits may be viewed as
    (N, G, levels, H, W). gated_layout: the output channels are two halves, of tanh and sigmoid, each divided into the groups.

    Determinism: a function of the arguments; on `device`, by default torch's. Errors: TypeError, ValueError naming the argument.
    Source: van den Oord, Kalchbrenner and Kavukcuoglu, Pixel Recurrent Neural Networks, 2016, section 3.4.
    """
    kernel = kernel_sides(kernel_size)
    check_mask(mask, in_channels, out_channels, color_groups, gated_layout)
    return reference.mask_of(mask, kernel, in_channels, out_channels, color_groups, gated_layout, device)


def kernel_sides(kernel_size: int | tuple[int, int]) -> tuple[int, int]:
    """(kh, kw), each at least 1."""
    sides = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
    if len(sides) != 2:
        raise ValueError(f"kernel_size: expected an int or (kh, kw), got {kernel_size!r}")
    for side in sides:
        _check.count("kernel_size", side, 1)
    return sides


def check_mask(mask: str, in_channels: int, out_channels: int, color_groups: int, gated_layout: bool) -> None:
    """Whether there can be such a mask."""
    _check.choice("mask", mask, MASKS)
    _check.count("color_groups", color_groups, 1)
    if gated_layout and out_channels % 2:
        raise ValueError(f"out_channels: expected an even number, two halves, got {out_channels}")
    _check.count("in_channels", in_channels, color_groups)
    _check.count("out_channels", out_channels, color_groups * (1 + gated_layout))


def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask: str,
    color_groups: int = 1,
    condition: Tensor | None = None,
    stride: int = 1,
    activation: str = "none",
    gated_layout: bool = False,
) -> Tensor:
    """y[n, o, i, j] = sum of weight[o, c, dy, dx] x[n, c, i + dy - kh // 2, j + dx - kw // 2] over the mask's live taps.

    x counts as 0 outside the image, so that the output has its size, for odd and even kernels. Then + bias, + condition, and the
    activation. Dead taps are never read: what the weight holds there, NaN included, has no effect, and their gradient is 0.

    Args:
        x: `(N, C, H, W)`, any strides.
        weight: `(O, C, kh, kw)`.
        bias: `(O,)`, or None.
        mask: "A", "B", "rows" or "above", see `lapcore.mask_of`, which is the one definition of what is live.
        color_groups: G, in how many colours the channels are divided, `c * G // C`; of masks A and B. C, O >= G (O / 2 >= G for
            gated layouts).
        condition: `(N, O)`, one vector for each image, or `(N, O, H', W')`; added before the activation. Or None.
        stride: 1, or 2: only the pixels (2 i, 2 j) are computed, H' = ceil(H / 2), W' = ceil(W / 2).
        activation: "none"; "relu"; or "gated", `lapcore.gated_activation` of the output's two halves -> `(N, O / 2, H', W')`.
        gated_layout: whether the output channels are two halves, each divided into the colour groups. "gated" implies it.

    Returns: `(N, O, H', W')`, contiguous.

    Dtypes: float16, bfloat16, float32, float64, one for all. Sums in float32 (float64 for float64), rounded once; with 16-bit
        floats, where gradients are wanted, once before the activation too.
    Gradients: at x, weight, bias and condition; of any order, the second and higher ones in plain PyTorch.
    Errors: TypeError, ValueError naming the argument.
    Determinism: on the cpu backend, and in float32 on cuda, every output is one chain of fused multiply-adds, over live taps in
        raster order and their channels in order, then one rounded operation for each of bias, condition and activation: the same
        bits whatever the batch, the place in the image and the threads. A CPU without such an instruction (`lapcore info` says
        "baseline") rounds products too, and gives other bits. The reference is as torch's convolution is.
    Source: van den Oord, Kalchbrenner and Kavukcuoglu, Pixel Recurrent Neural Networks, 2016; van den Oord et al., Conditional
        Image Generation with PixelCNN Decoders, 2016.
    """
    gated_layout = _checked_layout(activation, gated_layout)
    _check_convolution(x, weight, mask, color_groups, stride, gated_layout)
    _check_epilogue(x, weight, bias, condition, stride)
    _check.no_tangent(x, weight, bias, condition)
    tensors = [t for t in (x, weight, bias, condition) if t is not None]
    fused = "none" if wants_gradient(tensors) else activation
    y: Tensor = _conv(x, weight, bias, condition, mask, color_groups, stride, fused, gated_layout)
    if fused == activation:
        return y
    return torch.relu(y) if activation == "relu" else gated_activation(y)


def gated_activation(x: Tensor, *, first: str = "tanh") -> Tensor:
    """tanh(a) * sigmoid(b) of the two halves a, b of the channels of x, in one pass.

    Args:
        x: shape `(N, 2 C, ...)`, any strides.
        first: "tanh"; or "identity": a * sigmoid(b), the gate of PixelCNN++.

    Returns: `(N, C, ...)`, contiguous.

    Dtypes: float16, bfloat16, float32, float64; computed in float32 (float64 for float64) and rounded once.
    Gradients: by formula, of any order. Errors: TypeError, ValueError naming the argument.
    Determinism: an output depends on its two inputs alone; on the cpu backend the same bits wherever they stand.
    Source: van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016, equation 2; Salimans et al.,
        PixelCNN++, 2017.
    """
    _check_channels(x)
    if x.shape[1] % 2:
        raise ValueError(f"x: expected shape (N, 2C, ...), an even number of channels, got {tuple(x.shape)}")
    _check.choice("first", first, FIRSTS)
    gated: Tensor = _gated(x, first)
    return gated


def concat_elu(x: Tensor) -> Tensor:
    """[elu(x), elu(-x)] along the channels, elu(x) = x for x > 0, else exp(x) - 1.

    Shapes: x `(N, C, ...)`, any strides -> `(N, 2 C, ...)`, contiguous.
    Dtypes: float16, bfloat16, float32, float64; computed in float32 (float64 for float64) and rounded once.
    Gradients: by formula, of any order. Errors: TypeError, ValueError naming the argument.
    Determinism: an output depends on its input alone; on the cpu backend the same bits wherever it stands.
    Source: Salimans, Karpathy, Chen and Kingma, PixelCNN++, ICLR 2017, and its code; after Shang et al. 2016.
    """
    _check_channels(x)
    elu: Tensor = _elu(x)
    return elu


def _checked_layout(activation: str, gated_layout: bool) -> bool:
    _check.choice("activation", activation, ACTIVATIONS)
    if not isinstance(gated_layout, bool):
        raise TypeError(f"gated_layout: expected a bool, got {type(gated_layout).__name__}")
    return gated_layout or activation == "gated"


def _check_convolution(
    x: Tensor, weight: Tensor, mask: str, color_groups: int, stride: int, gated_layout: bool
) -> None:
    _check.choice("mask", mask, MASKS)
    _check.count("color_groups", color_groups, 1)
    if isinstance(stride, bool) or stride not in (1, 2):
        raise ValueError(f"stride: expected 1 or 2, got {stride!r}")
    _check.image("x", x, _check.FLOATS)
    if x.dim() != 4 or x.shape[1] < color_groups:
        raise ValueError(
            f"x: expected shape (N, C, H, W) with C >= color_groups = {color_groups}, got {tuple(x.shape)}"
        )
    _check.tensor("weight", weight)
    if weight.dim() != 4 or weight.shape[1] != x.shape[1] or 0 in weight.shape:
        raise ValueError(f"weight: expected shape (O, {x.shape[1]}, kh, kw), none of them 0, got {tuple(weight.shape)}")
    _check.like("weight", weight, x.dtype, x.device, "x")
    if gated_layout and weight.shape[0] % 2:
        raise ValueError(f"weight: expected an even number of output channels, two halves, got {tuple(weight.shape)}")
    if weight.shape[0] // (1 + gated_layout) < color_groups:
        of = "O / 2" if gated_layout else "O"
        raise ValueError(f"weight: expected {of} >= color_groups = {color_groups}, got shape {tuple(weight.shape)}")


def _check_epilogue(x: Tensor, weight: Tensor, bias: Tensor | None, condition: Tensor | None, stride: int) -> None:
    channels = weight.shape[0]
    if bias is not None:
        _check.tensor("bias", bias)
        if bias.shape != (channels,):
            raise ValueError(f"bias: expected shape ({channels},) like weight, got {tuple(bias.shape)}")
        _check.like("bias", bias, x.dtype, x.device, "x")
    if condition is not None:
        _check.tensor("condition", condition)
        vectors = x.shape[0], channels
        maps = *vectors, *_strided(x, stride)
        if condition.shape not in (vectors, maps):
            raise ValueError(f"condition: expected shape {vectors} or {maps}, got {tuple(condition.shape)}")
        _check.like("condition", condition, x.dtype, x.device, "x")


def _check_channels(x: Tensor) -> None:
    _check.tensor("x", x)
    _check.dtype("x", x)
    if x.dim() < 2:
        raise ValueError(f"x: expected shape (N, C, ...), got {tuple(x.shape)}")
    _check.no_tangent(x)


def _strided(x: Tensor, stride: int) -> tuple[int, int]:
    return (x.shape[2] + stride - 1) // stride, (x.shape[3] + stride - 1) // stride


def _run(name: str, x: Tensor, *arguments: Any) -> Any:
    """On x's backend, or, where that says None, not for these arguments, on the reference."""
    if x.numel():
        found = getattr(backends.select("masked_conv", [x]), name)(x, *arguments)
        if found is not None:
            return found
    return getattr(reference, name)(x, *arguments)


def _conv_gradients_of(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    mask: str,
    color_groups: int,
    gated_layout: bool,
    stride: int,
    needs_x: bool,
    needs_weight: bool,
    room: Any = None,
) -> list[Tensor]:
    arguments = grad, x, weight, mask, color_groups, gated_layout, stride, (needs_x, needs_weight)
    name = "masked_conv2d_backward"
    found = _run(name, *arguments) if room is None else getattr(room, name)(*arguments)
    return [gradient for gradient in found if gradient is not None]


def _conv_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, _, condition, mask, color_groups, stride, activation, gated_layout = saved(ctx)
    if activation != "none":
        return by_recomputation(reference.masked_conv2d)(ctx, grad)  # type: ignore[no-any-return]
    needs = ctx.needs_input_grad
    result: list[Tensor | None] = [None] * 9
    if needs[0] or needs[1]:
        found = iter(_conv_gradients(grad, x, weight, mask, color_groups, gated_layout, stride, *needs[:2]))
        result[:2] = [next(found) if needed else None for needed in needs[:2]]
    if needs[2]:
        result[2] = grad.sum((0, 2, 3))
    if needs[3]:
        result[3] = grad.sum((2, 3)) if condition.dim() == 2 else grad
    return tuple(result)


def _fake_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    condition: Tensor | None,
    mask: str,
    color_groups: int,
    stride: int,
    activation: str,
    gated_layout: bool,
) -> Tensor:
    channels = weight.shape[0] // 2 if activation == "gated" else weight.shape[0]
    return torch.empty((x.shape[0], channels, *_strided(x, stride)), dtype=x.dtype, device=x.device)


def _fake_conv_gradients(grad: Tensor, x: Tensor, weight: Tensor, *arguments: Any) -> list[Tensor]:
    return [_like(t) for t, needed in zip((x, weight), arguments[-2:], strict=True) if needed]


def _like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _channels(x: Tensor, channels: int | torch.SymInt) -> Tensor:
    return torch.empty((x.shape[0], channels, *x.shape[2:]), dtype=x.dtype, device=x.device)


_INPUTS = "Tensor x, Tensor weight"
_MASK = "str mask, SymInt color_groups"

_conv_gradients = Registered(
    "masked_conv2d_backward",
    f"(Tensor grad, {_INPUTS}, {_MASK}, bool gated_layout, SymInt stride, bool needs_x, bool needs_weight) -> Tensor[]",
    _conv_gradients_of,
    _fake_conv_gradients,
    save_all,
    by_recomputation(partial(_conv_gradients_of, room=reference)),
)
_conv = Registered(
    "masked_conv2d",
    f"({_INPUTS}, Tensor? bias, Tensor? condition, {_MASK}, SymInt stride, str activation, bool gated_layout) -> Tensor",
    partial(_run, "masked_conv2d"),
    _fake_conv,
    save_all,
    _conv_backward,
)
_gated_gradient = Registered(
    "gated_activation_backward",
    "(Tensor grad, Tensor x, str first) -> Tensor",
    partial(_run, "gated_activation_backward"),
    lambda grad, x, first: _like(x),
    save_all,
    by_recomputation(reference.gated_activation_backward),
)
_gated = Registered(
    "gated_activation",
    "(Tensor x, str first) -> Tensor",
    partial(_run, "gated_activation"),
    lambda x, first: _channels(x, x.shape[1] // 2),
    save_all,
    lambda ctx, grad: (_gated_gradient(grad, *saved(ctx)), None),
)
_elu_gradient = Registered(
    "concat_elu_backward",
    "(Tensor grad, Tensor x) -> Tensor",
    partial(_run, "concat_elu_backward"),
    lambda grad, x: _like(x),
    save_all,
    by_recomputation(reference.concat_elu_backward),
)
_elu = Registered(
    "concat_elu",
    "(Tensor x) -> Tensor",
    partial(_run, "concat_elu"),
    lambda x: _channels(x, x.shape[1] * 2),
    save_all,
    lambda ctx, grad: _elu_gradient(grad, *saved(ctx)),
)
