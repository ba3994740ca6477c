"""Pyramids of integers, exactly: sums over the unnormalised kernel, one rounding at the end (OpenCV's pyrDown and pyrUp).

Everything takes and gives int64; `dtype` names the type whose range the results saturate to.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tests.oracle.filters import down_matrix, up_matrix

Array = np.ndarray
Size = tuple[int, int]


def saturate(x: Array, dtype: str) -> Array:
    info = np.iinfo(dtype)
    return np.clip(x, info.min, info.max)


def _rounded(acc: Array, shift: int) -> Array:
    """acc / 2^shift to the nearest, ties towards plus infinity: an arithmetic shift."""
    return (acc + (1 << (shift - 1))) >> shift


def _sums(rows: Array, x: Array, columns: Array) -> Array:
    """Float64 holds every whole number up to 2^53 exactly, and multiplies matrices much faster than int64."""
    assert (rows == rows.round()).all() and (columns == columns.round()).all()
    return (rows @ np.asarray(x, dtype=np.float64) @ columns.T).astype(np.int64)


def pyr_down(x: Array, dtype: str, border: str = "reflect") -> Array:
    h, w = x.shape[-2:]
    acc = _sums(16 * down_matrix(h, border), x, 16 * down_matrix(w, border))
    return saturate(_rounded(acc, 8), dtype)


def pyr_up(x: Array, dtype: str, size: Size | None = None, border: str = "reflect") -> Array:
    h, w = x.shape[-2:]
    height, width = size if size is not None else (2 * h, 2 * w)
    acc = _sums(8 * up_matrix(h, height, border), x, 8 * up_matrix(w, width, border))
    return saturate(_rounded(acc, 6), dtype)


def gaussian_pyramid(x: Array, levels: int, dtype: str, border: str = "reflect") -> list[Array]:
    out = [np.asarray(x, dtype=np.int64)]
    for _ in range(levels):
        out.append(pyr_down(out[-1], dtype, border))
    return out


def laplacian_pyramid(x: Array, levels: int, dtype: str, border: str = "reflect") -> list[Array]:
    """int16, whatever the image's type."""
    g = gaussian_pyramid(x, levels, dtype, border)
    bands = [fine - pyr_up(coarse, dtype, fine.shape[-2:], border) for fine, coarse in pairwise(g)]
    return [saturate(band, "int16") for band in (*bands, g[-1])]


def collapse(pyramid: Sequence[Array], border: str = "reflect") -> Array:
    """Of int16 levels, to int16."""
    image = np.asarray(pyramid[-1], dtype=np.int64)
    for band in reversed(pyramid[:-1]):
        image = saturate(band + pyr_up(image, "int16", band.shape[-2:], border), "int16")
    return image
