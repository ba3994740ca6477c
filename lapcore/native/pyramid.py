"""Pyramids on the C++ kernels of csrc/cpu/pyramid.cpp: one call for a whole pyramid, or for one operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import _C
from lapcore.reference.pyramid import Size, Tensors, sizes_of

Described = tuple[int, Sequence[int], Sequence[int]]

# The numbers of DType, Border and Op in csrc/common/.
DTYPES = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.float64: 3}
BORDERS = {"reflect": 0, "replicate": 1, "circular": 2, "constant": 3, "symmetric": 4}
OPS = {"down": 0, "up": 1, "down_adjoint": 2, "up_adjoint": 3}


def describe(x: Tensor) -> Described:
    return x.data_ptr(), x.shape, x.stride()


def like(x: Tensor, size: Size) -> Tensor:
    return torch.empty((*x.shape[:-2], *size), dtype=x.dtype)


def apply(op: str, x: Tensor, size: Size, border: str, base: Tensor | None = None, alpha: int = 1) -> Tensor:
    """op(x) of the given size, or base + alpha * op(x)."""
    out = like(x, size)
    _C.pyramid_apply(
        OPS[op],
        DTYPES[x.dtype],
        BORDERS[border],
        torch.get_num_threads(),
        describe(x),
        out.data_ptr(),
        *size,
        None if base is None else describe(base),
        alpha,
    )
    return out


def laplacian_pyramid(inputs: Tensors, size: Size, levels: int, border: str) -> Tensors:
    (x,) = inputs
    out = [like(x, each) for each in sizes_of(size, levels)]
    pointers = [band.data_ptr() for band in out]
    _C.laplacian_pyramid(DTYPES[x.dtype], BORDERS[border], torch.get_num_threads(), describe(x), pointers)
    return out


def collapse(inputs: Tensors, size: Size, levels: int, border: str) -> Tensors:
    out = like(inputs[0], size)
    described = [describe(x) for x in inputs]
    _C.collapse(DTYPES[out.dtype], BORDERS[border], torch.get_num_threads(), described, out.data_ptr())
    return [out]
