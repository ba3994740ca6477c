"""The layout matrix: the same numbers behind every kind of stride.

A layout takes a contiguous tensor of two or more dimensions and returns one of the same shape. All but the `expanded` ones hold the
same values; memory around them is NaN or the largest integer, so that a kernel which reads past its rows shows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor
Layout = Callable[[Tensor], Tensor]


def _around(shape: tuple[int, ...], like: Tensor) -> Tensor:
    filler = float("nan") if like.is_floating_point() else torch.iinfo(like.dtype).max
    return torch.full(shape, filler, dtype=like.dtype, device=like.device)


def contiguous(x: Tensor) -> Tensor:
    return x.contiguous()


def channels_last(x: Tensor) -> Tensor:
    """The third dimension from the end moved innermost; for 4-D tensors this is torch.channels_last."""
    if x.dim() < 3:
        return x.contiguous()
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)


def interleaved_window(x: Tensor) -> Tensor:
    """A window of a larger channels-last image, as OpenCV cuts one out."""
    if x.dim() < 3:
        return sliced(x)
    *lead, c, h, w = x.shape
    window = _around((*lead, h + 1, w + 3, c), x)[..., :h, 2 : 2 + w, :].movedim(-1, -3)
    return window.copy_(x)


def frames_last(x: Tensor) -> Tensor:
    """Of a video (..., C, T, H, W): the channels innermost, as torch.channels_last_3d has them."""
    if x.dim() < 5:
        return x.contiguous()
    return x.movedim(-4, -1).contiguous().movedim(-1, -4)


def sliced(x: Tensor) -> Tensor:
    """A window of a larger tensor, with other pixels on every side."""
    *lead, h, w = x.shape
    window = _around((*lead, h + 3, w + 5), x)[..., 1 : 1 + h, 2 : 2 + w]
    return window.copy_(x)


def strided(x: Tensor) -> Tensor:
    """Every second row and every third column of a larger tensor."""
    *lead, h, w = x.shape
    window = _around((*lead, 2 * h + 1, 3 * w + 2), x)[..., 1 : 1 + 2 * h : 2, 2 : 2 + 3 * w : 3]
    return window.copy_(x)


def transposed(x: Tensor) -> Tensor:
    """Columns outermost."""
    return x.mT.contiguous().mT


def reversed_dims(x: Tensor) -> Tensor:
    """Fortran order."""
    order = tuple(reversed(range(x.dim())))
    return x.permute(order).contiguous().permute(order)


def storage_offset(x: Tensor) -> Tensor:
    """Contiguous, but not aligned to more than one element."""
    flat = _around((x.numel() + 4,), x)[3 : 3 + x.numel()]
    return flat.view(x.shape).copy_(x)


def odd_unit_strides(x: Tensor) -> Tensor:
    """Dimensions of size 1 with strides that mean nothing and must not be used."""
    x = x.contiguous()
    strides = [7919 if size == 1 else stride for size, stride in zip(x.shape, x.stride(), strict=True)]
    return x.as_strided(x.shape, strides)


def expanded_batch(x: Tensor) -> Tensor:
    """Stride 0 in the first dimension."""
    return x[:1].expand(x.shape) if x.shape[0] else x


def expanded_rows(x: Tensor) -> Tensor:
    return x[..., :1, :].expand(x.shape)


def expanded_columns(x: Tensor) -> Tensor:
    return x[..., :1].expand(x.shape)


def expanded_all(x: Tensor) -> Tensor:
    """One number, as the gradient of a sum is."""
    return x[(slice(0, 1),) * x.dim()].expand(x.shape) if x.numel() else x


LAYOUTS: dict[str, Layout] = {
    layout.__name__: layout
    for layout in (
        contiguous,
        channels_last,
        interleaved_window,
        frames_last,
        sliced,
        strided,
        transposed,
        reversed_dims,
        storage_offset,
        odd_unit_strides,
        expanded_batch,
        expanded_rows,
        expanded_columns,
        expanded_all,
    )
}

SHAPES: tuple[tuple[int, ...], ...] = (
    (2, 3, 6, 7),
    (5, 4),
    (1, 1),
    (1, 3, 1, 5),
    (2, 1, 4, 1),
    (0, 3, 4, 5),
    (2, 0, 4, 5),
    (2, 1, 2, 3, 5),
)
"""Ordinary, bare, size-1, empty and five-dimensional images."""
