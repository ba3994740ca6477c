"""Masked convolutions as matrix products on tensor cores, without the taps that a mask forbids.

Images are rows: row (n H + i) W + j is pixel (i, j) of image n, its channels beside each other, and zeros up to a LENGTH of whole
16 bytes, what an asynchronous copy moves. The live taps of every mask are the first ones in raster order, so a product over
k = tap * LENGTH + place is as long as they are. Of the last, the centre, colour groups may see a part of the channels only, always
the first ones: the columns of a group end their product there, and a program has columns of one group. So what is masked is not
multiplied, and no product is for nothing.

The gradient at the image is the same product over the gradient's rows, taps mirrored. There it is the last outputs that see an
input at the centre; its rows are therefore turned round (REVERSED). PAIRS: channels are two halves that are grouped alike; a
channel of the one stands before its partner of the other.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._arithmetic import INTERPRETED, rounded
from ._gates import gated


@triton.jit
def channel_of(place, channels, PAIRS: tl.constexpr, REVERSED: tl.constexpr):
    """Which channel stands there."""
    half = channels // 2 if PAIRS else channels
    unit = place // 2 if PAIRS else place
    if REVERSED:
        unit = half - 1 - unit
    return unit + place % 2 * half if PAIRS else unit


@triton.jit
def column_of(local, group, channels, GROUPS: tl.constexpr, PAIRS: tl.constexpr):
    """The channel of a group's column, and which of its columns there are."""
    half = channels // 2 if PAIRS else channels
    first = tl.cdiv(group * half, GROUPS)
    last = tl.cdiv((group + 1) * half, GROUPS)
    unit = first + (local // 2 if PAIRS else local)
    return unit + local % 2 * half if PAIRS else unit, unit < last


@triton.jit
def of_group(values, group, GROUPS: tl.constexpr):
    value = values[0]
    for i in tl.static_range(1, GROUPS):
        value = tl.where(group == i, values[i], value)
    return value


@triton.jit
def pixel_of(index, height, width):
    """Image, row and column of pixels."""
    row = index // width
    return row // height, row % height, index % width


@triton.jit
def gathered(
    source, pixel, used, k, LENGTH: tl.constexpr, height, width,
    KW: tl.constexpr, ABOVE: tl.constexpr, LEFT: tl.constexpr, STRIDE: tl.constexpr, ADJOINT: tl.constexpr,
):  # fmt: skip
    """Pixels by k: the channel k % of what tap k // LENGTH of each pixel reads, 0 outside the image."""
    tap = k // LENGTH
    down, right = (tap // KW - ABOVE)[None, :], (tap % KW - LEFT)[None, :]
    image, row, column = pixel[0][:, None], pixel[1][:, None], pixel[2][:, None]
    if ADJOINT:
        row, column = row - down, column - right
        inside = used & (row >= 0) & (column >= 0)
        if STRIDE == 2:
            inside &= (row % 2 == 0) & (column % 2 == 0)
            row, column = row // 2, column // 2
    else:
        row, column = row * STRIDE + down, column * STRIDE + right
        inside = used & (row >= 0) & (column >= 0)
    inside &= (row < height) & (column < width)
    at = ((image * height + row) * width + column) * LENGTH + (k % LENGTH)[None, :]
    return tl.load(source + at, mask=inside, other=0)


@triton.jit
def multiplied(a, b, total, PRECISION: tl.constexpr):
    if INTERPRETED:  # which multiplies the bits of bfloat16
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def rows_kernel(
    out_ptr, x_ptr, pixels, channels, size, x_image, x_channel, x_pixel, LENGTH: tl.constexpr,
    PAIRS: tl.constexpr, REVERSED: tl.constexpr, INDEX: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Images of `size` pixels as rows."""
    m = tl.program_id(0).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    place = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    used, inside = (m < pixels)[:, None], (place < LENGTH)[None, :]
    channel = channel_of(place, channels, PAIRS, REVERSED).to(tl.int64)
    pixel_at = (m // size).to(tl.int64) * x_image + (m % size).to(tl.int64) * x_pixel
    at = pixel_at[:, None] + (channel * x_channel)[None, :]
    x = tl.load(x_ptr + at, mask=used & (place < channels)[None, :], other=0)
    tl.store(out_ptr + m[:, None] * LENGTH + place[None, :], x, mask=used & inside)


@triton.jit(do_not_specialize=["ends"])
def pack_kernel(
    out_ptr, weight_ptr, ends, depth, inner, outer, s_inner, s_outer, s_row, s_column,
    LENGTH: tl.constexpr, GROUPS: tl.constexpr, WIDTH: tl.constexpr, KW: tl.constexpr,
    INNER_PAIRS: tl.constexpr, REVERSED: tl.constexpr, OUTER_PAIRS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The weight, k by the columns of all groups, WIDTH for each; 0 at what is masked and beside what there is."""
    k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    TILES: tl.constexpr = WIDTH // BLOCK_N
    group = tl.program_id(1) // TILES
    local = tl.program_id(1) % TILES * BLOCK_N + tl.arange(0, BLOCK_N)
    channel, there = column_of(local, group, outer, GROUPS, OUTER_PAIRS)
    tap, place = k // LENGTH, k % LENGTH
    at = channel_of(place, inner, INNER_PAIRS, REVERSED) * s_inner + tap // KW * s_row + tap % KW * s_column
    live = ((place < inner) & (k < of_group(ends, group, GROUPS)))[:, None] & there[None, :]
    value = tl.load(weight_ptr + at[:, None] + (channel * s_outer)[None, :], mask=live, other=0)
    column = group * WIDTH + local
    tl.store(out_ptr + k[:, None] * (GROUPS * WIDTH) + column[None, :], value, mask=k[:, None] < depth)


@triton.jit
def finished(total, bias_ptr, condition, image, place, channel, used, there, ACTIVATION: tl.constexpr):
    if bias_ptr is not None:
        total += tl.load(bias_ptr + channel, mask=there, other=0).to(tl.float32)[None, :]
    if condition is not None:
        at = image * condition[1] + place.to(tl.int64) * condition[3]
        at = at[:, None] + (channel.to(tl.int64) * condition[2])[None, :]
        total += tl.load(condition[0] + at, mask=used & there[None, :], other=0).to(tl.float32)
    return tl.where(total < 0, 0.0, total) if ACTIVATION == "relu" else total


@triton.jit
def put(out_ptr, x, image, place, channel, used, there, size):
    at = (image * size + place)[:, None] + (channel.to(tl.int64) * size)[None, :]
    tl.store(out_ptr + at, rounded(x, out_ptr.dtype.element_ty), mask=used & there[None, :])


@triton.jit(do_not_specialize=["ends"])
def product_kernel(
    out_ptr, source_ptr, packed_ptr, bias_ptr, condition, ends,
    pixels, height, width, out_channels, out_height, out_width,
    LENGTH: tl.constexpr, GROUPS: tl.constexpr, WIDTH: tl.constexpr, PAIRS: tl.constexpr, KW: tl.constexpr, ABOVE: tl.constexpr,
    LEFT: tl.constexpr, STRIDE: tl.constexpr, ADJOINT: tl.constexpr, ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr, INDEX: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out (N, outputs, H', W') = activation(rows of source . packed + bias + condition); bias and condition may be None.

    Programs of the same pixels follow each other: what they read of the source, all but the first find in L2.
    """
    TILES: tl.constexpr = WIDTH // BLOCK_N
    tile = tl.program_id(0) % (GROUPS * TILES)
    m = (tl.program_id(0) // (GROUPS * TILES)).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    used = (m < pixels)[:, None]
    pixel = pixel_of(m, out_height, out_width)
    group = tile // TILES
    end = of_group(ends, group, GROUPS)
    whole = end // BLOCK_K * BLOCK_K
    packed_at = packed_ptr + tile * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, whole, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        a = gathered(source_ptr, pixel, used, k, LENGTH, height, width, KW, ABOVE, LEFT, STRIDE, ADJOINT)
        b = tl.load(packed_at + k[:, None] * (GROUPS * WIDTH))
        total = multiplied(a, b, total, PRECISION)
    for start in tl.range(whole, end, BLOCK_K, num_stages=1):
        k = start + tl.arange(0, BLOCK_K)
        live = used & (k < end)[None, :]
        a = gathered(source_ptr, pixel, live, k, LENGTH, height, width, KW, ABOVE, LEFT, STRIDE, ADJOINT)
        b = tl.load(packed_at + k[:, None] * (GROUPS * WIDTH))
        total = multiplied(a, b, total, PRECISION)

    size = out_height * out_width
    image, place, local = (m // size).to(tl.int64), m % size, tile % TILES
    if PAIRS:
        half = out_channels // 2
        unit, there = column_of(local * (BLOCK_N // 2) + tl.arange(0, BLOCK_N // 2), group, half, GROUPS, False)
        a, b = tl.split(tl.reshape(total, (BLOCK_M, BLOCK_N // 2, 2)))
        a = finished(a, bias_ptr, condition, image, place, unit, used, there, ACTIVATION)
        b = finished(b, bias_ptr, condition, image, place, unit + half, used, there, ACTIVATION)
        if ACTIVATION == "gated":
            put(out_ptr, gated(a, b, True), image * half, place, unit, used, there, size)
        else:
            put(out_ptr, a, image * out_channels, place, unit, used, there, size)
            put(out_ptr, b, image * out_channels, place, unit + half, used, there, size)
    else:
        channel, there = column_of(local * BLOCK_N + tl.arange(0, BLOCK_N), group, out_channels, GROUPS, False)
        total = finished(total, bias_ptr, condition, image, place, channel, used, there, ACTIVATION)
        put(out_ptr, total, image * out_channels, place, channel, used, there, size)


@triton.jit
def weight_kernel(
    parts_ptr, source_ptr, grad_ptr, pixels, share, depth, height, width,
    LENGTH: tl.constexpr, OUTPUTS: tl.constexpr, OUT_HEIGHT: tl.constexpr, OUT_WIDTH: tl.constexpr,
    KW: tl.constexpr, ABOVE: tl.constexpr, LEFT: tl.constexpr, STRIDE: tl.constexpr,
    PRECISION: tl.constexpr, INDEX: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """parts[split, k, output]: the sum over a split's pixels of what k reads times the gradient, rows of OUTPUTS."""
    split = tl.program_id(2)
    k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    output = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    begin, there = split.to(INDEX) * share, (output < OUTPUTS)[None, :]
    total = tl.zeros((BLOCK_K, BLOCK_N), tl.float32)
    for start in range(0, share, BLOCK_M):
        m = begin + start + tl.arange(0, BLOCK_M)
        used = (m < pixels)[:, None]
        pixel = pixel_of(m, OUT_HEIGHT, OUT_WIDTH)  # at every step: constants, which divide fast
        a = gathered(source_ptr, pixel, used, k, LENGTH, height, width, KW, ABOVE, LEFT, STRIDE, False)
        b = tl.load(grad_ptr + m[:, None] * OUTPUTS + output[None, :], mask=used & there, other=0)
        total = multiplied(tl.trans(a), b, total, PRECISION)
    at = (split.to(tl.int64) * depth + k)[:, None] * OUTPUTS + output[None, :]
    tl.store(parts_ptr + at, total, mask=(k < depth)[:, None] & there)


@triton.jit(do_not_specialize=["ends", "splits"])
def weight_sum_kernel(
    d_weight_ptr, parts_ptr, ends, splits, depth, channels, outputs, taps,
    LENGTH: tl.constexpr, OUTPUTS: tl.constexpr, GROUPS: tl.constexpr, PAIRS: tl.constexpr, REVERSED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """d_weight (outputs, channels, taps), contiguous: the sums of the parts in their order, 0 at what is masked."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    k, place = index // OUTPUTS, index % OUTPUTS
    channel, output = k % LENGTH, channel_of(place, outputs, PAIRS, REVERSED)
    inside = (k < depth) & (place < outputs) & (channel < channels)
    total = tl.zeros((BLOCK,), tl.float32)
    for _ in range(splits):
        total += tl.load(parts_ptr + index, mask=inside, other=0)
        parts_ptr += depth * OUTPUTS
    half = outputs // 2 if PAIRS else outputs
    total = tl.where(k < of_group(ends, output % half * GROUPS // half, GROUPS), total, 0.0)
    at = (output * channels + channel) * taps + k // LENGTH
    tl.store(d_weight_ptr + at, rounded(total, d_weight_ptr.dtype.element_ty), mask=inside)
