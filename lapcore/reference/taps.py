"""The 1-D operators of the pyramids as tables of taps: output i = sum_k weight[k, i] * line[index[k, i]].

An operator maps a line of n samples to m; `down` and `up` are given by a filter, the transposes follow from them.

binomial (Burt and Adelson 1983; OpenCV), K = 1 4 6 4 1 over 16:
    down   out[i] = sum_k K[k] x[b(2i + k)], k = -2..2, b the border rule; m = ceil(n/2)
    up     out[2i] = (x[i-1] + 6 x[i] + x[i+1]) / 8, out[2i+1] = (x[i] + x[i+1]) / 2; m = 2n-1 or 2n
half_pixel (kornia 0.9), R the bilinear resampling with sample centres at i + 1/2:
    down   R(K * x), the blur at n samples, extended by the border rule; any m
    up     K * R(x), the blur at m samples; any m
area (the LAPGAN code of Denton et al. 2015):
    down   the mean over [i n/m, (i+1) n/m), sample j being constant over [j, j+1); m <= n
    up     linear, the ends of both lines aligned: out[i] = x(i (n-1) / (m-1)); m >= n
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Size = tuple[int, int]
Indices = NDArray[np.int64]
Weights = NDArray[np.float64]
Taps = tuple[Indices, Weights]  # sources and weights, (m, K): K taps of each output, a source of n being a zero
Tables = tuple[Tensor, Tensor, Tensor, Tensor]

BINOMIAL = np.array([1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16])


def border_index(i: Indices, n: int, border: str) -> Indices:
    """The samples at positions i of a line of n; n itself (a zero) beyond a constant border."""
    if border == "reflect":
        period = max(2 * (n - 1), 1)
        i = i % period
        return np.where(i < n, i, period - i)
    if border == "symmetric":
        i = i % (2 * n)
        return np.where(i < n, i, 2 * n - 1 - i)
    if border == "replicate":
        return np.clip(i, 0, n - 1)
    return i % n if border == "circular" else np.where((i >= 0) & (i < n), i, n)


def blur(i: Indices, n: int, border: str) -> Taps:
    """The taps of the binomial kernel at samples i of a line of n."""
    return border_index(i[..., None] + np.arange(-2, 3), n, border), np.broadcast_to(BINOMIAL, (*i.shape, 5))


def binomial_down(n: int, m: int, border: str) -> Taps:
    return blur(2 * np.arange(m), n, border)


def up_index(i: Indices, n: int, border: str) -> Indices:
    """As border_index; for reflect OpenCV mirrors the upsampled grid, whose last sample repeats the source's last."""
    inside = border_index(i, n, border)
    return np.where(i >= n, n - 1, inside) if border == "reflect" else inside


def binomial_up(n: int, m: int, border: str) -> Taps:
    i = np.arange(m)
    own = i // 2
    before, after = up_index(own - 1, n, border), up_index(own + 1, n, border)
    even = np.stack([before, own, after], 1), np.array([1 / 8, 6 / 8, 1 / 8])
    odd = np.stack([own, after, np.full(m, n)], 1), np.array([1 / 2, 1 / 2, 0])
    is_odd = i[:, None] % 2 == 1
    return np.where(is_odd, odd[0], even[0]), np.where(is_odd, odd[1], even[1])


def between(position: Indices, unit: int, n: int) -> Taps:
    """Linear interpolation of a line of n at position/unit, held constant beyond its ends."""
    own, rest = np.divmod(np.clip(position, 0, (n - 1) * unit), unit)
    after = np.where(rest > 0, own + 1, n)
    return np.stack([own, after], -1), np.stack([1 - rest / unit, rest / unit], -1)


def bilinear(i: Indices, n: int, m: int) -> Taps:
    """Samples i of n samples resampled to m, centres at i + 1/2: position (i + 1/2) n/m - 1/2."""
    return between((2 * i + 1) * n - m, 2 * m, n)


def half_pixel_down(n: int, m: int, border: str) -> Taps:
    resampled, near = bilinear(np.arange(m), n, m)
    source, weight = blur(resampled, n, border)
    source = np.where(resampled[..., None] < n, source, n)
    return source.reshape(m, -1), (near[..., None] * weight).reshape(m, -1)


