"""Masked convolutions, gates and concatenated ELUs on the CUDA kernels of csrc/cuda.

A convolution is two launches: its weights are packed, then multiplied with the gathered image. In float32 the sums are those of the
cpu backend to the bit. 16-bit floats go to tensor cores, with sums in float32, or, where colour groups see different depths and for
gradients at weights, are widened and take the same way.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.masked_conv import ACTIVATIONS, FIRSTS
from lapcore.native.memory import DTYPES, row_by_row
from lapcore.native.pyramid import describe
from lapcore.reference.masked_conv import whole_taps

Masked = tuple[int, int, bool, bool, int]


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
    weight = weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    added = None if condition is None else condition[(..., *[None] * (4 - condition.dim()))]
    channels = weight.shape[0] // 2 if activation == "gated" else weight.shape[0]
    sizes = [-(-size // stride) for size in x.shape[2:]]
    y = torch.empty((x.shape[0], channels, *sizes), dtype=x.dtype, device=x.device)
    masked = _masked(mask, weight, color_groups, gated_layout, stride)
    with torch.cuda.device(x.device):
        work = _room_to_pack(masked, weight)
        _C.cuda_masked_conv2d(
            *_call(x),
            masked,
            describe(x),
            describe(weight),
            0 if bias is None else bias.data_ptr(),
            None if added is None else describe(added),
            ACTIVATIONS[activation],
            describe(y),
            work.data_ptr(),
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
    weight = weight.contiguous()
    masked = _masked(mask, weight, color_groups, gated_layout, stride)
    dx = dw = None
    with torch.cuda.device(x.device):
        if needs[0]:
            dx = _like(x)
            work = _room_to_pack(masked, weight)
            _C.cuda_masked_conv2d_backward_input(
                *_call(x), masked, describe(grad), describe(weight), describe(dx), work.data_ptr()
            )
        if needs[1]:
            dw = _like(weight)
            pixels = len(grad) * grad[0, 0].numel()
            work = _bytes(x, _C.cuda_masked_conv2d_backward_weight_work(DTYPES[x.dtype], masked, describe(dw), pixels))
            _C.cuda_masked_conv2d_backward_weight(
                *_call(x), masked, describe(grad), describe(x), describe(dw), work.data_ptr()
            )
    return dx, dw


def gated_activation(x: Tensor, first: str) -> Tensor:
    y = torch.empty((x.shape[0], x.shape[1] // 2, *x.shape[2:]), dtype=x.dtype, device=x.device)
    x = row_by_row(x)
    with torch.cuda.device(x.device):
        _C.cuda_gated_activation(*_call(x), _halves(y), FIRSTS[first], _rows(x), y.data_ptr())
    return y


def gated_activation_backward(grad: Tensor, x: Tensor, first: str) -> Tensor:
    dx = _like(x)
    grad, x = row_by_row(grad), row_by_row(x)
    with torch.cuda.device(x.device):
        shape = _halves(grad)
        _C.cuda_gated_activation_backward(*_call(x), shape, FIRSTS[first], _rows(grad), _rows(x), dx.data_ptr())
    return dx


def concat_elu(x: Tensor) -> Tensor:
    y = torch.empty((x.shape[0], 2 * x.shape[1], *x.shape[2:]), dtype=x.dtype, device=x.device)
    x = row_by_row(x)
    with torch.cuda.device(x.device):
        _C.cuda_concat_elu(*_call(x), _halves(x), _rows(x), y.data_ptr())
    return y


def concat_elu_backward(grad: Tensor, x: Tensor) -> Tensor:
    dx = _like(x)
    grad, x = row_by_row(grad), row_by_row(x)
    with torch.cuda.device(x.device):
        _C.cuda_concat_elu_backward(*_call(x), _halves(x), _rows(grad), _rows(x), dx.data_ptr())
    return dx


def _masked(mask: str, weight: Tensor, color_groups: int, gated_layout: bool, stride: int) -> Masked:
    height, width = weight.shape[2:]
    groups = color_groups if mask in ("A", "B") else 0
    return whole_taps(mask, (height, width)), groups, mask == "B", gated_layout, stride


def _call(x: Tensor) -> tuple[int, int]:
    return DTYPES[x.dtype], torch.cuda.current_stream().cuda_stream


def _room_to_pack(masked: Masked, weight: Tensor) -> Tensor:
    return _bytes(weight, _C.cuda_masked_conv2d_work(DTYPES[weight.dtype], masked, describe(weight)))


def _bytes(x: Tensor, count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8, device=x.device)


def _like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _halves(half: Tensor) -> tuple[int, int]:
    """Rows, and how many values are in a half of one."""
    return half.shape[0], half[0].numel()


def _rows(x: Tensor) -> tuple[int, int]:
    return x.data_ptr(), x.stride(0)
