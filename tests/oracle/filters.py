"""The three filters as dense matrices, one per axis, tap by tap, in exact fractions where positions are fractional.

binomial: Burt & Adelson 1983, OpenCV's pyrDown and pyrUp. half_pixel: kornia's pyrdown and pyrup, a blur at full size and a
bilinear resize whose samples are pixel centres. area: the LAPGAN code's, an average over the area and a linear resize between the
corners.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import ceil, floor

import numpy as np

Array = np.ndarray

FILTERS = ("binomial", "half_pixel", "area")
BORDERS = ("reflect", "replicate", "circular", "constant", "symmetric")
KERNEL = (1, 4, 6, 4, 1)


def borders_of(filter: str) -> tuple[str, ...]:
    """The area filter reads nothing beyond the image."""
    return ("reflect",) if filter == "area" else BORDERS


def source_index(i: int, n: int, border: str) -> int | None:
    """Which of n samples position i, possibly outside, stands for; None for a zero."""
    if 0 <= i < n:
        return i
    if border == "constant":
        return None
    if border == "replicate":
        return min(max(i, 0), n - 1)
    if border == "circular":
        return i % n
    if border == "symmetric":  # c b a | a b c | c b a: period 2n
        i %= 2 * n
        return i if i < n else 2 * n - 1 - i
    if border == "reflect":  # c b | a b c | b a: period 2n - 2
        if n == 1:
            return 0
        i %= 2 * n - 2
        return i if i < n else 2 * n - 2 - i
    raise ValueError(border)


def _binomial_down(n: int, size: int, border: str) -> Array:
    """Output x takes K[k]/16 of sample 2x + k, k = -2..2."""
    assert size == (n + 1) // 2, (n, size)
    matrix = np.zeros((size, n))
    for x in range(size):
        for k in range(-2, 3):
            j = source_index(2 * x + k, n, border)
            if j is not None:
                matrix[x, j] += KERNEL[k + 2] / 16
    return matrix


def _binomial_up(n: int, size: int, border: str) -> Array:
    """K/8 over the zero-stuffed grid of length 2n. The default border reflects that grid; the others extend the n source samples
    before the stuffing."""
    assert size in (2 * n - 1, 2 * n), (n, size)
    matrix = np.zeros((size, n))
    for y in range(size):
        for k in range(-2, 3):
            if border == "reflect":
                position = source_index(y + k, 2 * n, border)
                assert position is not None
                if position % 2 == 0:
                    matrix[y, position // 2] += KERNEL[k + 2] / 8
            elif (y + k) % 2 == 0:
                j = source_index((y + k) // 2, n, border)
                if j is not None:
                    matrix[y, j] += KERNEL[k + 2] / 8
    return matrix


def _blur(n: int, border: str) -> Array:
    """The binomial at full size."""
    matrix = np.zeros((n, n))
    for x in range(n):
        for k in range(-2, 3):
            j = source_index(x + k, n, border)
            if j is not None:
                matrix[x, j] += KERNEL[k + 2] / 16
    return matrix


def _linear(n: int, size: int, position: Fraction, row: Array) -> None:
    """Spread one output between the two samples around its position, which is kept inside the image."""
    position = min(max(position, Fraction(0)), Fraction(n - 1))
    left = floor(position)
    row[left] = float(1 - (position - left))
    if position > left:
        row[left + 1] = float(position - left)


def _half_pixel_resize(n: int, size: int) -> Array:
    """Bilinear, align_corners=False: sample y sits at (y + 1/2) n / size - 1/2 of the source."""
    matrix = np.zeros((size, n))
    for y in range(size):
        _linear(n, size, (y + Fraction(1, 2)) * Fraction(n, size) - Fraction(1, 2), matrix[y])
    return matrix


def _area_down(n: int, size: int) -> Array:
    """Output y is the mean over [y n/size, (y + 1) n/size], where sample j covers [j, j + 1]."""
    assert 1 <= size <= n, (n, size)
    width = Fraction(n, size)
    matrix = np.zeros((size, n))
    for y in range(size):
        for j in range(floor(y * width), ceil((y + 1) * width)):
            overlap = min((y + 1) * width, Fraction(j + 1)) - max(y * width, Fraction(j))
            matrix[y, j] = float(overlap / width)
    return matrix


def _area_up(n: int, size: int) -> Array:
    """Linear, align_corners=True: the step is (n - 1) / (size - 1)."""
    assert size >= n, (n, size)
    step = Fraction(n - 1, size - 1) if size > 1 else Fraction(0)
    matrix = np.zeros((size, n))
    for y in range(size):
        _linear(n, size, y * step, matrix[y])
    return matrix


def halved(n: int, filter: str = "binomial") -> int:
    """One side of the next coarser level."""
    return max(1, n // 2) if filter == "half_pixel" else (n + 1) // 2


@cache
def down_matrix(n: int, border: str = "reflect", size: int | None = None, filter: str = "binomial") -> Array:
    """(size, n); size None is that of the next coarser level."""
    size = halved(n, filter) if size is None else size
    if filter == "half_pixel":
        matrix = _half_pixel_resize(n, size) @ _blur(n, border)
    elif filter == "area":
        matrix = _area_down(n, size)
    else:
        matrix = _binomial_down(n, size, border)
    matrix.setflags(write=False)
    return matrix


@cache
def up_matrix(n: int, size: int, border: str = "reflect", filter: str = "binomial") -> Array:
    """(size, n)."""
    if filter == "half_pixel":
        matrix = _blur(size, border) @ _half_pixel_resize(n, size)
    elif filter == "area":
        matrix = _area_up(n, size)
    else:
        matrix = _binomial_up(n, size, border)
    matrix.setflags(write=False)
    return matrix


def taps(matrix: Array) -> int:
    """The most inputs that one output reads."""
    return int((matrix != 0).sum(axis=1).max(initial=0))
