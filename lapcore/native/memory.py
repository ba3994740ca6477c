"""How tensors are handed to the C++ kernels, and where large results lie."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lapcore import _C

# The numbers of DType in csrc/common/view.h.
DTYPES = {
    torch.float16: 0,
    torch.bfloat16: 1,
    torch.float32: 2,
    torch.float64: 3,
    torch.uint8: 4,
    torch.int16: 5,
    torch.uint16: 6,
}

CPU = torch.device("cpu")  # torch's default device may be another

LARGE = 1 << 20
"""Bytes from which on it is worth while to keep an output's memory for the next: malloc may give it back to the system."""


def reusing(x: Tensor, shape: tuple[int, ...], count: int, dtype: torch.dtype) -> Tensor:
    """A tensor of `count` elements of this shape. A large one takes the memory of an earlier one, if there is such."""
    nbytes = count * dtype.itemsize
    if nbytes < LARGE:
        return x.new_empty(shape, dtype=dtype)
    return torch.frombuffer(_C.Block(nbytes), dtype=dtype).view(shape)


def like(x: Tensor) -> Tensor:
    """A contiguous tensor of x's shape and dtype."""
    if x.numel() < LARGE // 8:
        return torch.empty_like(x) if x.is_contiguous() else torch.empty(x.shape, dtype=x.dtype, device=CPU)
    return reusing(x, x.shape, math.prod(x.shape), x.dtype)


def row_by_row(x: Tensor) -> Tensor:
    """x, each of whose rows x[i] is contiguous; a copy where that is not so."""
    return x if x.is_contiguous() or x[0].is_contiguous() else x.contiguous()


def unit_rows(x: Tensor) -> Tensor:
    """x (N, D), whose rows are contiguous, any stride apart; a copy where that is not so."""
    return x if x.stride(1) == 1 else x.contiguous()
