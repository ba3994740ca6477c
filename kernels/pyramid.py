"""Image pyramids in Triton: every operator is a gather, so each result is deterministic and independent of the batch.

The binomial filter runs on strips that march down the rows (_strip.py): one launch for an operator, for a level of a Laplacian
pyramid, which reads its image once, or for the whole pyramid of small images. Circular borders and the filters that come as tables
of taps run output by output (_point.py).

Images are (..., H, W) of any strides and of uint8, int16, uint16 or floats. Floats are summed in float32 (float64 for float64) and
rounded once; integers are summed in int32 and rounded once, half up. Callers check the arguments.

A function on a whole pyramid takes lists of tensors, fine to coarse, and the sizes of all levels; it fills `out`, and `work` with
the images between. It returns None where it has nothing better than a composition of apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from . import _point
from ._laplacian_loss import laplacian_loss
from ._launch import empty
from ._levels import Level, Mode, Size, run_level, run_levels

__all__ = [
    "apply",
    "collapse",
    "collapse_adjoint",
    "gaussian_pyramid",
    "gaussian_pyramid_adjoint",
    "laplacian_loss",
    "laplacian_pyramid",
    "laplacian_pyramid_adjoint",
]

Tensors = list[Tensor]
Sizes = Sequence[Size]

MODES = {
    "down": Mode(reduce=True, expand=False, adjoint=False),
    "up_adjoint": Mode(reduce=True, expand=False, adjoint=True),
    "up": Mode(reduce=False, expand=True, adjoint=False),
    "down_adjoint": Mode(reduce=False, expand=True, adjoint=True),
}
LAPLACIAN = Mode(reduce=True, expand=True, adjoint=False)
LAPLACIAN_ADJOINT = Mode(reduce=True, expand=True, adjoint=True)


def size_of(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]


def fuses(filter: str, border: str) -> bool:
    """Whether the strips serve: tables and circles may reach beyond their windows."""
    return filter == "binomial" and border != "circular"


def apply(
    op: str,
    x: Tensor,
    size: Size,
    filter: str,
    border: str,
    base: Tensor | None = None,
    alpha: int = 1,
    out: Tensor | None = None,
    tables: _point.Tables | None = None,
) -> Tensor:
    """`op(x)`, or `base + alpha * op(x)` with alpha 1 or -1, in one pass; for integers the latter is int16, saturated.

    op is "down", "up", "down_adjoint" or "up_adjoint"; x (..., in_h, in_w) -> (..., *size). Filters other than "binomial" come as
    tables: the rows' index (taps, out_h) and weight, then the columns'.
    """
    if out is None:
        out = empty(x, size, x.dtype if base is None or x.is_floating_point() else torch.int16)
    if out.numel() == 0:
        return out
    if fuses(filter, border):
        mode = MODES[op]._replace(subtract=alpha < 0)
        level = Level(size_of(x), x, base, out) if mode.reduce else Level(size_of(out), base, x, None, out)
        run_level(mode, level, border)
    elif not _point.launch(op, x, base, alpha, out, tables):
        result = empty(x, size, out.dtype)
        base = None if base is None else base.contiguous()
        _point.launch(op, x.contiguous(), base, alpha, result, tables)
        out.copy_(result)
    return out


def gaussian_pyramid(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    """g_1 .. g_L: g_0 = x, g_{l+1} = down(g_l)."""
    if not fuses(filter, border):
        return None
    x = inputs[0]
    out = [empty(x, size) for size in sizes[1:]] if out is None else out
    levels = [
        Level(size, fine_in=fine, low_out=low)
        for size, (fine, low) in zip(sizes, pairwise([x, *out]), strict=False)
    ]  # fmt: skip
    run_levels(MODES["down"], levels, border, upwards=False)
    return out


def collapse_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    """d_0 = grad, d_{l+1} = up^T(d_l)."""
    if not fuses(filter, border):
        return None
    grad = inputs[0]
    grads = [grad, *(empty(grad, size) for size in sizes[1:])] if out is None else [out[0].copy_(grad), *out[1:]]
    levels = [Level(size, fine_in=fine, low_out=low) for size, (fine, low) in zip(sizes, pairwise(grads), strict=False)]
    run_levels(MODES["up_adjoint"], levels, border, upwards=False)
    return grads


def _expanded(
    op: str, inputs: Tensors, sizes: Sizes, border: str, out: Tensors | None, work: Tensors | None
) -> Tensors:
    """i_L = inputs[L], i_l = inputs[l] + op(i_{l+1}); inputs[0] may be missing, for a zero."""
    *bases, low = inputs
    result = empty(low, sizes[0]) if out is None else out[0]
    images = [result, *([empty(low, size) for size in sizes[1:-1]] if work is None else work), low]
    missing = [None] * (len(sizes) - 1 - len(bases))
    levels = [
        Level(size, base, coarse, None, image)
        for size, base, (image, coarse) in zip(sizes, [*missing, *bases], pairwise(images), strict=False)
    ]
    run_levels(MODES[op], levels, border, upwards=True)
    return [result]


def collapse(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    """c_L = g_L, c_l = h_l + up(c_{l+1})."""
    return _expanded("up", inputs, sizes, border, out, work) if fuses(filter, border) else None


def gaussian_pyramid_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    """d_L = grad_L, d_l = grad_l + down^T(d_{l+1}); d_0, the result, has no grad of its own."""
    return _expanded("down_adjoint", inputs, sizes, border, out, work) if fuses(filter, border) else None


def laplacian_pyramid(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    """h_l = g_l - up(g_{l+1}), and g_L at the end."""
    if not fuses(filter, border):
        return None
    x = inputs[0]
    bands = x.dtype if x.is_floating_point() else torch.int16
    out = [empty(x, size, bands) for size in sizes] if out is None else out
    between = [empty(x, size) for size in sizes[1:-1]] if work is None else work
    levels = [
        Level(size, fine_in=fine, low_out=low, fine_out=band)
        for size, (fine, low), band in zip(sizes, pairwise([x, *between, out[-1]]), out, strict=False)
    ]
    run_levels(LAPLACIAN, levels, border, upwards=False)
    return out


def laplacian_pyramid_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    """d_L = grad_L, d_l = grad_l + down^T(d_{l+1} - up^T(grad_l))."""
    if not fuses(filter, border):
        return None
    *grads, low = inputs
    result = empty(low, sizes[0]) if out is None else out[0]
    images = [result, *([empty(low, size) for size in sizes[1:-1]] if work is None else work), low]
    levels = [
        Level(size, grad, coarse, None, image)
        for size, grad, (image, coarse) in zip(sizes, grads, pairwise(images), strict=False)
    ]
    run_levels(LAPLACIAN_ADJOINT, levels, border, upwards=True)
    return [result]
