"""Philox4x32-10, uniforms and normals: csrc/common/philox.h operation by operation, hence the same bits.

Kernels that make normals are launched with enable_fp_fusion=False: each operation is rounded by itself. Where a product is exact,
tl.fma rounds no differently. A tile is R rows of B
blocks of four elements; a thread makes all four of a block.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

# What numbers the noise of a call: one seed for each row and their stride, or None and the halves of the one seed of all; the
# halves of the stream. A half is an int32, so that every value is an argument of one type.
Noise = tuple[Tensor | None, int, int, int, int, int]

TILE_BLOCKS = 256  # of a program: two a thread
OPTIONS = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": False}


def halves(value: int) -> tuple[int, int]:
    """The low and the high 32 bits of an int64, each in two's complement."""
    return ((value & 0xFFFFFFFF) ^ 2**31) - 2**31, value >> 32


def one_seed(seeds: Tensor) -> bool:
    """Whether one seed, on the CPU, numbers the whole tensor; or there is one for each row, on the tensor's device."""
    return seeds.device.type == "cpu" and seeds.numel() == 1


def noise_of(seeds: Tensor, stream: int) -> Noise:
    if one_seed(seeds):
        return None, 0, *halves(int(seeds)), *halves(stream)
    return seeds, seeds.stride(0), 0, 0, *halves(stream)


def tile_of(length: int) -> tuple[int, int]:
    """R and B by the length of a row alone, so that no sum over a tile depends on the batch."""
    blocks = min(triton.next_power_of_2(triton.cdiv(length, 4)), TILE_BLOCKS)
    return TILE_BLOCKS // blocks, blocks


@triton.jit
def philox(block, key_low, key_high, stream_low, stream_high):
    """The four words of each block."""
    c0, c1, c2, c3 = block.to(tl.uint32), (block >> 32).to(tl.uint32), stream_low, stream_high
    for _ in tl.static_range(10):
        left, right = c0.to(tl.uint64) * 0xD2511F53, c2.to(tl.uint64) * 0xCD9E8D57
        c0, c1 = (right >> 32).to(tl.uint32) ^ c1 ^ key_low, right.to(tl.uint32)
        c2, c3 = (left >> 32).to(tl.uint32) ^ c3 ^ key_high, left.to(tl.uint32)
        key_low += 0x9E3779B9
        key_high += 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def scaled_uniform_of(word):
    """2**32 u, the word and 1/2 rounded once: its upper half beside 2**39, and the lower with the 1/2 beside 2**22, are exact."""
    high = ((word >> 16) | 0x53000000).to(tl.float32, bitcast=True)
    low = ((word & 0xFFFF) * 2 | 0x4A800001).to(tl.float32, bitcast=True)
    return tl.minimum((high - 549760008192.0) + low, 4294967040.0)


