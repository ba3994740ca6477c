"""Noise on the CUDA kernels of csrc/cuda: one launch for a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import DTYPES
from lapcore.native.random import BITS, NORMAL, UNIFORM

Seeds = tuple[int, int, bool, int]


def bits(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device) -> Tensor:
    return _draw(BITS, shape, seeds, stream, device, torch.int32)


def uniform(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return _draw(UNIFORM, shape, seeds, stream, device, dtype)


def normal(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return _draw(NORMAL, shape, seeds, stream, device, dtype)


def describe_seeds(seeds: Tensor, stream: int) -> Seeds:
    """One seed in host memory is that of all rows; those of the rows are where the result is."""
    per_row = seeds.device.type != "cpu" or seeds.numel() != 1
    return seeds.data_ptr(), seeds.stride(0), per_row, stream


def _draw(
    distribution: int, shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    out = torch.empty(tuple(shape), dtype=dtype, device=device)
    if out.numel():
        described, rows = describe_seeds(seeds, stream), seeds.numel()
        with torch.cuda.device(device):
            _C.cuda_random_draw(
                distribution,
                DTYPES.get(dtype, 0),
                torch.cuda.current_stream().cuda_stream,
                described,
                rows,
                out.numel() // rows,
                out.data_ptr(),
            )
    return out
