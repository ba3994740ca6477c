"""Image pyramids in Triton: every operator is a gather, so each result is deterministic and independent of the batch.

Along one axis an output `i` is a weighted sum of a few source samples. The forward taps are the border-extended
positions around `i`; an adjoint's taps are the forward outputs that can read `i`, each weighted by those of its own
taps that land on `i`. A tile combines row taps and column taps. A tap of weight zero is never loaded, so a NaN spreads
no further than its weight.

The launcher takes float16, bfloat16, float32 or float64 images `(..., H, W)` of any strides and returns fresh contiguous
tensors. Sums run in float32 (float64 for float64) and are rounded once. Callers check the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

# Bytes of sums per program: 4 float32 or 2 float64 a thread. At twice that, some variants spill registers.
TILE_BYTES = 2048
MAX_TILE_WIDTH = 128
NUM_WARPS = 4
# Above this many rows or columns an index no longer surely fits 32 bits.
INT32_LIMIT = 2**30


@triton.jit
def _binomial(distance):
    """[1, 4, 6, 4, 1] / 16 at a signed distance on the fine grid; 0 beyond it."""
    d = tl.abs(distance)
    return tl.where(d == 0, 0.375, tl.where(d == 1, 0.25, tl.where(d == 2, 0.0625, 0.0)))


@triton.jit
def _extend(p, n, UP: tl.constexpr, BORDER: tl.constexpr):
    """The sample in [0, n) that stands for position p in [-2, n + 1], or -1 for a zero.

    One reflection or wrap, then the clamp, equals the full modular rule on that range for every n >= 1.
    """
    q = p
    if BORDER == "reflect":
        q = tl.abs(p)
        if not UP:  # upsampling reflects the fine grid, whose last sample stands in for position n
            q = (n - 1) - tl.abs((n - 1) - q)
    elif BORDER == "symmetric":
        q = tl.where(q < 0, -1 - q, q)
        q = tl.where(q >= n, 2 * n - 1 - q, q)
    elif BORDER == "circular":
        q = tl.where(p < 0, p + n, tl.where(p >= n, p - n, p))
    q = tl.minimum(tl.maximum(q, 0), n - 1)
    if BORDER == "constant":
        q = tl.where(p == q, q, -1)
    return q


@triton.jit
def _forward_tap(i, t, n, UP: tl.constexpr, BORDER: tl.constexpr):
    """Source index and weight of tap t of output i: 5 taps down, 3 taps up, from n samples."""
    if UP:
        p = i // 2 + (t - 1)
        weight = 2.0 * _binomial(i - 2 * p)
    else:
        p = 2 * i + (t - 2)
        weight = _binomial(2 * i - p)
    index = _extend(p, n, UP, BORDER)
    return index, tl.where(index >= 0, weight, 0.0)


@triton.jit
def _adjoint_tap(i, t, n, m, UP: tl.constexpr, BORDER: tl.constexpr):
    """Index and weight of tap t of the transpose at i < n: the forward outputs, of m, near i; then the ends, which wrap."""
    NEAR: tl.constexpr = 5 if UP else 3
    FORWARD: tl.constexpr = 3 if UP else 5
    first = 2 * i - 2 if UP else i // 2 - 1
    index = tl.where(t < NEAR, first + t, tl.where(t == NEAR, 0, m + (NEAR - t)))
    usable = (index >= 0) & (index < m) & ((index < first) | (index >= first + NEAR) | (t < NEAR))
    weight = i * 0.0
    for k in tl.static_range(FORWARD):
        source, w = _forward_tap(index, k, n, UP, BORDER)
        weight += tl.where(usable & (source == i), w, 0.0)
    return index, weight


@triton.jit
def _tap(i, t, in_size, out_size, UP: tl.constexpr, ADJOINT: tl.constexpr, BORDER: tl.constexpr):
    if ADJOINT:
        index, weight = _adjoint_tap(i, t, out_size, in_size, UP, BORDER)
    else:
        index, weight = _forward_tap(i, t, in_size, UP, BORDER)
    return index, weight


@triton.jit
def _image_offset(image, size1, size2, stride0, stride1, stride2):
    inner = image % size2
    middle = (image // size2) % size1
    outer = image // size2 // size1
    return outer.to(tl.int64) * stride0 + middle.to(tl.int64) * stride1 + inner.to(tl.int64) * stride2


@triton.jit(do_not_specialize=["rows", "in_h", "in_w", "out_h"])
def pyramid_kernel(
    out_ptr,  # (rows // out_h, out_h, out_w), contiguous
    x_ptr,
    base_ptr,  # None, or an image of out's shape
    rows,
    out_h,
    out_w,
    in_h,
    in_w,
    size1,  # sizes of the two inner leading dimensions; the outer one follows from rows
    size2,
    x_stride0,
    x_stride1,
    x_stride2,
    x_stride_h,
    x_stride_w,
    base_stride0,
    base_stride1,
    base_stride2,
    base_stride_h,
    base_stride_w,
    UP: tl.constexpr,
    ADJOINT: tl.constexpr,
    BORDER: tl.constexpr,
    SUBTRACT: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """out = base +- operator(x) on a tile of BLOCK_R rows x BLOCK_W columns; rows run on from image to image."""
    NEAR: tl.constexpr = 5 if UP == ADJOINT else 3
    FAR: tl.constexpr = (3 if UP else 2) if ADJOINT and BORDER == "circular" else 0
    TAPS: tl.constexpr = NEAR + FAR

    column_tiles = tl.cdiv(out_w, BLOCK_W)
    pid = tl.program_id(0)
    r = (pid // column_tiles).to(INDEX) * BLOCK_R + tl.arange(0, BLOCK_R)
    j = (pid % column_tiles).to(INDEX) * BLOCK_W + tl.arange(0, BLOCK_W)
    inside = (r < rows)[:, None] & (j < out_w)[None, :]
    image = r // out_h
    i = r % out_h

    columns = ()
    for t in tl.static_range(TAPS):
        column, weight = _tap(j, t, in_w, out_w, UP, ADJOINT, BORDER)
        columns += ((column.to(tl.int64) * x_stride_w, weight),)

    x_image = _image_offset(image, size1, size2, x_stride0, x_stride1, x_stride2)
    total = tl.zeros((BLOCK_R, BLOCK_W), dtype=ACCUMULATE)
    for t in range(TAPS):  # a loop: all taps in flight at once would spill
        row, row_weight = _tap(i, t, in_h, out_h, UP, ADJOINT, BORDER)
        x_row = x_ptr + x_image + row.to(tl.int64) * x_stride_h
        row_used = inside & (row_weight != 0)[:, None]
        line = tl.zeros((BLOCK_R, BLOCK_W), dtype=ACCUMULATE)
        for u in tl.static_range(TAPS):
            offset, weight = columns[u]
            x = tl.load(x_row[:, None] + offset[None, :], mask=row_used & (weight != 0)[None, :], other=0.0)
            line += x.to(ACCUMULATE) * weight.to(ACCUMULATE)[None, :]
        total += line * row_weight.to(ACCUMULATE)[:, None]

    if base_ptr is not None:
        base_image = _image_offset(image, size1, size2, base_stride0, base_stride1, base_stride2)
        base_row = base_ptr + base_image + i.to(tl.int64) * base_stride_h
        base = tl.load(base_row[:, None] + (j.to(tl.int64) * base_stride_w)[None, :], mask=inside).to(ACCUMULATE)
        total = base - total if SUBTRACT else base + total
    out_offset = (r.to(tl.int64) * out_w)[:, None] + j[None, :]
    tl.store(out_ptr + out_offset, total.to(out_ptr.dtype.element_ty), mask=inside)


def _merge_leading(sizes: Sequence[int], *strides: Sequence[int]) -> list[list[int]]:
    """The leading dimensions as few [size, stride of each tensor], outermost first."""
    merged: list[list[int]] = []
    for size, *step in zip(sizes, *strides, strict=True):
        if size == 1:
            continue
        if merged and all(outer == size * inner for outer, inner in zip(merged[-1][1:], step, strict=True)):
            merged[-1] = [merged[-1][0] * size, *step]
        else:
            merged.append([size, *step])
    return merged


def apply(op: str, x: Tensor, size: Sequence[int], border: str, base: Tensor | None = None, alpha: int = 1) -> Tensor:
    """`op(x)`, or `base + alpha * op(x)` with alpha 1 or -1, in one pass.

    op is "down", "up", "down_adjoint" or "up_adjoint"; x (..., in_h, in_w) -> (..., *size).
    """
    out_h, out_w = size
    # Triton's interpreter truncates float32 to bfloat16 where a GPU rounds: there torch does the rounding.
    stored = torch.float32 if x.dtype == torch.bfloat16 and not x.is_cuda else x.dtype
    out = torch.empty((*x.shape[:-2], out_h, out_w), dtype=stored, device=x.device)
    if out.numel() == 0:
        return out.to(x.dtype)
    other = x if base is None else base
    leading = _merge_leading(x.shape[:-2], x.stride()[:-2], other.stride()[:-2])
    if len(leading) > 3:
        x, other = x.contiguous(), other.contiguous()
        leading = _merge_leading(x.shape[:-2], x.stride()[:-2], other.stride()[:-2])
    leading += [[1, 0, 0]] * (3 - len(leading))
    sizes, x_strides, other_strides = zip(*leading, strict=True)

    rows = out.numel() // out_w
    block_w = min(MAX_TILE_WIDTH, max(8, triton.next_power_of_2(out_w)))
    wide = x.dtype == torch.float64
    block_r = TILE_BYTES // (8 if wide else 4) // block_w
    grid = (triton.cdiv(rows, block_r) * triton.cdiv(out_w, block_w),)
    with torch.cuda.device_of(x):
        pyramid_kernel[grid](
            out, x, None if base is None else other,
            rows, out_h, out_w, x.shape[-2], x.shape[-1], sizes[1], sizes[2],
            *x_strides, *x.stride()[-2:], *other_strides, *other.stride()[-2:],
            UP=op.startswith("up"), ADJOINT=op.endswith("_adjoint"), BORDER=border, SUBTRACT=alpha < 0,
            ACCUMULATE=tl.float64 if wide else tl.float32,
            INDEX=tl.int32 if max(rows, out_w, *x.shape[-2:]) < INT32_LIMIT else tl.int64,
            BLOCK_R=block_r, BLOCK_W=block_w, num_warps=NUM_WARPS, num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip
    return out.to(x.dtype)
