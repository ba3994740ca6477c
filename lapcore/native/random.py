"""Noise on the C++ kernels of csrc/cpu/."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import DTYPES, reusing
from lapcore.native.threads import threads

BITS, UNIFORM, NORMAL = range(3)  # as Distribution in csrc/cpu/random.h


def bits(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device) -> Tensor:
    return _draw(BITS, shape, seeds, stream, torch.int32)


def uniform(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return _draw(UNIFORM, shape, seeds, stream, dtype)


def normal(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return _draw(NORMAL, shape, seeds, stream, dtype)


def describe_seeds(seeds: Tensor, stream: int) -> tuple[int, int, bool, int]:
    """One seed is that of all rows."""
    return seeds.data_ptr(), seeds.stride(0), seeds.numel() != 1, stream


def _draw(distribution: int, shape: Sequence[int], seeds: Tensor, stream: int, dtype: torch.dtype) -> Tensor:
    count = math.prod(shape)
    out = reusing(seeds, tuple(shape), count, dtype)
    if count:
        rows = seeds.numel()
        described = describe_seeds(seeds, stream)
        _C.random_draw(distribution, DTYPES.get(dtype, 0), threads(), described, rows, count // rows, out.data_ptr())
    return out
