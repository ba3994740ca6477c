"""These measures compare two sets of images by their features, (N, D) and (M, D): `lapcore.metrics.features` or others.

All arithmetic is float64, in blocks: no table of all pairs is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1 << 22
"""So many pairs are held at a time: 32 MiB of float64."""


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)): between Gaussians of the two sets' means and covariances.

    a, b: features (N, D) and (M, D), N and M at least 2, floating point. S divides by N - 1. On features of Inception-v3 it is the
    FID; on others it is not. It falls as N and M grow, most where they are below D: compare figures of equal N, M and network.
    Errors: TypeError, ValueError naming the argument. Deterministic.
    Source: Dowson and Landau 1982; Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017.

    Example:
        >>> import torch
        >>> from lapcore.metrics import frechet_distance
        >>> a = torch.tensor([[0.0], [2.0]])  # mean 1, variance 2
        >>> round(frechet_distance(a, 2 * a + 3), 6)  # mean 5, variance 8: 16 + (sqrt(8) - sqrt(2))^2
        18.0
    """
    a, b = _pair(a, b, at_least=2)
    centred = [(x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (a, b)]
    # S = R'R, so the eigenvalues of S_a S_b are the squares of the singular values of R_a R_b'.
    roots = [torch.linalg.qr(x, mode="r").R for x in centred]
    overlap = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    traces = torch.stack([x.square().sum() for x in centred]).sum()
    distance: float = ((a.mean(0) - b.mean(0)).square().sum() + traces - 2 * overlap).item()
    return max(0.0, distance)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """1000 times the unbiased estimate of MMD^2 with the kernel k(x, y) = (x.y / D + 1)^3, of the whole sets.

    MMD^2 = mean of k(a_i, a_j), i != j, + mean of k(b_i, b_j), i != j, - 2 mean of k(a_i, b_j). a, b: features (N, D) and (M, D), N
    and M at least 2, floating point. On features of Inception-v3 it is the KID, there often the mean over random subsets of 1,000,
    which estimates the same with more noise. 0 on average, and sometimes below, for sets of one distribution, whatever N and M.
    Errors: TypeError, ValueError naming the argument. Deterministic. Time: O((N + M)^2 D).
    Source: Binkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs, 2018.

    Example:
        >>> import torch
        >>> from lapcore.metrics import kernel_distance
        >>> a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [1.0]])
        >>> kernel_distance(a, b)  # 1 + 8 - 2 (1 + 1 + 8 + 8) / 4 = 0
        0.0
    """
    a, b = _pair(a, b, at_least=2)
    between = torch.stack([_kernel(part, b).sum() for part in torch.split(a, _rows(b))]).sum() / (len(a) * len(b))
    return 1000 * (_mean_within(a) + _mean_within(b) - 2 * between).item()


def prdc(real: Tensor, fake: Tensor, *, k: int = 3, k_coverage: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage of `fake`, (M, D), against `real`, (N, D).

    With B_k(x) the closed ball around x, of the distance to its k-th nearest neighbour in its own set:

    * precision: the share of fakes in B_k of some real;  recall: the share of reals in B_k of some fake;
    * density: how many reals' B_k' a fake is in, over k', mean over fakes, which may exceed 1;
    * coverage: the share of reals in whose B_k' some fake is.

    k' is `k_coverage`. N and M must exceed both; features are floating point. Deterministic. Time: O((N + M)^2 D).
    Errors: TypeError, ValueError naming the argument.
    Source: Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, 2019, k = 3; Naeem et al.,
    Reliable Fidelity and Diversity Metrics for Generative Models, 2020, k' = 5, whose code has open balls: it differs where
    distances tie.

    Example:
        >>> import torch
        >>> from lapcore.metrics import prdc
        >>> real, fake = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.5], [0.6], [9.0]])
        >>> prdc(real, fake, k=1, k_coverage=1)
        {'precision': 0.666..., 'recall': 0.666..., 'density': 1.333..., 'coverage': 0.666...}
    """
    for name, value in (("k", k), ("k_coverage", k_coverage)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
    real, fake = _pair(real, fake, at_least=max(k, k_coverage) + 1, names=("real", "fake"))
    real_radii, fake_radii = _radii(real, (k, k_coverage)), _radii(fake, (k,))[0]
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled, covered, inside = 0, 0, 0
    for rows, distances in _distances(real, fake):
        precise |= (distances <= real_radii[0][rows, None]).any(0)
        recalled += int((distances <= fake_radii).any(1).sum())
        in_ball = distances <= real_radii[1][rows, None]
        covered += int(in_ball.any(1).sum())
        inside += int(in_ball.sum())
    return {
        "precision": precise.double().mean().item(),
        "recall": recalled / len(real),
        "density": inside / (k_coverage * len(fake)),
        "coverage": covered / len(real),
    }


def _pair(a: Tensor, b: Tensor, *, at_least: int, names: tuple[str, str] = ("a", "b")) -> tuple[Tensor, Tensor]:
    for name, x in zip(names, (a, b), strict=True):
        if not x.is_floating_point():
            raise TypeError(f"{name}: expected floating-point features, got {x.dtype}")
        if x.dim() != 2 or len(x) < at_least or x.shape[1] == 0:
            raise ValueError(f"{name}: expected features (N, D), N at least {at_least}, got {tuple(x.shape)}")
        if not torch.isfinite(x).all():
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    if a.shape[1] != b.shape[1] or a.device != b.device:
        expected, got = (f"{x.shape[1]} features on {x.device}" for x in (a, b))
        raise ValueError(f"{names[1]}: expected {expected} as in {names[0]}, got {got}")
    return a.double(), b.double()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_within(x: Tensor) -> Tensor:
    """The mean of k(x_i, x_j), i != j: rows by the columns from theirs on, as k is symmetric."""
    sums = []
    for start in range(0, len(x), _rows(x)):
        part = x[start : start + _rows(x)]
        block = _kernel(part, x[start:])
        sums.append(2 * block.sum() - block[:, : len(part)].sum() - block.diagonal().sum())
    return torch.stack(sums).sum() / (len(x) * (len(x) - 1))


def _rows(b: Tensor) -> int:
    return max(1, BLOCK // len(b))


def _distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(rows of a, their squared distances to all of b), block by block."""
    squares = b.square().sum(1)
    for start in range(0, len(a), _rows(b)):
        part = a[start : start + _rows(b)]
        scale = squares + part.square().sum(1, keepdim=True)
        distances = torch.addmm(scale, part, b.T, alpha=-2)
        # What float32 features cannot tell apart coincides, whatever is left of the difference of large numbers.
        yield slice(start, start + len(part)), distances.masked_fill_(distances < 1e-12 * scale, 0)


def _radii(x: Tensor, ks: tuple[int, ...]) -> list[Tensor]:
    """Returns for each k the squared distance of every point to its k-th nearest other."""
    found = []
    for rows, distances in _distances(x, x):
        distances[torch.arange(len(distances)), torch.arange(rows.start, rows.stop)] = math.inf
        found.append(distances.topk(max(ks), dim=1, largest=False).values)
    nearest = torch.cat(found)
    return [nearest[:, k - 1] for k in ks]
