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

import torch
from torch import Tensor

Size = tuple[int, int]
Entry = tuple[int, int, float]  # output, source, weight
Tables = tuple[Tensor, Tensor, Tensor, Tensor]

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def border_index(i: int, n: int, border: str) -> int:
    """The sample at position i of a line of n; n itself (a zero) beyond a constant border."""
    if 0 <= i < n:
        return i
    if border == "reflect":
        period = max(2 * (n - 1), 1)
        i %= period
        return i if i < n else period - i
    if border == "symmetric":
        i %= 2 * n
        return i if i < n else 2 * n - 1 - i
    if border == "replicate":
        return 0 if i < 0 else n - 1
    return i % n if border == "circular" else n


def blur(i: int, n: int, border: str) -> list[tuple[int, float]]:
    """The taps of the binomial kernel at sample i of a line of n."""
    return [(border_index(i + k - 2, n, border), weight) for k, weight in enumerate(BINOMIAL)]


def binomial_down(n: int, m: int, border: str) -> list[Entry]:
    return [(i, source, weight) for i in range(m) for source, weight in blur(2 * i, n, border)]


def up_index(i: int, n: int, border: str) -> int:
    """As border_index; for reflect OpenCV mirrors the upsampled grid, whose last sample repeats the source's last."""
    return n - 1 if border == "reflect" and i >= n else border_index(i, n, border)


def binomial_up(n: int, m: int, border: str) -> list[Entry]:
    entries: list[Entry] = []
    for i in range(m):
        j = i // 2
        after = up_index(j + 1, n, border)
        if i % 2:
            entries += [(i, j, 1 / 2), (i, after, 1 / 2)]
        else:
            entries += [(i, up_index(j - 1, n, border), 1 / 8), (i, j, 6 / 8), (i, after, 1 / 8)]
    return entries


def between(position: int, unit: int, n: int) -> list[tuple[int, float]]:
    """Linear interpolation of a line of n at position/unit, held constant beyond its ends."""
    j, rest = divmod(min(max(position, 0), (n - 1) * unit), unit)
    return [(j, 1 - rest / unit), (j + 1, rest / unit)] if rest else [(j, 1.0)]


def bilinear(i: int, n: int, m: int) -> list[tuple[int, float]]:
    """Sample i of n samples resampled to m, centres at i + 1/2: position (i + 1/2) n/m - 1/2."""
    return between((2 * i + 1) * n - m, 2 * m, n)


def half_pixel_down(n: int, m: int, border: str) -> list[Entry]:
    return [
        (i, source, near * weight)
        for i in range(m)
        for j, near in bilinear(i, n, m)
        for source, weight in blur(j, n, border)
    ]


def half_pixel_up(n: int, m: int, border: str) -> list[Entry]:
    return [
        (i, source, near * weight)
        for i in range(m)
        for j, weight in blur(i, m, border)
        if j < m
        for source, near in bilinear(j, n, m)
    ]


def area_down(n: int, m: int, border: str) -> list[Entry]:
    entries: list[Entry] = []
    for i in range(m):
        for j in range(i * n // m, -(-(i + 1) * n // m)):
            overlap = min((i + 1) * n, (j + 1) * m) - max(i * n, j * m)
            entries.append((i, j, overlap / n))
    return entries


def area_up(n: int, m: int, border: str) -> list[Entry]:
    return [(i, j, weight) for i in range(m) for j, weight in between(i * (n - 1), max(m - 1, 1), n)]


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
    if op.endswith("_adjoint"):
        entries = [(source, out, w) for out, source, w in forward(n_out, n_in, border) if source < n_out]
    else:
        entries = forward(n_in, n_out, border)

    taps: list[list[tuple[int, float]]] = [[] for _ in range(n_out)]
    for out, source, w in entries:
        taps[out].append((source, w))
    if filter != "binomial":
        taps = [merged(line, n_in) for line in taps]
    depth = max(map(len, taps))
    padded = [line + [(n_in, 0.0)] * (depth - len(line)) for line in taps]
    index = torch.tensor([[source for source, _ in line] for line in padded]).T.contiguous()
    weight = torch.tensor([[w for _, w in line] for line in padded], dtype=torch.float64).T.contiguous()
    return index, weight


def merged(line: list[tuple[int, float]], zero: int) -> list[tuple[int, float]]:
    """Taps on one sample added up, and those on a zero left out."""
    total: dict[int, float] = {}
    for source, weight in line:
        total[source] = total.get(source, 0.0) + weight
    total.pop(zero, None)
    return sorted(total.items())


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
