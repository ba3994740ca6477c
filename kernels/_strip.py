"""One level of a pyramid in one pass: strips of columns that march down the rows.

A level lies between a fine image and one of half its size. It can reduce (pyr_down, or the transpose of pyr_up), expand (pyr_up,
or the transpose of pyr_down), or do both at once, which is a level of a Laplacian pyramid or of its transpose:

    forward:    low = down(fine),              result = fine - up(low)
    transpose:  low = low_base - up^T(fine),   result = fine + down^T(low)

A strip is one warp wide, four fine samples to a thread. A row of the fine image is read once; the vertical sums use the rows kept
in registers, the horizontal ones the lanes of the warp beside. Borders are folded into the weights of the outermost samples
(_edges.py). Narrow images lie side by side in a strip, PACK of them; wide ones are cut into strips that overlap by a margin. A
result depends on its own sample's surroundings alone, never on how images were cut.

Tensors come as (pointer, outer stride, inner stride, row stride, column stride), their leading dimensions being two; or None.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._arithmetic import INTERPRETED, added, normalised, plane_offset, rounded
from ._edges import EXPANDING, REDUCING, window, window_at

LANES = 128  # fine samples of a strip
HALO = 4  # on either side of a wide image's strip

# What the fine samples stand for.
IMAGE = tl.constexpr(0)
LOSS = tl.constexpr(
    1
)  # the result is |.| summed, its signs are written; with a target, the input is its difference from it
SIGNS = tl.constexpr(2)  # signs that LOSS wrote, to be multiplied by coefficient and mask
NAN_SIGN = tl.constexpr(2)


@triton.jit
def between(row, first, end, lanes):
    """lanes where first <= row < end, else none."""
    rows = row + tl.zeros(lanes.shape, row.dtype)
    return lanes & (rows >= first) & (rows < end)


@triton.jit
def row_at(tensor, plane, row, column, inner):
    """Pointers into a row, one a lane."""
    at = plane_offset(plane, inner, tensor[1], tensor[2]) + column.to(tl.int64) * tensor[4]
    return tensor[0] + row.to(tl.int64) * tensor[3] + at


@triton.jit
def load_row(pointers, row, end, lanes):
    """Zeros beyond the image."""
    rows = row + tl.zeros(lanes.shape, row.dtype)
    return tl.load(pointers, mask=lanes & (rows >= 0) & (rows < end), other=0)


@triton.jit
def store_row(pointers, row, first, end, x, lanes):
    rows = row + tl.zeros(lanes.shape, row.dtype)
    if INTERPRETED:
        x = rounded(x, pointers.dtype.element_ty)
    tl.store(pointers, x.to(pointers.dtype.element_ty), mask=lanes & (rows >= first) & (rows < end))


@triton.jit
def beside(x, lanes, weight, PACKED: tl.constexpr):
    """x of other lanes; among packed images zero where it has no weight, for what lies there may be another image."""
    other = tl.gather(x, lanes, 0)
    return tl.where(weight != 0, other, 0) if PACKED else other


@triton.jit
def fine_value(x, second, factor, USE: tl.constexpr, TWO: tl.constexpr, ACCUMULATE: tl.constexpr):
    value = x.to(ACCUMULATE)
    if USE == LOSS and TWO:
        value = value - second.to(ACCUMULATE)
    elif USE == SIGNS:
        value = tl.where(x == NAN_SIGN, float("nan"), value) * factor
        value = value * second.to(ACCUMULATE) if TWO else value
    return value


@triton.jit
def signs_of(x):
    return tl.where(x == x, (x > 0).to(tl.int32) - (x < 0).to(tl.int32), NAN_SIGN)


@triton.jit
def march(
    fine_in, target, mask, low_in, low_out, fine_out, factor,
    plane, column, low_plane, low_column,  # of every lane: fine samples, and low ones
    known, low_known, owned, low_owned,  # which lanes are samples of an image, and which of them this strip writes
    first, last,  # the low rows of this strip
    height, width, low_height, low_width, codes, inner,
    REDUCE: tl.constexpr, EXPAND: tl.constexpr, ADJOINT: tl.constexpr, SUBTRACT: tl.constexpr, USE: tl.constexpr,
    ACCUMULATE: tl.constexpr, FINE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """Returns the sums that USE == LOSS asks for, lane by lane."""
    LOW: tl.constexpr = FINE // 2
    LEVEL: tl.constexpr = REDUCE and EXPAND
    UNROLL: tl.constexpr = 2 if USE == IMAGE and tl.float64 != ACCUMULATE else 1  # more would spill
    lane = tl.arange(0, LOW)
    left = tl.maximum(lane - 1, 0)
    right = tl.minimum(lane + 1, LOW - 1)
    start = first - 1 if EXPAND else first
    stop = last + 1 if EXPAND else last
    fine_end = tl.minimum(height, 2 * stop + 1)  # rows from here on are of no use to this strip
    low_end = tl.minimum(low_height, stop)

    second = mask if USE == SIGNS else target
    TWO: tl.constexpr = second is not None
    if fine_in is not None:
        fine_in_at = row_at(fine_in, plane, 2 * start - 2, column, inner)
    if TWO:
        second_at = row_at(second, plane, 2 * start - 2, column, inner)
    if mask is not None and USE == LOSS:
        mask_at = row_at(mask, plane, 2 * start - 2, column, inner)
    if low_in is not None:
        low_in_at = row_at(low_in, low_plane, start, low_column, inner)
        low_ahead = load_row(low_in_at, start, low_end, low_known)
    if low_out is not None:
        low_out_at = row_at(low_out, low_plane, start, low_column, inner)
    if fine_out is not None:
        fine_out_at = row_at(fine_out, plane, 2 * start - 2, column, inner)
    if REDUCE:
        r0, r1, r2, r3, r4 = window(low_column, low_width, codes[1], REDUCING, ADJOINT, ACCUMULATE)
        x0 = load_row(fine_in_at, 2 * start - 2, fine_end, known)
        x1 = load_row(fine_in_at + fine_in[3], 2 * start - 1, fine_end, known)
        x2 = load_row(fine_in_at + 2 * fine_in[3], 2 * start, fine_end, known)
        y0 = x0
        y1 = x1
        y2 = x2
        if TWO:
            y0 = load_row(second_at, 2 * start - 2, fine_end, known)
            y1 = load_row(second_at + second[3], 2 * start - 1, fine_end, known)
            y2 = load_row(second_at + 2 * second[3], 2 * start, fine_end, known)
        above2 = fine_value(x0, y0, factor, USE, TWO, ACCUMULATE)
        above1 = fine_value(x1, y1, factor, USE, TWO, ACCUMULATE)
        here = fine_value(x2, y2, factor, USE, TWO, ACCUMULATE)
        x1 = load_row(fine_in_at + 3 * fine_in[3], 2 * start + 1, fine_end, known)
        x2 = load_row(fine_in_at + 4 * fine_in[3], 2 * start + 2, fine_end, known)
        fine_in_at += 5 * fine_in[3]
        y1 = x1
        y2 = x2
        if TWO:
            y1 = load_row(second_at + 3 * second[3], 2 * start + 1, fine_end, known)
            y2 = load_row(second_at + 4 * second[3], 2 * start + 2, fine_end, known)
            second_at += 5 * second[3]
    if EXPAND:
        e0, e1, e2, o1, o2 = window(low_column, low_width, codes[3], EXPANDING, not ADJOINT, ACCUMULATE)
        even0 = tl.zeros((LOW,), dtype=ACCUMULATE)
        even1 = tl.zeros((LOW,), dtype=ACCUMULATE)
        odd0 = tl.zeros((LOW,), dtype=ACCUMULATE)
        odd1 = tl.zeros((LOW,), dtype=ACCUMULATE)
    sums = tl.zeros((FINE,), dtype=ACCUMULATE)

    r = start
    for _ in tl.range(start, stop, loop_unroll_factor=UNROLL):
        if low_in is not None:
            low = low_ahead.to(ACCUMULATE)
            low_in_at += low_in[3]
            low_ahead = load_row(low_in_at, r + 1, low_end, low_known)
        if REDUCE:
            below1 = fine_value(x1, y1, factor, USE, TWO, ACCUMULATE)
            below2 = fine_value(x2, y2, factor, USE, TWO, ACCUMULATE)
            x1 = load_row(fine_in_at, 2 * r + 3, fine_end, known)  # ahead of their use
            x2 = load_row(fine_in_at + fine_in[3], 2 * r + 4, fine_end, known)
            fine_in_at += 2 * fine_in[3]
            y1 = x1
            y2 = x2
            if TWO:
                y1 = load_row(second_at, 2 * r + 3, fine_end, known)
                y2 = load_row(second_at + second[3], 2 * r + 4, fine_end, known)
                second_at += 2 * second[3]
            w0, w1, w2, w3, w4 = window_at(r, low_height, codes[0], REDUCING, ADJOINT, ACCUMULATE)
            line = w0 * above2 + w1 * above1 + w2 * here + w3 * below1 + w4 * below2
            even, odd = tl.split(tl.reshape(line, (LOW, 2)))
            total = r2 * even + r3 * odd + r1 * beside(odd, left, r1, PACKED)
            total = total + r0 * beside(even, left, r0, PACKED) + r4 * beside(even, right, r4, PACKED)
            total = normalised(total, ADJOINT)
            if low_in is not None:
                low = added(low, total, ADJOINT if LEVEL else SUBTRACT)
            elif LEVEL and USE == IMAGE:  # what the next level will read
                low = rounded(total, fine_in[0].dtype.element_ty).to(ACCUMULATE)
            else:
                low = total
            if low_out is not None:
                store_row(low_out_at, r, first, last, low, low_owned)
                low_out_at += low_out[3]

        if EXPAND:
            if REDUCE:
                low = tl.where(between(r, 0, low_height, low_known), low, 0)
            before = beside(low, left, e0, PACKED)
            after = beside(low, right, o2, PACKED)
            even = e0 * before + e1 * low + e2 * after
            odd = o1 * low + o2 * after
            a0, a1, a2, b1, b2 = window_at(r - 1, low_height, codes[2], EXPANDING, not ADJOINT, ACCUMULATE)
            upper = tl.reshape(tl.join(a0 * even0 + a1 * even1 + a2 * even, a0 * odd0 + a1 * odd1 + a2 * odd), (FINE,))
            lower = tl.reshape(tl.join(b1 * even1 + b2 * even, b1 * odd1 + b2 * odd), (FINE,))
            upper = normalised(upper, not ADJOINT)
            lower = normalised(lower, not ADJOINT)
            if LEVEL:
                upper = added(above2, upper, not ADJOINT)
                lower = added(above1, lower, not ADJOINT)
            elif fine_in is not None:
                base0 = load_row(fine_in_at, 2 * r - 2, height, known).to(ACCUMULATE)
                base1 = load_row(fine_in_at + fine_in[3], 2 * r - 1, height, known).to(ACCUMULATE)
                fine_in_at += 2 * fine_in[3]
                upper = added(base0, upper, SUBTRACT)
                lower = added(base1, lower, SUBTRACT)
            if USE == LOSS:
                size0 = tl.abs(upper)
                size1 = tl.abs(lower)
                if mask is not None:
                    size0 *= load_row(mask_at, 2 * r - 2, height, known).to(ACCUMULATE)
                    size1 *= load_row(mask_at + mask[3], 2 * r - 1, height, known).to(ACCUMULATE)
                    mask_at += 2 * mask[3]
                sums += tl.where(between(2 * r - 2, 2 * first, height, owned), size0, 0)
                sums += tl.where(between(2 * r - 1, 2 * first, height, owned), size1, 0)
            if fine_out is not None:
                if USE == LOSS:
                    upper = signs_of(upper).to(ACCUMULATE)
                    lower = signs_of(lower).to(ACCUMULATE)
                store_row(fine_out_at, 2 * r - 2, 2 * first, height, upper, owned)
                store_row(fine_out_at + fine_out[3], 2 * r - 1, 2 * first, height, lower, owned)
                fine_out_at += 2 * fine_out[3]
            even0 = even1
            even1 = even
            odd0 = odd1
            odd1 = odd
        if REDUCE:
            above2 = here
            above1 = below1
            here = below2
        r += 1
    return sums


@triton.jit
def strip(
    fine_in, target, mask, low_in, low_out, fine_out, coefficients, partials,
    planes, first_plane, first_column, first, last, height, width, low_height, low_width, codes, inner,
    REDUCE: tl.constexpr, EXPAND: tl.constexpr, ADJOINT: tl.constexpr, SUBTRACT: tl.constexpr, USE: tl.constexpr,
    ACCUMULATE: tl.constexpr, FINE: tl.constexpr, PACK: tl.constexpr, MARGIN: tl.constexpr,
):  # fmt: skip
    """Marches FINE lanes: PACK images from first_plane on, or, with a margin, a cut through one of them."""
    SPAN: tl.constexpr = FINE // PACK  # lanes of an image
    lane = tl.arange(0, FINE)
    low_lane = tl.arange(0, FINE // 2)
    plane = first_plane + lane // SPAN
    low_plane = first_plane + low_lane // (SPAN // 2)
    column = first_column - MARGIN + lane % SPAN
    low_column = first_column // 2 - MARGIN // 2 + low_lane % (SPAN // 2)
    known = (plane < planes) & (column >= 0) & (column < width)
    low_known = (low_plane < planes) & (low_column >= 0) & (low_column < low_width)
    owned = known
    low_owned = low_known
    if MARGIN > 0:
        owned &= (lane >= MARGIN) & (lane < FINE - MARGIN)
        low_owned &= (low_lane >= MARGIN // 2) & (low_lane < (FINE - MARGIN) // 2)
    factor = None
    if USE == SIGNS:
        at = plane // coefficients[2] * coefficients[1] + coefficients[3]
        factor = tl.load(coefficients[0] + at, mask=known, other=0)
    sums = march(
        fine_in, target, mask, low_in, low_out, fine_out, factor,
        plane, column, low_plane, low_column, known, low_known, owned, low_owned,
        first, last, height, width, low_height, low_width, codes, inner,
        REDUCE, EXPAND, ADJOINT, SUBTRACT, USE, ACCUMULATE, FINE, MARGIN == 0,
    )  # fmt: skip
    if USE == LOSS:
        each = first_plane + tl.arange(0, PACK)
        at = each // coefficients[2] * coefficients[1] + coefficients[3]
        factor = tl.load(coefficients[0] + at, mask=each < planes, other=0)
        total = tl.sum(tl.reshape(sums, (PACK, SPAN)), axis=1) * factor
        tl.store(partials[0] + each.to(tl.int64) * partials[1] + partials[2], total, mask=each < planes)


@triton.jit(
    do_not_specialize=[
        "planes",
        "rows",
        "strips",
        "segments",
        "height",
        "low_height",
        "codes",
        "coefficients",
        "partials",
    ]
)
def level_kernel(
    fine_in, target, mask, low_in, low_out, fine_out,
    coefficients,  # of every sample: (pointer, stride, planes of a sample, where this level's begin)
    partials,  # of every plane: (pointer, stride, where this level's begin)
    planes, rows, strips, segments, height, width, low_height, low_width,
    codes,  # of _edges: reducing rows and columns, expanding rows and columns
    inner,
    REDUCE: tl.constexpr, EXPAND: tl.constexpr, ADJOINT: tl.constexpr, SUBTRACT: tl.constexpr, USE: tl.constexpr,
    ACCUMULATE: tl.constexpr, INDEX: tl.constexpr, FINE: tl.constexpr, PACK: tl.constexpr, MARGIN: tl.constexpr,
):  # fmt: skip
    """A level of many images: a program is one strip of `rows` low rows."""
    pid = tl.program_id(0)
    cut = pid % (strips * segments)
    first = (cut // strips).to(INDEX) * rows
    if USE == LOSS:
        partials = (partials[0], partials[1], partials[2] + cut)
    strip(
        fine_in, target, mask, low_in, low_out, fine_out, coefficients, partials,
        planes, pid // (strips * segments) * PACK, (cut % strips).to(INDEX) * (FINE - 2 * MARGIN),
        first, tl.minimum(first + rows, low_height), height, width, low_height, low_width, codes, inner,
        REDUCE, EXPAND, ADJOINT, SUBTRACT, USE, ACCUMULATE, FINE, PACK, MARGIN,
    )  # fmt: skip


@triton.jit
def contiguous_level(
    fine_in, low_in, low_out, fine_out, planes, codes, LEVEL: tl.constexpr, SIZES: tl.constexpr,
    REDUCE: tl.constexpr, EXPAND: tl.constexpr, ADJOINT: tl.constexpr, SUBTRACT: tl.constexpr,
    ACCUMULATE: tl.constexpr, LANES_USED: tl.constexpr, PACK: tl.constexpr,
):  # fmt: skip
    """All rows of PACK images of a level."""
    HEIGHT: tl.constexpr = SIZES[LEVEL][0]
    WIDTH: tl.constexpr = SIZES[LEVEL][1]
    LOW_HEIGHT: tl.constexpr = (HEIGHT + 1) // 2
    LOW_WIDTH: tl.constexpr = (WIDTH + 1) // 2
    FINE: tl.constexpr = max(LANES_USED >> LEVEL, 2 * PACK)
    AREA: tl.constexpr = HEIGHT * WIDTH
    LOW_AREA: tl.constexpr = LOW_HEIGHT * LOW_WIDTH
    zero = tl.full((), 0, tl.int32)
    fine = None
    base = None
    low = None
    result = None
    if fine_in[LEVEL] is not None:
        fine = (fine_in[LEVEL], AREA, 0, WIDTH, 1)
    if low_in[LEVEL] is not None:
        base = (low_in[LEVEL], LOW_AREA, 0, LOW_WIDTH, 1)
    if low_out[LEVEL] is not None:
        low = (low_out[LEVEL], LOW_AREA, 0, LOW_WIDTH, 1)
    if fine_out[LEVEL] is not None:
        result = (fine_out[LEVEL], AREA, 0, WIDTH, 1)
    strip(
        fine, None, None, base, low, result, None, None,
        planes, tl.program_id(0) * PACK, zero, zero, zero + LOW_HEIGHT,
        HEIGHT, WIDTH, LOW_HEIGHT, LOW_WIDTH, codes[LEVEL], 1,
        REDUCE, EXPAND, ADJOINT, SUBTRACT, IMAGE, ACCUMULATE, FINE, PACK, 0,
    )  # fmt: skip


@triton.jit(do_not_specialize=["planes", "codes"])
def pyramid_kernel(
    fine_in, low_in, low_out, fine_out,  # pointers of every level, fine to coarse; contiguous
    planes, codes,
    SIZES: tl.constexpr, LEVELS: tl.constexpr, UPWARDS: tl.constexpr,
    REDUCE: tl.constexpr, EXPAND: tl.constexpr, ADJOINT: tl.constexpr, SUBTRACT: tl.constexpr,
    ACCUMULATE: tl.constexpr, FINE: tl.constexpr, PACK: tl.constexpr,
):  # fmt: skip
    """All levels of PACK images that lie side by side, one after the other; what one level writes the next one reads."""
    for step in tl.static_range(LEVELS):
        if step > 0:
            tl.debug_barrier()
        contiguous_level(
            fine_in, low_in, low_out, fine_out, planes, codes, LEVELS - 1 - step if UPWARDS else step, SIZES,
            REDUCE, EXPAND, ADJOINT, SUBTRACT, ACCUMULATE, FINE, PACK,
        )  # fmt: skip


@triton.jit(do_not_specialize=["count"])
def total_kernel(out_ptr, partials_ptr, count, BLOCK: tl.constexpr):
    """out[n] = the sum of row n of partials, `count` wide, always in one order."""
    lane = tl.arange(0, BLOCK)
    row = partials_ptr + tl.program_id(0).to(tl.int64) * count
    total = tl.zeros((BLOCK,), dtype=tl.float64)
    for start in range(0, count, BLOCK):
        total += tl.load(row + start + lane, mask=lane < count - start, other=0).to(tl.float64)
    tl.store(out_ptr + tl.program_id(0), tl.sum(total, axis=0).to(out_ptr.dtype.element_ty))
