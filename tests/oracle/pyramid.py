"""Pyramids as products with dense matrices (Burt & Adelson 1983).

Every operator is separable and linear: y = A x B^T with one matrix per axis, from `filters`, so its adjoint is A^T y B.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tests.oracle.filters import BORDERS, FILTERS, down_matrix, halved, source_index, up_matrix

__all__ = ["BORDERS", "FILTERS", "down_matrix", "source_index", "up_matrix"]

Array = np.ndarray
Size = tuple[int, int]


def _apply(rows: Array, x: Array, columns: Array) -> Array:
    return rows @ np.asarray(x, dtype=np.float64) @ columns.T


def _size(x: Array) -> Size:
    return x.shape[-2], x.shape[-1]


def halve(size: Size, filter: str = "binomial") -> Size:
    return halved(size[0], filter), halved(size[1], filter)


def _down(fine: Size, coarse: Size | None, border: str, filter: str) -> tuple[Array, Array]:
    """The matrices of rows and columns."""
    coarse = halve(fine, filter) if coarse is None else coarse
    rows, columns = (down_matrix(n, border, m, filter) for n, m in zip(fine, coarse, strict=True))
    return rows, columns


def _up(coarse: Size, fine: Size | None, border: str, filter: str) -> tuple[Array, Array]:
    fine = (2 * coarse[0], 2 * coarse[1]) if fine is None else fine
    rows, columns = (up_matrix(n, m, border, filter) for n, m in zip(coarse, fine, strict=True))
    return rows, columns


def pyr_down(x: Array, border: str = "reflect", filter: str = "binomial", size: Size | None = None) -> Array:
    rows, columns = _down(_size(x), size, border, filter)
    return _apply(rows, x, columns)


def pyr_down_adjoint(grad: Array, size: Size, border: str = "reflect", filter: str = "binomial") -> Array:
    """The gradient at an input of this size."""
    rows, columns = _down(size, _size(grad), border, filter)
    return _apply(rows.T, grad, columns.T)


def pyr_up(x: Array, size: Size | None = None, border: str = "reflect", filter: str = "binomial") -> Array:
    rows, columns = _up(_size(x), size, border, filter)
    return _apply(rows, x, columns)


def pyr_up_adjoint(grad: Array, source: Size, border: str = "reflect", filter: str = "binomial") -> Array:
    """The gradient at a source of this size."""
    rows, columns = _up(source, _size(grad), border, filter)
    return _apply(rows.T, grad, columns.T)


def sizes(size: Size, levels: int, filter: str = "binomial") -> list[Size]:
    """The size of every level, the image's first."""
    out = [size]
    for _ in range(levels):
        out.append(halve(out[-1], filter))
    return out


def gaussian_pyramid(x: Array, levels: int, border: str = "reflect", filter: str = "binomial") -> list[Array]:
    """g_0 = x, g_{l+1} = pyr_down(g_l)."""
    out = [np.asarray(x, dtype=np.float64)]
    for _ in range(levels):
        out.append(pyr_down(out[-1], border, filter))
    return out


def gaussian_pyramid_adjoint(grads: Sequence[Array], border: str = "reflect", filter: str = "binomial") -> Array:
    total = np.asarray(grads[-1], dtype=np.float64)
    for grad in reversed(grads[:-1]):
        total = grad + pyr_down_adjoint(total, _size(grad), border, filter)
    return total


def laplacian_pyramid(
    x: Array, levels: int, border: str = "reflect", filter: str = "binomial", sign: float = -1.0
) -> list[Array]:
    """h_l = g_l - pyr_up(g_{l+1}), then g_L. With sign = 1 and |x|: what the rounding errors are proportional to."""
    g = gaussian_pyramid(x, levels, border, filter)
    bands = [fine + sign * pyr_up(coarse, _size(fine), border, filter) for fine, coarse in pairwise(g)]
    return [*bands, g[-1]]


def laplacian_pyramid_adjoint(
    grads: Sequence[Array], border: str = "reflect", filter: str = "binomial", sign: float = -1.0
) -> Array:
    """bands = (I - U shifted) applied to the Gaussian levels; transpose that, then the Gaussian pyramid."""
    on_gaussian = [np.array(grad, dtype=np.float64) for grad in grads]
    for level, grad in enumerate(grads[:-1]):
        on_gaussian[level + 1] += sign * pyr_up_adjoint(grad, _size(grads[level + 1]), border, filter)
    return gaussian_pyramid_adjoint(on_gaussian, border, filter)


def collapse(pyramid: Sequence[Array], border: str = "reflect", filter: str = "binomial") -> Array:
    """r_L = p_L, r_l = p_l + pyr_up(r_{l+1})."""
    image = np.asarray(pyramid[-1], dtype=np.float64)
    for band in reversed(pyramid[:-1]):
        image = band + pyr_up(image, _size(band), border, filter)
    return image


def collapse_adjoint(grad: Array, levels: int, border: str = "reflect", filter: str = "binomial") -> list[Array]:
    out = [np.asarray(grad, dtype=np.float64)]
    for size in sizes(_size(grad), levels, filter)[1:]:
        out.append(pyr_up_adjoint(out[-1], size, border, filter))
    return out


def blend(a: Array, b: Array, mask: Array, levels: int, border: str = "reflect", filter: str = "binomial") -> Array:
    """Burt & Adelson, "A multiresolution spline with application to image mosaics", 1983: the bands of two images, averaged under
    the mask's own Gaussian pyramid, collapsed."""
    bands_a, bands_b = (laplacian_pyramid(x, levels, border, filter) for x in (a, b))
    weights = gaussian_pyramid(np.broadcast_to(mask, a.shape), levels, border, filter)
    mixed = [m * x + (1 - m) * y for m, x, y in zip(weights, bands_a, bands_b, strict=True)]
    return collapse(mixed, border, filter)


def down_reach(spoiled: Array, border: str = "reflect", filter: str = "binomial") -> Array:
    """Which outputs of pyr_down have a tap on a spoiled input."""
    return pyr_down(spoiled.astype(np.float64), border, filter) > 0


def up_reach(spoiled: Array, size: Size | None = None, border: str = "reflect", filter: str = "binomial") -> Array:
    return pyr_up(spoiled.astype(np.float64), size, border, filter) > 0


def laplacian_reach(spoiled: Array, levels: int, border: str = "reflect", filter: str = "binomial") -> list[Array]:
    g = [spoiled]
    for _ in range(levels):
        g.append(down_reach(g[-1], border, filter))
    bands = [fine | up_reach(coarse, _size(fine), border, filter) for fine, coarse in pairwise(g)]
    return [*bands, g[-1]]
