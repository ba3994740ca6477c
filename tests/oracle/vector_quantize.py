"""The nearest code of each row, by the differences themselves, in float64."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def distances(z: Array, codebook: Array) -> Array:
    """||z_n - e_k||^2: (N, K) of z (N, D) and codebook (K, D)."""
    z, codebook = np.asarray(z, dtype=np.float64), np.asarray(codebook, dtype=np.float64)
    columns = [np.square(z - code).sum(axis=1) for code in codebook]
    return np.stack(columns, axis=1) if columns else np.zeros((len(z), 0))


def vector_quantize(z: Array, codebook: Array) -> tuple[Array, Array]:
    """The nearest code of each row, in the codebook's own type, and its index; the lowest of equals. A NaN distance is never the
    nearest; where all are NaN the index is 0."""
    table = distances(z, codebook)
    indices = np.where(np.isnan(table), np.inf, table).argmin(axis=1)
    return np.asarray(codebook)[indices], indices


def excess(z: Array, codebook: Array, indices: Array) -> Array:
    """How much further than the nearest the code chosen for each row is, as a difference of squared distances: (N,)."""
    table = distances(z, codebook)
    return table[np.arange(len(table)), indices] - table.min(axis=1)


def magnitude(z: Array, codebook: Array) -> Array:
    """(N,): the largest |e|^2 / 2 + |z| . |e|, what the rounding error of |e|^2 / 2 - z . e is proportional to."""
    z, codebook = np.asarray(z, dtype=np.float64), np.asarray(codebook, dtype=np.float64)
    return (np.square(codebook).sum(axis=1) / 2 + abs(z) @ abs(codebook).T).max(axis=1)
