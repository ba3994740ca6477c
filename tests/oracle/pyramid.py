"""Burt-Adelson pyramids as dense matrices, built tap by tap (Burt & Adelson 1983; OpenCV's pyrDown and pyrUp).

Every operator is separable and linear: y = A x B^T with one matrix per axis, so its adjoint is A^T y B.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np

Array = np.ndarray

BORDERS = ("reflect", "replicate", "circular", "constant", "symmetric")
KERNEL = (1, 4, 6, 4, 1)


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


@cache
def down_matrix(n: int, border: str) -> Array:
    """(ceil(n/2), n): output x takes K[k]/16 of sample 2x + k, k = -2..2."""
    matrix = np.zeros(((n + 1) // 2, n))
    for x in range(matrix.shape[0]):
        for k in range(-2, 3):
            j = source_index(2 * x + k, n, border)
            if j is not None:
                matrix[x, j] += KERNEL[k + 2] / 16
    matrix.setflags(write=False)
    return matrix


@cache
def up_matrix(n: int, size: int, border: str) -> Array:
    """(size, n), size 2n-1 or 2n: K/8 over the zero-stuffed grid of length 2n.

    The default border reflects that grid; the others extend the n source samples before the stuffing.
    """
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
    matrix.setflags(write=False)
    return matrix


def _apply(rows: Array, x: Array, columns: Array) -> Array:
    return rows @ np.asarray(x, dtype=np.float64) @ columns.T


def pyr_down(x: Array, border: str = "reflect") -> Array:
    h, w = x.shape[-2:]
    return _apply(down_matrix(h, border), x, down_matrix(w, border))


def pyr_down_adjoint(grad: Array, size: tuple[int, int], border: str = "reflect") -> Array:
    """The gradient at an input of this size."""
    return _apply(down_matrix(size[0], border).T, grad, down_matrix(size[1], border).T)


def pyr_up(x: Array, size: tuple[int, int] | None = None, border: str = "reflect") -> Array:
    h, w = x.shape[-2:]
    height, width = size if size is not None else (2 * h, 2 * w)
    return _apply(up_matrix(h, height, border), x, up_matrix(w, width, border))


def pyr_up_adjoint(grad: Array, source: tuple[int, int], border: str = "reflect") -> Array:
    """The gradient at a source of this size."""
    height, width = grad.shape[-2:]
    return _apply(up_matrix(source[0], height, border).T, grad, up_matrix(source[1], width, border).T)


def sizes(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """The size of every level, the image's first."""
    out = [size]
    for _ in range(levels):
        h, w = out[-1]
        out.append(((h + 1) // 2, (w + 1) // 2))
    return out


def gaussian_pyramid(x: Array, levels: int, border: str = "reflect") -> list[Array]:
    """g_0 = x, g_{l+1} = pyr_down(g_l)."""
    out = [np.asarray(x, dtype=np.float64)]
    for _ in range(levels):
        out.append(pyr_down(out[-1], border))
    return out


def gaussian_pyramid_adjoint(grads: Sequence[Array], border: str = "reflect") -> Array:
    total = np.asarray(grads[-1], dtype=np.float64)
    for grad in reversed(grads[:-1]):
        total = grad + pyr_down_adjoint(total, grad.shape[-2:], border)
    return total


def laplacian_pyramid(x: Array, levels: int, border: str = "reflect", sign: float = -1.0) -> list[Array]:
    """h_l = g_l - pyr_up(g_{l+1}), then g_L. With sign = 1 and |x|: what the rounding errors are proportional to."""
    g = gaussian_pyramid(x, levels, border)
    bands = [fine + sign * pyr_up(coarse, fine.shape[-2:], border) for fine, coarse in pairwise(g)]
    return [*bands, g[-1]]


def laplacian_pyramid_adjoint(grads: Sequence[Array], border: str = "reflect", sign: float = -1.0) -> Array:
    """bands = (I - U shifted) applied to the Gaussian levels; transpose that, then the Gaussian pyramid."""
    on_gaussian = [np.array(grad, dtype=np.float64) for grad in grads]
    for level, grad in enumerate(grads[:-1]):
        on_gaussian[level + 1] += sign * pyr_up_adjoint(grad, grads[level + 1].shape[-2:], border)
    return gaussian_pyramid_adjoint(on_gaussian, border)


def collapse(pyramid: Sequence[Array], border: str = "reflect") -> Array:
    """r_L = p_L, r_l = p_l + pyr_up(r_{l+1})."""
    image = np.asarray(pyramid[-1], dtype=np.float64)
    for band in reversed(pyramid[:-1]):
        image = band + pyr_up(image, band.shape[-2:], border)
    return image


def collapse_adjoint(grad: Array, levels: int, border: str = "reflect") -> list[Array]:
    out = [np.asarray(grad, dtype=np.float64)]
    for size in sizes(grad.shape[-2:], levels)[1:]:
        out.append(pyr_up_adjoint(out[-1], size, border))
    return out


def down_reach(spoiled: Array, border: str = "reflect") -> Array:
    """Which outputs of pyr_down have a tap on a spoiled input."""
    return pyr_down(spoiled.astype(np.float64), border) > 0


def up_reach(spoiled: Array, size: tuple[int, int] | None = None, border: str = "reflect") -> Array:
    return pyr_up(spoiled.astype(np.float64), size, border) > 0


def laplacian_reach(spoiled: Array, levels: int, border: str = "reflect") -> list[Array]:
    g = [spoiled]
    for _ in range(levels):
        g.append(down_reach(g[-1], border))
    bands = [fine | up_reach(coarse, fine.shape[-2:], border) for fine, coarse in pairwise(g)]
    return [*bands, g[-1]]
