"""What every launcher needs to know of its tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton.language as tl
from torch import Tensor

# From here on an index no longer surely fits 32 bits.
INT32_LIMIT = 2**30

Strides = tuple[int, int, int, int]


def accumulator(x: Tensor) -> tl.dtype:
    """The type of the sums over x."""
    if not x.is_floating_point():
        return tl.int32
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def index_type(*sizes: int) -> tl.dtype:
    return tl.int32 if max(sizes) < INT32_LIMIT else tl.int64


def merged(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> list[list[int]]:
    """Leading dimensions as few [size, stride of each tensor], outermost first."""
    groups: list[list[int]] = []
    for size, *step in zip(shape, *strides, strict=True):
        if size == 1:
            continue
        if groups and all(outer == size * inner for outer, inner in zip(groups[-1][1:], step, strict=True)):
            groups[-1] = [groups[-1][0] * size, *step]
        else:
            groups.append([size, *step])
    return groups


def described(tensors: Sequence[Tensor | None]) -> tuple[int, list[Strides]] | None:
    """The planes of tensors of common leading dimensions as two of these: the size of the inner one, and of every tensor the
    strides of both, of a row and of a column. None where two do not suffice."""
    present = [x for x in tensors if x is not None]
    groups = merged(present[0].shape[:-2], [x.stride()[:-2] for x in present])
    if len(groups) > 2:
        return None
    inner, *inner_steps = groups[-1] if groups else [1] + [0] * len(present)
    outer_steps = groups[0][1:] if len(groups) == 2 else [inner * step for step in inner_steps]
    steps = iter(zip(outer_steps, inner_steps, strict=True))
    return inner, [(0, 0, 0, 0) if x is None else (*next(steps), *x.stride()[-2:]) for x in tensors]


def planes_of(x: Tensor) -> int:
    """How many images x holds."""
    return x.shape[:-2].numel()


def empty(like: Tensor, size: tuple[int, int], dtype: torch.dtype | None = None) -> Tensor:
    """Images of this size, as many as in `like`."""
    return torch.empty((*like.shape[:-2], *size), dtype=dtype or like.dtype, device=like.device)
