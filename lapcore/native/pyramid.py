"""Pyramids on the C++ kernels of csrc/cpu/: one call for a whole pyramid, or for one operator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import DTYPES, LARGE, reusing
from lapcore.native.threads import threads
from lapcore.reference.pyramid import Sizes, Tensors, band_dtype
from lapcore.reference.taps import Size, Tables

Described = tuple[int, tuple[int, ...], tuple[int, ...]]
Taps = tuple[int, int, int]

# The numbers of Border and Op in csrc/common/.
BORDERS = {"reflect": 0, "replicate": 1, "circular": 2, "constant": 3, "symmetric": 4}
OPS = {"down": 0, "up": 1, "down_adjoint": 2, "up_adjoint": 3}


def describe(x: Tensor) -> Described:
    return x.data_ptr(), x.shape, x.stride()


def describe_all(tensors: Sequence[Tensor]) -> list[Described]:
    return [(x.data_ptr(), x.shape, x.stride()) for x in tensors]


def addresses(tensors: Tensors | None) -> list[int]:
    return [x.data_ptr() for x in tensors or ()]


def describe_tables(tables: Tables | None) -> tuple[Taps, Taps] | None:
    """Index, weight and the number of taps of each axis."""
    if tables is None:
        return None
    rows, row_weights, columns, column_weights = tables
    return (
        (rows.data_ptr(), row_weights.data_ptr(), rows.shape[0]),
        (columns.data_ptr(), column_weights.data_ptr(), columns.shape[0]),
    )


def like(x: Tensor, size: Size, dtype: torch.dtype) -> Tensor:
    """A tensor of x's leading shape. A large one on the CPU takes the memory of an earlier one, if there is such."""
    return all_like(x, (size,), dtype)[0]


def all_like(x: Tensor, sizes: Sequence[Size], dtype: torch.dtype) -> list[Tensor]:
    lead = x.shape[:-2]
    if x.numel() < LARGE // 64 or x.device.type != "cpu":
        if dtype is x.dtype:  # arguments cost: sides one by one are parsed faster than a tuple of them
            return [x.new_empty(*lead, *size) for size in sizes]
        return [x.new_empty(*lead, *size, dtype=dtype) for size in sizes]
    planes = math.prod(lead)
    return [reusing(x, (*lead, *size), planes * size[0] * size[1], dtype) for size in sizes]


def apply(
    op: str,
    x: Tensor,
    size: Size,
    filter: str,
    border: str,
    base: Tensor | None = None,
    alpha: int = 1,
    out: Tensor | None = None,
    tables: Tables | None = None,
) -> Tensor:
    """op(x) of the given size, or base + alpha * op(x); `tables` holds the taps of a filter other than binomial."""
    if out is None:
        out = like(x, size, x.dtype if base is None else band_dtype(x.dtype))
    _C.pyramid_apply(
        OPS[op],
        DTYPES[x.dtype],
        BORDERS[border],
        threads(),
        (x.data_ptr(), x.shape, x.stride()),
        (out.data_ptr(), out.shape, out.stride()),
        None if base is None else describe(base),
        alpha,
        describe_tables(tables),
    )
    return out


def pyr_down(
    inputs: Tensors,
    sizes: Sizes,
    filter: str,
    border: str,
    out: Tensors | None = None,
    work: Tensors | None = None,
) -> Tensors | None:
    if filter != "binomial":
        return None
    return [apply("down", inputs[0], sizes[1], filter, border, None, 1, out[0] if out else None)]


def pyr_up(
    inputs: Tensors,
    sizes: Sizes,
    filter: str,
    border: str,
    out: Tensors | None = None,
    work: Tensors | None = None,
) -> Tensors | None:
    if filter != "binomial":
        return None
    return [apply("up", inputs[0], sizes[0], filter, border, None, 1, out[0] if out else None)]


def gaussian_pyramid(
    inputs: Tensors,
    sizes: Sizes,
    filter: str,
    border: str,
    out: Tensors | None = None,
    work: Tensors | None = None,
) -> Tensors | None:
    if filter != "binomial":
        return None
    (x,) = inputs
    out = out or all_like(x, sizes[1:], x.dtype)
    _C.gaussian_pyramid(DTYPES[x.dtype], BORDERS[border], threads(), describe(x), describe_all(out))
    return out


def laplacian_pyramid(
    inputs: Tensors,
    sizes: Sizes,
    filter: str,
    border: str,
    out: Tensors | None = None,
    work: Tensors | None = None,
) -> Tensors | None:
    if filter != "binomial":
        return None
    (x,) = inputs
    if out is None:
        out = all_like(x, sizes, band_dtype(x.dtype))
    _C.laplacian_pyramid(DTYPES[x.dtype], BORDERS[border], threads(), describe(x), describe_all(out), addresses(work))
    return out


def collapse(
    inputs: Tensors,
    sizes: Sizes,
    filter: str,
    border: str,
    out: Tensors | None = None,
    work: Tensors | None = None,
) -> Tensors | None:
    if filter != "binomial":
        return None
    (image,) = out or [like(inputs[0], sizes[0], inputs[0].dtype)]
    _C.collapse(
        DTYPES[image.dtype],
        BORDERS[border],
        threads(),
        describe_all(inputs),
        describe(image),
        addresses(work),
    )
    return [image]


def laplacian_loss(
    input: Tensor,
    target: Tensor,
    masks: Tensors | None,
    coefficients: Tensor,
    sizes: Sizes,
    border: str,
    with_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    coefficients = coefficients.contiguous()
    loss = coefficients.new_empty(len(coefficients))
    grad = coefficients.new_empty(input.shape) if with_grad else None
    _C.laplacian_loss(
        DTYPES[input.dtype],
        BORDERS[border],
        threads(),
        describe(input),
        describe(target),
        describe_all(masks or ()),
        sizes,
        coefficients.shape[0],
        coefficients.shape[1],
        coefficients.data_ptr(),
        loss.data_ptr(),
        None if grad is None else describe(grad),
    )
    return loss, grad
