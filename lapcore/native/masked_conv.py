"""Masked convolutions, gates and concatenated ELUs on the C++ kernels of csrc/cpu/."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import DTYPES, like, reusing
from lapcore.native.threads import threads
from lapcore.reference.masked_conv import centre_channels, whole_taps

ACTIVATIONS = {"none": 0, "relu": 1, "gated": 2}  # Activation of csrc/common/activations.h
FIRSTS = {"tanh": 0, "identity": 1}  # First of the same

Live = tuple[int, tuple[int, ...]]


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
) -> Tensor:
    x, weight = x.contiguous(), weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    condition = None if condition is None else condition.contiguous()
    channels = weight.shape[0] // 2 if activation == "gated" else weight.shape[0]
    y = _new(x, (x.shape[0], channels, *(-(-size // stride) for size in x.shape[2:])))
    _C.masked_conv2d(
        *_call(x),
        _live(mask, weight.shape, color_groups, gated_layout),
        stride,
        _whole(x),
        _whole(weight),
        0 if bias is None else bias.data_ptr(),
        0 if condition is None else condition.data_ptr(),
        condition is not None and condition.dim() == 4,
        ACTIVATIONS[activation],
        _whole(y),
    )
    return y


def masked_conv2d_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    mask: str,
    color_groups: int,
    gated_layout: bool,
    stride: int,
    needs: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    grad, x, weight = grad.contiguous(), x.contiguous(), weight.contiguous()
    live = _live(mask, weight.shape, color_groups, gated_layout)
    dx = dw = None
    if needs[0]:
        dx = like(x)
        spread = grad if stride == 1 else _spread(grad, x, stride)
        _C.masked_conv2d_backward_input(*_call(x), live, _whole(spread), _whole(weight), _whole(dx))
    if needs[1]:
        dw = like(weight)
        _C.masked_conv2d_backward_weight(*_call(x), live, stride, _whole(grad), _whole(x), _whole(dw))
    return dx, dw


def gated_activation(x: Tensor, first: str) -> Tensor:
    x = x.contiguous()
    y = _new(x, (x.shape[0], x.shape[1] // 2, *x.shape[2:]))
    _C.gated_activation(*_call(x), FIRSTS[first], *_rows(y), x.data_ptr(), y.data_ptr())
    return y


def gated_activation_backward(grad: Tensor, x: Tensor, first: str) -> Tensor:
    grad, x = grad.contiguous(), x.contiguous()
    dx = like(x)
    _C.gated_activation_backward(*_call(x), FIRSTS[first], *_rows(grad), grad.data_ptr(), x.data_ptr(), dx.data_ptr())
    return dx


def concat_elu(x: Tensor) -> Tensor:
    x = x.contiguous()
    y = _new(x, (x.shape[0], 2 * x.shape[1], *x.shape[2:]))
    _C.concat_elu(*_call(x), *_rows(x), x.data_ptr(), y.data_ptr())
    return y


def concat_elu_backward(grad: Tensor, x: Tensor) -> Tensor:
    grad, x = grad.contiguous(), x.contiguous()
    dx = like(x)
    _C.concat_elu_backward(*_call(x), *_rows(x), grad.data_ptr(), x.data_ptr(), dx.data_ptr())
    return dx


@lru_cache(1024)
def _live(mask: str, weight: tuple[int, ...], color_groups: int, gated_layout: bool) -> Live:
    """Which weights (O, C, kh, kw) count: how many whole taps, and the channels of the next, for each output channel."""
    outputs, inputs, *kernel = weight
    centre = centre_channels(mask, inputs, outputs, color_groups, gated_layout) if mask in ("A", "B") else ()
    return whole_taps(mask, (kernel[0], kernel[1])), tuple(centre) if any(centre) else ()


def _spread(grad: Tensor, x: Tensor, stride: int) -> Tensor:
    """grad where its pixels stand in the image, zeros between them."""
    full = grad.new_zeros(x.shape[0], grad.shape[1], *x.shape[2:])
    full[:, :, ::stride, ::stride] = grad
    return full


def _call(x: Tensor) -> tuple[int, int]:
    return DTYPES[x.dtype], threads()


def _whole(x: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return x.data_ptr(), x.shape, x.stride()


def _rows(x: Tensor) -> tuple[int, int]:
    return x.shape[0], x.numel() // x.shape[0]


def _new(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return reusing(x, shape, torch.Size(shape).numel(), x.dtype)