def half_pixel_up(n: int, m: int, border: str) -> Taps:
    blurred, weight = blur(np.arange(m), m, border)
    source, near = bilinear(blurred, n, m)
    source = np.where(blurred[..., None] < m, source, n)
    return source.reshape(m, -1), (near * weight[..., None]).reshape(m, -1)


def area_down(n: int, m: int, border: str) -> Taps:
    i = np.arange(m)[:, None]
    source = i * n // m + np.arange(-(-n // m) + 1)
    overlap = np.minimum((i + 1) * n, (source + 1) * m) - np.maximum(i * n, source * m)
    return np.where(overlap > 0, source, n), np.maximum(overlap, 0) / n


def area_up(n: int, m: int, border: str) -> Taps:
    return between(np.arange(m) * (n - 1), max(m - 1, 1), n)


FORWARD = {
    ("binomial", "down"): binomial_down,
    ("binomial", "up"): binomial_up,
    ("half_pixel", "down"): half_pixel_down,
    ("half_pixel", "up"): half_pixel_up,
    ("area", "down"): area_down,
    ("area", "up"): area_up,
}


@lru_cache(maxsize=256)
def tap_table(op: str, n_in: int, n_out: int, filter: str, border: str) -> tuple[Tensor, Tensor]:
    """(index, weight), both (K, n_out), of `down`, `up` or an `_adjoint` from n_in samples; index n_in stands for a zero.

    The taps of binomial's forward operators are in the order of the formulas; those of the others are in the order of the samples.
    """
    forward = FORWARD[filter, op.removesuffix("_adjoint")]
    taps = transposed(*forward(n_out, n_in, border), n_out) if op.endswith("_adjoint") else forward(n_in, n_out, border)
    index, weight = taps if filter == "binomial" else merged(*taps, n_in)
    return torch.from_numpy(index.T.copy()), torch.from_numpy(weight.T.copy())


def transposed(source: Indices, weight: Weights, n: int) -> Taps:
    """For each sample of a line of n the outputs that read it, in their order; m outputs, so that m is a zero."""
    m = len(source)
    output = np.broadcast_to(np.arange(m)[:, None], source.shape)
    read = source < n
    order = np.argsort(source[read], kind="stable")
    sample, output, weight = source[read][order], output[read][order], weight[read][order]
    first = np.searchsorted(sample, np.arange(n))
    place = np.arange(len(sample)) - first[sample]
    return padded((n, place.max() + 1), sample, place, output, m), padded(
        (n, place.max() + 1), sample, place, weight, 0.0
    )


def merged(source: Indices, weight: Weights, zero: int) -> Taps:
    """Taps in the order of their samples, those on one sample added up, those on a zero left out."""
    order = np.argsort(source, axis=1, kind="stable")
    source, weight = np.take_along_axis(source, order, 1), np.take_along_axis(weight, order, 1)
    is_new = np.ones(source.shape, bool)
    is_new[:, 1:] = source[:, 1:] != source[:, :-1]
    place = np.cumsum(is_new, 1) - 1
    depth = int((is_new & (source < zero)).sum(1).max())
    shape = len(source), depth + 1  # the last column takes what is left out
    at = np.where(source < zero, place, depth) + np.arange(len(source))[:, None] * shape[1]
    total = cast(Weights, np.bincount(at.ravel(), weight.ravel(), shape[0] * shape[1])).reshape(shape)
    index: Indices = np.full(shape, zero)
    index.ravel()[at] = source
    return index[:, :depth], total[:, :depth]


def padded(shape: tuple[int, int], line: Indices, place: Indices, values: NDArray[Any], absent: float) -> NDArray[Any]:
    table = np.full(shape, absent, values.dtype)
    table[line, place] = values
    return table


@lru_cache(maxsize=256)
def tables(
    op: str, source: Size, size: Size, filter: str, border: str, device: torch.device, dtype: torch.dtype
) -> Tables:
    """Index and weight of the rows' operator, then of the columns', on a device."""
    rows = tap_table(op, source[0], size[0], filter, border)
    columns = tap_table(op, source[1], size[1], filter, border)
    index, weight = zip(rows, columns, strict=True)
    rows_index, columns_index = (each.to(device) for each in index)
    rows_weight, columns_weight = (each.to(device, dtype) for each in weight)
    return rows_index, rows_weight, columns_index, columns_weight
