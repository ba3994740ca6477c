"""One 2-D operator, output by output: each sums its own taps, which may lie anywhere.

The taps are those of the binomial filter under a circular border, computed here, or those of tables. A tap of weight zero is never
loaded, so a NaN spreads no further than its weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._arithmetic import added, normalised, plane_offset, rounded
from ._launch import accumulator, described, index_type, planes_of

Tables = tuple[Tensor, Tensor, Tensor, Tensor]

# Bytes of sums per program: 2 float32 or 1 float64 a thread. At twice that, some variants spill a register.
TILE_BYTES = 1024
MAX_TILE_WIDTH = 128
NUM_WARPS = 4


@triton.jit
def forward_tap(i, t, n, UP: tl.constexpr):
    """Source index and weight of tap t of output i: 5 taps down, over 16, or 3 taps up, over 8, from n samples in a circle."""
    p = i // 2 + (t - 1) if UP else 2 * i + (t - 2)
    distance = tl.abs(i - 2 * p) if UP else tl.abs(p - 2 * i)
    weight = tl.where(distance == 0, 6, tl.where(distance == 1, 4, tl.where(distance == 2, 1, 0)))
    index = tl.where(p < 0, p + n, tl.where(p >= n, p - n, p))
    return tl.minimum(tl.maximum(index, 0), n - 1), weight  # one turn is enough for two samples, the clamp for one


@triton.jit
def adjoint_tap(i, t, n, m, UP: tl.constexpr):
    """Index and weight of tap t of the transpose at i < n: the forward outputs, of m, near i; then the ends, which wrap."""
    NEAR: tl.constexpr = 5 if UP else 3
    first = 2 * i - 2 if UP else i // 2 - 1
    index = tl.where(t < NEAR, first + t, tl.where(t == NEAR, 0, m + (NEAR - t)))
    usable = (index >= 0) & (index < m) & ((index < first) | (index >= first + NEAR) | (t < NEAR))
    weight = 0 * i
    for k in tl.static_range(3 if UP else 5):
        source, count = forward_tap(index, k, n, UP)
        weight += tl.where(usable & (source == i), count, 0)
    return index, weight


@triton.jit
def circular_tap(i, t, in_size, out_size, UP: tl.constexpr, ADJOINT: tl.constexpr):
    if ADJOINT:
        index, weight = adjoint_tap(i, t, out_size, in_size, UP)
    else:
        index, weight = forward_tap(i, t, in_size, UP)
    return index, weight


@triton.jit
def weighed(weight, UP: tl.constexpr, ACCUMULATE: tl.constexpr):
    """A weight in the type of the sums: integers keep it, floats divide it by its axis's 16 or 8."""
    if tl.int32 == ACCUMULATE:
        return weight.to(tl.int32)
    else:
        return weight.to(ACCUMULATE) * (0.125 if UP else 0.0625)


@triton.jit
def table_tap(index_ptr, weight_ptr, i, t, in_size, out_size, inside):
    """As circular_tap, from a table (taps, out_size); index in_size stands for a zero."""
    at = t * out_size + i.to(tl.int64)
    index = tl.load(index_ptr + at, mask=inside, other=0)
    weight = tl.load(weight_ptr + at, mask=inside & (index < in_size), other=0)
    return index, weight


