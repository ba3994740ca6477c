"""Distances of rows to columns, tile by tile: ||x - y||^2 / 2 = |x|^2 / 2 + |y|^2 / 2 - x . y. Sums are float32."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._arithmetic import INTERPRETED

BLOCK_ROWS, BLOCK_COLUMNS = 64, 64
# A float32 product holds this many columns of both tiles in registers; one on tensor cores does not.
BLOCK_D, BLOCK_D_HALF = 16, 32
NORM_ROWS, NORM_D = 16, 64
LARGEST = tl.constexpr(torch.finfo(torch.float32).max)


@triton.jit
def product(
    x, x_row, x_column, rows, used_rows, y, y_row, y_column, columns, used_columns, centre, size,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """(x - centre) . (y - centre) of each row with each column, 0 where one is not used; centre may be None."""
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    for start in range(0, size, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        inside = d < size
        a = tl.load(
            x + rows[:, None] * x_row + d[None, :] * x_column, mask=used_rows[:, None] & inside[None, :], other=0
        )
        b = tl.load(
            y + d[:, None] * y_column + columns[None, :] * y_row, mask=inside[:, None] & used_columns[None, :], other=0
        )
        if centre is not None:
            c = tl.load(centre + d, mask=inside, other=0)
            a = tl.where(used_rows[:, None], a.to(tl.float32) - c[None, :], 0)
            b = tl.where(used_columns[None, :], b.to(tl.float32) - c[:, None], 0)
        if INTERPRETED:  # which multiplies the bits of bfloat16
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision="ieee")
    return total


@triton.jit(do_not_specialize=["count"])
def half_norms_kernel(x, out, centre, count, size, x_row, x_column, BLOCK_ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """|x - centre|^2 / 2 of each row."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    used = row < count
    total = tl.zeros((BLOCK_ROWS, BLOCK_D), dtype=tl.float32)
    for start in range(0, size, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        inside = used[:, None] & (d < size)[None, :]
        value = tl.load(x + row[:, None] * x_row + d[None, :] * x_column, mask=inside, other=0).to(tl.float32)
        if centre is not None:
            value -= tl.load(centre + d, mask=d < size, other=0)[None, :]
        total += tl.where(inside, value * value, 0)
    tl.store(out + row, tl.sum(total, axis=1) * 0.5, mask=used)


def half_norms(x: Tensor, centre: Tensor | None) -> Tensor:
    """(N,), float32, of x (N, D)."""
    count, size = x.shape
    norms = torch.empty(count, dtype=torch.float32, device=x.device)
    half_norms_kernel[(triton.cdiv(count, NORM_ROWS),)](
        x,
        norms,
        centre,
        count,
        size,
        *x.stride(),
        BLOCK_ROWS=NORM_ROWS,
        BLOCK_D=NORM_D,
        num_warps=4,
        enable_fp_fusion=True,
    )
    return norms