@triton.jit
def square_radius_of(scaled):
    """-2 ln a of 2**32 a: a = m 2**e with m in [sqrt(1/2), sqrt(2)), ln a = e ln 2 + ln(1 + f), f = m - 1."""
    bits = scaled.to(tl.int32, bitcast=True) - 0x4F3504F3  # sqrt(1/2) * 2**32
    e, f = (bits >> 23).to(tl.float32), ((bits & 0x7FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    p = f * -0.24450965225696564 + 0.37570178508758545
    p = p * f + -0.40902817249298096
    p = p * f + 0.49792948365211487
    p = p * f + -0.6663252711296082
    p = p * f + 1.000028133392334
    p = p * f + -2.0000016689300537
    return p * f + e * -1.3862943649291992


@triton.jit
def negated_by_bit_1(x, n):
    return (x.to(tl.int32, bitcast=True) ^ ((n & 2) << 30)).to(tl.float32, bitcast=True)


@triton.jit
def cos_sin_of(scaled):
    """cos(2 pi b) and sin(2 pi b) of 2**32 b: 4 b = q + y with |y| <= 1/2, which is exact."""
    rounded = tl.fma(scaled, 9.313225746154785e-10, 12582912.0)
    y = tl.fma(scaled, 9.313225746154785e-10, 12582912.0 - rounded)
    s = y * y
    sin = s * -0.004630818497389555 + 0.07969274371862411
    sin = sin * s + -0.645965039730072
    sin = (sin * s + 1.5707963705062866) * y
    cos = s * -0.02042796090245247 + 0.25360700488090515
    cos = cos * s + -1.2336980104446411
    cos = cos * s + 1.0
    quarter = rounded.to(tl.int32, bitcast=True)
    odd = (quarter & 1) != 0
    return negated_by_bit_1(tl.where(odd, sin, cos), quarter + 1), negated_by_bit_1(tl.where(odd, cos, sin), quarter)


@triton.jit
def box_muller(word_a, word_b):
    radius = tl.sqrt_rn(square_radius_of(scaled_uniform_of(word_a)))
    cos, sin = cos_sin_of(scaled_uniform_of(word_b))
    return radius * cos, radius * sin


@triton.jit
def uniform_of(word):
    return scaled_uniform_of(word) * 2.3283064365386963e-10


BITS, UNIFORM, NORMAL = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def four(block, key_low, key_high, stream_low, stream_high, KIND: tl.constexpr):
    """The four elements of each block."""
    a, b, c, d = philox(block, key_low, key_high, stream_low, stream_high)
    if KIND == BITS:
        a, b, c, d = a.to(tl.int32), b.to(tl.int32), c.to(tl.int32), d.to(tl.int32)
    elif KIND == UNIFORM:
        a, b, c, d = uniform_of(a), uniform_of(b), uniform_of(c), uniform_of(d)
    else:
        a, b = box_muller(a, b)
        c, d = box_muller(c, d)
    return a, b, c, d


@triton.jit
def pick(shift, a, b, c, d):
    return tl.where(shift < 2, tl.where(shift == 0, a, b), tl.where(shift == 2, c, d))


@triton.jit
def row_keys(noise, row, inside):
    """The halves of each row's seed."""
    if noise[0] is None:
        low, high = noise[2] + tl.zeros_like(row), noise[3] + tl.zeros_like(row)
    else:
        seed = tl.load(noise[0] + row.to(tl.int64) * noise[1], mask=inside, other=0)
        low, high = seed.to(tl.int32), (seed >> 32).to(tl.int32)
    return low.to(tl.int32).to(tl.uint32, bitcast=True), high.to(tl.int32).to(tl.uint32, bitcast=True)


@triton.jit
def elements(
    noise, keys, row, first, length, KIND: tl.constexpr, SHIFTED: tl.constexpr, R: tl.constexpr, B: tl.constexpr
):
    """Elements 4 * first and on of rows: R x 4B. One seed counts through all rows, `length` apart.

    SHIFTED: such rows may begin inside a block, and take the rest of each element's four from the next.
    """
    block = (first + tl.arange(0, B)).to(tl.int64)[None, :] + tl.zeros((R, 1), tl.int64)
    begin = row.to(tl.int64)[:, None] * length
    if noise[0] is None:
        block += begin >> 2
    stream_low = noise[4].to(tl.int32).to(tl.uint32, bitcast=True)
    stream_high = noise[5].to(tl.int32).to(tl.uint32, bitcast=True)
    key_low, key_high = keys[0][:, None], keys[1][:, None]
    a, b, c, d = four(block, key_low, key_high, stream_low, stream_high, KIND)
    if SHIFTED:
        e, f, g, _ = four(block + 1, key_low, key_high, stream_low, stream_high, KIND)
        shift = begin & 3
        a, b, c, d = pick(shift, a, b, c, d), pick(shift, b, c, d, e), pick(shift, c, d, e, f), pick(shift, d, e, f, g)
    return tl.interleave(tl.interleave(a, c), tl.interleave(b, d))
