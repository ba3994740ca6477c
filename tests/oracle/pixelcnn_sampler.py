"""Categorical draws by inversion, in float64."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def probabilities(logits: Array) -> Array:
    """(N, L): exp(logits - the largest), 1 for the largest even where infinite, 0 for NaN."""
    logits = np.asarray(logits, dtype=np.float64)
    largest = np.where(np.isnan(logits), -np.inf, logits).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        p = np.exp(logits - largest)
    return np.where(logits == largest, 1.0, np.where(np.isnan(p), 0.0, p))


def categorical(logits: Array, u: Array) -> Array:
    """(N,): the first k with p_0 + .. + p_k > u (p_0 + .. + p_{L-1}), else the last with p_k > 0, else 0."""
    indices = []
    for row, at in zip(probabilities(logits), np.asarray(u, dtype=np.float64), strict=True):
        past = np.flatnonzero(row.cumsum() > at * row.sum())
        positive = np.flatnonzero(row > 0)
        indices.append(past[0] if past.size else positive[-1] if positive.size else 0)
    return np.array(indices, dtype=np.int64)


def distance(logits: Array, u: Array, indices: Array) -> Array:
    """(N,): how far u is outside of the interval of the index that was drawn, as a part of the whole."""
    p = probabilities(logits)
    ends = p.cumsum(axis=1) / np.maximum(p.sum(axis=1, keepdims=True), 1e-300)
    rows = np.arange(len(p))
    high, low = ends[rows, indices], ends[rows, indices] - p[rows, indices] / np.maximum(p.sum(axis=1), 1e-300)
    return np.maximum(np.maximum(low - u, u - high), 0)
