"""The binomial filter's weights along one axis, borders folded in.

Between a fine line and one of half its size every operator reads a window: low sample i reads the fine ones 2i - 2 .. 2i + 2,
and fine samples 2i and 2i + 1 read the low ones i - 1 .. i + 1. What lies beyond the line is, by every border but the circular, a
sample inside the window, or zero: only the weights of the two outermost samples at either end differ from the rest. The weights
of a window are packed into one integer, five bits each: those of `down` are over 16, those of `up` over 8, none exceeds 16.
"""

from __future__ import annotations

from functools import lru_cache

import triton
import triton.language as tl

WEIGHTS = (6, 4, 1)  # by the distance on the fine grid
Codes = tuple[int, int, int, int]


def extend(p: int, n: int, up: bool, border: str) -> int:
    """The sample of a line of n that stands for position p, or -1 for a zero."""
    if 0 <= p < n:
        return p
    if (
        border == "reflect" and up and p >= n
    ):  # upsampling reflects the fine grid: its last sample stands in for position n
        return n - 1
    if border == "reflect":
        p = abs(p) % max(2 * n - 2, 1)
        return min(p, 2 * n - 2 - p)
    if border == "symmetric":
        p %= 2 * n
        return min(p, 2 * n - 1 - p)
    return min(max(p, 0), n - 1) if border == "replicate" else -1


def weight(up: bool, fine: int, low: int, size: int, border: str) -> int:
    """Of `low` in pyr_up's output `fine`, or of `fine` in pyr_down's output `low`, where the fine line has `size` samples."""
    half = (size + 1) // 2
    if not (0 <= low < half and 0 <= fine < size):
        return 0
    if up:
        taps = ((p, extend(p, half, True, border) == low) for p in range(fine // 2 - 1, fine // 2 + 2))
        distances = [abs(fine - 2 * p) for p, here in taps if here]
    else:
        distances = [abs(t) for t in range(-2, 3) if extend(2 * low + t, size, False, border) == fine]
    return sum(WEIGHTS[distance] for distance in distances if distance < 3)


def packed(weights: list[int]) -> int:
    return sum(w << 5 * t for t, w in enumerate(weights))


@lru_cache(maxsize=1024)
def reducing(size: int, border: str, adjoint: bool) -> Codes:
    """Of the fine samples 2i - 2 .. 2i + 2 in low sample i = 0, 1, m - 2, m - 1."""
    half = (size + 1) // 2
    first, second, third, last = (
        packed([weight(adjoint, 2 * i - 2 + t, i, size, border) for t in range(5)]) for i in (0, 1, half - 2, half - 1)
    )
    return first, second, third, last


@lru_cache(maxsize=1024)
def expanding(size: int, border: str, adjoint: bool) -> Codes:
    """Of the low samples i - 1, i, i + 1 in fine sample 2i, then of i, i + 1 in 2i + 1, for the same i."""
    half = (size + 1) // 2
    taps = ((0, -1), (0, 0), (0, 1), (1, 0), (1, 1))
    first, second, third, last = (
        packed([weight(not adjoint, 2 * i + side, i + step, size, border) for side, step in taps])
        for i in (0, 1, half - 2, half - 1)
    )
    return first, second, third, last


REDUCING = tl.constexpr(packed([1, 4, 6, 4, 1]))
EXPANDING = tl.constexpr(packed([1, 6, 1, 4, 4]))


@triton.jit
def decoded(code, UP: tl.constexpr, ACCUMULATE: tl.constexpr):
    SCALE: tl.constexpr = 1 if tl.int32 == ACCUMULATE else 0.125 if UP else 0.0625
    return (
        (code & 31).to(ACCUMULATE) * SCALE,
        ((code >> 5) & 31).to(ACCUMULATE) * SCALE,
        ((code >> 10) & 31).to(ACCUMULATE) * SCALE,
        ((code >> 15) & 31).to(ACCUMULATE) * SCALE,
        ((code >> 20) & 31).to(ACCUMULATE) * SCALE,
    )


@triton.jit
def window(i, size, codes, elsewhere: tl.constexpr, UP: tl.constexpr, ACCUMULATE: tl.constexpr):
    """The five weights of every sample i of a low line; `codes` are those of its ends."""
    code = tl.where(i == size - 1, codes[3], tl.where(i == size - 2, codes[2], elsewhere))
    return decoded(tl.where(i == 0, codes[0], tl.where(i == 1, codes[1], code)), UP, ACCUMULATE)


@triton.jit
def window_at(i, size, codes, elsewhere: tl.constexpr, UP: tl.constexpr, ACCUMULATE: tl.constexpr):
    """As window, for one i, with next to no work away from the ends."""
    if (i > 1) & (i < size - 2):
        w0, w1, w2, w3, w4 = decoded(tl.full((), elsewhere, tl.int32), UP, ACCUMULATE)
    else:
        w0, w1, w2, w3, w4 = window(i, size, codes, elsewhere, UP, ACCUMULATE)
    return w0, w1, w2, w3, w4