@triton.jit
def tile(rows, out_h, out_w, INDEX: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr):
    """Plane, row and column of a program's outputs; rows run on from image to image."""
    column_tiles = tl.cdiv(out_w, BLOCK_W)
    pid = tl.program_id(0)
    r = (pid // column_tiles).to(INDEX) * BLOCK_R + tl.arange(0, BLOCK_R)
    j = (pid % column_tiles).to(INDEX) * BLOCK_W + tl.arange(0, BLOCK_W)
    return r // out_h, r % out_h, j, r < rows, j < out_w


@triton.jit
def finish(
    out_ptr, base_ptr, total, plane, i, j, inside, inner,
    base_outer, base_inner, base_row, base_column, out_outer, out_inner, out_row, out_column,
    UP: tl.constexpr, SUBTRACT: tl.constexpr,
):  # fmt: skip
    """out = total, or base +- total."""
    total = normalised(total, UP)
    if base_ptr is not None:
        rows = base_ptr + plane_offset(plane, inner, base_outer, base_inner) + i.to(tl.int64) * base_row
        base = tl.load(rows[:, None] + (j.to(tl.int64) * base_column)[None, :], mask=inside, other=0)
        total = added(base.to(total.dtype), total, SUBTRACT)
    rows = out_ptr + plane_offset(plane, inner, out_outer, out_inner) + i.to(tl.int64) * out_row
    columns = (j.to(tl.int64) * out_column)[None, :]
    tl.store(rows[:, None] + columns, rounded(total, out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows", "in_h", "in_w", "out_h"])
def circular_kernel(
    out_ptr, x_ptr, base_ptr,  # base: None, or an image of out's shape
    rows, out_h, out_w, in_h, in_w, inner,
    x_outer, x_inner, x_row, x_column,
    base_outer, base_inner, base_row, base_column,
    out_outer, out_inner, out_row, out_column,
    UP: tl.constexpr, ADJOINT: tl.constexpr, SUBTRACT: tl.constexpr,
    ACCUMULATE: tl.constexpr, INDEX: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """out = base +- operator(x) on a tile of BLOCK_R rows x BLOCK_W columns."""
    NEAR: tl.constexpr = 5 if UP == ADJOINT else 3
    FAR: tl.constexpr = (3 if UP else 2) if ADJOINT else 0
    TAPS: tl.constexpr = NEAR + FAR

    plane, i, j, row_inside, column_inside = tile(rows, out_h, out_w, INDEX, BLOCK_R, BLOCK_W)
    inside = row_inside[:, None] & column_inside[None, :]
    columns = ()
    for t in tl.static_range(TAPS):
        column, count = circular_tap(j, t, in_w, out_w, UP, ADJOINT)
        columns += ((column.to(tl.int64) * x_column, weighed(count, UP, ACCUMULATE)),)

    x_plane = x_ptr + plane_offset(plane, inner, x_outer, x_inner)
    total = tl.zeros((BLOCK_R, BLOCK_W), dtype=ACCUMULATE)
    for t in range(TAPS):  # a loop: all taps in flight at once would spill
        row, row_count = circular_tap(i, t, in_h, out_h, UP, ADJOINT)
        x_line = x_plane + row.to(tl.int64) * x_row
        row_used = inside & (row_count != 0)[:, None]
        line = tl.zeros((BLOCK_R, BLOCK_W), dtype=ACCUMULATE)
        for u in tl.static_range(TAPS):
            offset, weight = columns[u]
            x = tl.load(x_line[:, None] + offset[None, :], mask=row_used & (weight != 0)[None, :], other=0)
            line += x.to(ACCUMULATE) * weight[None, :]
        total += line * weighed(row_count, UP, ACCUMULATE)[:, None]
    finish(
        out_ptr, base_ptr, total, plane, i, j, inside, inner,
        base_outer, base_inner, base_row, base_column, out_outer, out_inner, out_row, out_column, UP, SUBTRACT,
    )  # fmt: skip


@triton.jit(do_not_specialize=["rows", "in_h", "in_w", "out_h", "row_taps", "column_taps"])
def table_kernel(
    out_ptr, x_ptr, base_ptr, row_index, row_weight, column_index, column_weight,
    rows, out_h, out_w, in_h, in_w, row_taps, column_taps, inner,
    x_outer, x_inner, x_row, x_column,
    base_outer, base_inner, base_row, base_column,
    out_outer, out_inner, out_row, out_column,
    SUBTRACT: tl.constexpr, ACCUMULATE: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """As circular_kernel, for the taps of tables."""
    plane, i, j, row_inside, column_inside = tile(rows, out_h, out_w, INDEX, BLOCK_R, BLOCK_W)
    inside = row_inside[:, None] & column_inside[None, :]
    x_plane = x_ptr + plane_offset(plane, inner, x_outer, x_inner)
    total = tl.zeros((BLOCK_R, BLOCK_W), dtype=ACCUMULATE)
    for t in range(row_taps):
        row, weight = table_tap(row_index, row_weight, i, t, in_h, out_h, row_inside)
        x_line = x_plane + row * x_row
        row_used = inside & (weight != 0)[:, None]
        line = tl.zeros((BLOCK_R, BLOCK_W), dtype=ACCUMULATE)
        for u in range(column_taps):
            column, factor = table_tap(column_index, column_weight, j, u, in_w, out_w, column_inside)
            used = row_used & (factor != 0)[None, :]
            x = tl.load(x_line[:, None] + (column * x_column)[None, :], mask=used, other=0)
            line += x.to(ACCUMULATE) * factor[None, :]
        total += line * weight[:, None]
    finish(
        out_ptr, base_ptr, total, plane, i, j, inside, inner,
        base_outer, base_inner, base_row, base_column, out_outer, out_inner, out_row, out_column, False, SUBTRACT,
    )  # fmt: skip


def launch(op: str, x: Tensor, base: Tensor | None, alpha: int, out: Tensor, tables: Tables | None) -> bool:
    """out = op(x), or base + alpha * op(x); False where the strides are beyond two leading dimensions."""
    found = described((x, base, out))
    if found is None:
        return False
    inner, (x_strides, base_strides, out_strides) = found
    (in_h, in_w), (out_h, out_w) = x.shape[-2:], out.shape[-2:]
    rows = planes_of(x) * out_h
    block_w = min(MAX_TILE_WIDTH, max(8, triton.next_power_of_2(out_w)))
    block_r = TILE_BYTES // (8 if x.dtype == torch.float64 else 4) // block_w
    grid = (triton.cdiv(rows, block_r) * triton.cdiv(out_w, block_w),)
    shape: Sequence[int] = (rows, out_h, out_w, in_h, in_w)
    strides = (*x_strides, *base_strides, *out_strides)
    options = dict(
        SUBTRACT=alpha < 0, ACCUMULATE=accumulator(x), INDEX=index_type(rows, *shape), BLOCK_R=block_r, BLOCK_W=block_w,
        num_warps=NUM_WARPS, num_stages=1, enable_fp_fusion=True,
    )  # fmt: skip
    if tables is None:
        circular_kernel[grid](
            out, x, base, *shape, inner, *strides,
            UP=op.startswith("up"), ADJOINT=op.endswith("_adjoint"), **options,
        )  # fmt: skip
    else:
        row_index, _, column_index, _ = tables
        table_kernel[grid](
            out, x, base, *tables, *shape, len(row_index), len(column_index), inner, *strides, **options
        )  # fmt: skip
    return True
