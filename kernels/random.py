"""Noise in Triton, a function of seeds and positions alone: the bits of lapcore.reference.random.

`seeds` holds one seed, on the CPU, for the whole tensor, or one for each row, on its device. Callers check the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._arithmetic import rounded
from ._launch import index_type
from ._noise import BITS, NORMAL, OPTIONS, UNIFORM, elements, noise_of, one_seed, row_keys, tile_of

__all__ = ["bits", "normal", "uniform"]


@triton.jit(do_not_specialize=["noise", "rows"])
def draw_kernel(
    out_ptr, noise, rows, length,
    LOW: tl.constexpr, HIGH: tl.constexpr,  # what uniforms are kept within, before they are rounded
    KIND: tl.constexpr, INDEX: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """A tile of noise, contiguous rows of `length`."""
    tiles = tl.cdiv(length, 4 * B)
    pid = tl.program_id(0)
    row = (pid // tiles).to(INDEX) * R + tl.arange(0, R)
    first = (pid % tiles).to(INDEX) * B
    keys = row_keys(noise, row, row < rows)
    drawn = elements(noise, keys, row, first, length, KIND, False, R, B)
    if KIND == UNIFORM:
        drawn = tl.minimum(tl.maximum(drawn, LOW), HIGH)
    column = 4 * first + tl.arange(0, 4 * B)
    at = row.to(tl.int64)[:, None] * length + column[None, :]
    inside = (row < rows)[:, None] & (column < length)[None, :]
    tl.store(out_ptr + at, rounded(drawn, out_ptr.dtype.element_ty), mask=inside)


def bits(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device) -> Tensor:
    """The words themselves, as the int32 of the same 32 bits."""
    return draw(shape, seeds, stream, device, torch.int32, BITS)


def uniform(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Uniforms in the open interval (0, 1), rounded once from float32 to `dtype` and kept inside the interval."""
    return draw(shape, seeds, stream, device, dtype, UNIFORM)


def normal(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Standard normals, rounded to float32 and then to `dtype`."""
    return draw(shape, seeds, stream, device, dtype, NORMAL)


def draw(
    shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype, kind: tl.constexpr
) -> Tensor:
    out = torch.empty(tuple(shape), dtype=dtype, device=device)
    if out.numel() == 0:
        return out
    rows = 1 if one_seed(seeds) else len(seeds)
    length = out.numel() // rows
    height, width = tile_of(length)
    grid = (triton.cdiv(rows, height) * triton.cdiv(length, 4 * width),)
    low, high = (0.0, 1.0) if kind.value != UNIFORM.value else limits(dtype)
    with torch.cuda.device_of(out):
        draw_kernel[grid](
            out, noise_of(seeds, stream), rows, length,
            LOW=low, HIGH=high, KIND=kind.value, INDEX=index_type(rows, length), R=height, B=width, **OPTIONS,
        )  # fmt: skip
    return out


def limits(dtype: torch.dtype) -> tuple[float, float]:
    """The least and the largest of a dtype's numbers inside (0, 1)."""
    info = torch.finfo(dtype)
    return info.smallest_normal * info.eps, 1 - info.eps / 2
