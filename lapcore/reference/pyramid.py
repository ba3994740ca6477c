"""Pyramids in plain PyTorch.

A 2-D operator applies a table of taps (lapcore.reference.taps) along the columns and one along the rows; the transposes, from
which gradients come, are such tables too.

The operations on whole pyramids below are written over one function, apply; a backend that brings its own apply, and fuses no
more than that, runs them as they stand. `sizes` are those of every level, fine to coarse; inputs and outputs are lists in that
order. `out`, where given, holds the tensors to fill, and `work` those for the images between: g_1 .. g_{L-1} of a Laplacian
pyramid, c_1 .. c_{L-1} of a collapse.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lapcore.reference.taps import Size, tap_table

Tensors = list[Tensor]
Sizes = Sequence[Size]
Apply = Any
"""apply(op, x, size, filter, border, base=None, alpha=1, out=None): what a backend brings, one 2-D operator with the addition
that follows it."""

INTEGERS = {torch.uint8: torch.int32, torch.int16: torch.int32, torch.uint16: torch.int64}
"""Integer dtypes with the type their sums are taken in."""
SCALE = {"down": 16, "up": 8}
"""What makes the weights of the binomial filter integers, per axis."""


def size_of(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]


def apply_axis(x: Tensor, dim: int, index: Tensor, weight: Tensor) -> Tensor:
    """A 1-D operator along `dim` (-2 or -1)."""
    beyond = x.new_zeros(()).expand(x.narrow(dim, 0, 1).shape)
    line = torch.cat((x, beyond), dim)
    column = (-1, 1) if dim == -2 else (-1,)
    index, weight = index.to(x.device), weight.to(x.device, x.dtype)
    out = line.index_select(dim, index[0]) * weight[0].reshape(column)
    for k in range(1, len(index)):
        out = out + line.index_select(dim, index[k]) * weight[k].reshape(column)
    return out


def weighted(op: str, x: Tensor, size: Size, filter: str, border: str, scale: int = 1) -> Tensor:
    """op(x) times scale^2, in x's dtype."""
    for dim in (-2, -1):
        index, weight = tap_table(op, x.shape[dim], size[dim], filter, border)
        x = apply_axis(x, dim, index, weight * scale)
    return x


def saturated(x: Tensor, dtype: torch.dtype) -> Tensor:
    limits = torch.iinfo(dtype)
    return x.clamp(limits.min, limits.max).to(dtype)


def rounded(op: str, x: Tensor, size: Size, border: str) -> Tensor:
    """op of an integer image, rounded once, half up, as OpenCV does; in the type of the sums."""
    scale = SCALE[op]
    total = weighted(op, x.to(INTEGERS[x.dtype]), size, "binomial", border, scale)
    return torch.div(total + scale * scale // 2, scale * scale, rounding_mode="floor")


def apply(
    op: str,
    x: Tensor,
    size: Size,
    filter: str,
    border: str,
    base: Tensor | None = None,
    alpha: int = 1,
    out: Tensor | None = None,
) -> Tensor:
    """op(x) of the given size, or base + alpha * op(x), which for integers is int16, saturated.

    16-bit floats are computed in float32 and rounded once.
    """
    if x.dtype in INTEGERS:
        total = rounded(op, x, size, border)
        result = saturated(total, x.dtype) if base is None else saturated(base + alpha * total, torch.int16)
    else:
        compute = torch.promote_types(x.dtype, torch.float32)
        total = weighted(op, x.to(compute), size, filter, border)
        result = (total if base is None else base.to(compute) + alpha * total).to(x.dtype)
    return result if out is None else out.copy_(result)


def band_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the levels of a Laplacian pyramid: int16 for integer images."""
    return torch.int16 if dtype in INTEGERS else dtype


def at(tensors: Tensors | None, index: int) -> Tensor | None:
    return None if tensors is None else tensors[index]


Out = Tensors | None


def pyr_down(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    return [apply("down", inputs[0], sizes[1], filter, border, out=at(out, 0))]


def pyr_down_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    return [apply("down_adjoint", inputs[0], sizes[0], filter, border, out=at(out, 0))]


def pyr_up(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    return [apply("up", inputs[0], sizes[0], filter, border, out=at(out, 0))]


def pyr_up_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    return [apply("up_adjoint", inputs[0], sizes[1], filter, border, out=at(out, 0))]


def gaussian_pyramid(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    """g_1 .. g_L: g_0 = x, g_{l+1} = down(g_l)."""
    pyramid = inputs
    for level, low in enumerate(sizes[1:]):
        pyramid = [*pyramid, apply("down", pyramid[-1], low, filter, border, out=at(out, level))]
    return pyramid[1:]


def gaussian_pyramid_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    """d_L = grad_L, d_l = grad_l + down^T(d_{l+1}); d_0, the result, has no grad of its own."""
    *grads, total = inputs
    for grad in reversed(grads):
        total = apply("down_adjoint", total, size_of(grad), filter, border, grad)
    return [apply("down_adjoint", total, sizes[0], filter, border)]


def laplacian_pyramid(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    """h_l = g_l - up(g_{l+1}), and g_L at the end; of integers, all of them int16."""
    (x,) = inputs
    last = len(sizes) - 1
    integer = x.dtype in INTEGERS
    gaussian = [x]
    for level, low in enumerate(sizes[1:], 1):
        target = at(work, level - 1) if level < last else None if integer else at(out, last)
        gaussian.append(apply("down", gaussian[-1], low, filter, border, out=target))
    bands = [
        apply("up", low, size_of(fine), filter, border, fine, -1, out=at(out, level))
        for level, (fine, low) in enumerate(pairwise(gaussian))
    ]
    if not integer:
        return [*bands, gaussian[-1]]
    return [*bands, gaussian[-1].to(torch.int16) if out is None else out[last].copy_(gaussian[-1])]


def laplacian_pyramid_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    """d_L = grad_L, d_l = grad_l + down^T(d_{l+1} - up^T(grad_l))."""
    *grads, total = inputs
    for grad in reversed(grads):
        low = apply("up_adjoint", grad, size_of(total), filter, border, total, -1)
        total = apply("down_adjoint", low, size_of(grad), filter, border, grad)
    return [total]


def collapse(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    """c_L = g_L, c_l = h_l + up(c_{l+1})."""
    *bands, image = inputs
    for level in reversed(range(len(bands))):
        target = at(work, level - 1) if level else at(out, 0)
        image = apply("up", image, sizes[level], filter, border, bands[level], out=target)
    return [image]


def collapse_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, apply: Apply = apply, out: Out = None, work: Out = None
) -> Tensors:
    """d_0 = grad, d_{l+1} = up^T(d_l)."""
    grads = inputs
    for low in sizes[1:]:
        grads = [*grads, apply("up_adjoint", grads[-1], low, filter, border)]
    return grads
