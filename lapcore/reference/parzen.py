"""Parzen windows in plain PyTorch: the density of a Gaussian kernel estimate, and its gradients, tile by tile.

LL(x) = logmeanexp_i(-||x - mu_i||^2 / (2 sigma^2)) - D ln(sigma sqrt(2 pi)). Half a squared distance is |x|^2 / 2 plus the score
|mu|^2 / 2 - x . mu; which sample is the nearest does not depend on sigma, so one least score serves the logsumexp of every sigma.
Rows and samples are taken relative to the samples' mean, which keeps what cancels in the score small. No (N, M) table ever exists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

ROWS, SAMPLES = 1024, 1024
"""The largest tile of scores."""


def parzen_log_likelihood(x: Tensor, samples: Tensor, sigmas: Sequence[float]) -> Tensor:
    """x (N, D), samples (M, D) -> (S, N) nats, float32, or float64 for float64.

    What is not finite, or whose square is not, is infinitely far from everything: -inf, never NaN. Only a NaN makes NaN: one in x
    for its row, one in the samples for all rows.
    """
    x, samples = x.contiguous(), samples.contiguous()
    centre, compute = _centre(samples), _compute(x)
    parts = []
    for rows in torch.split(x, ROWS):
        rows = rows.to(compute) - centre
        least, sums = _normalisers(rows, samples, centre, sigmas)
        norms = rows.square().sum(1) / 2
        half = torch.where(least < _largest(least), (least + norms).clamp_min(0), math.inf)
        parts.append(_assemble(half.where(~norms.isnan(), math.nan), sums, samples, sigmas).to(compute))
    broken = torch.stack([tile.isnan().any() for tile in torch.split(samples, SAMPLES)]).any()
    return torch.cat(parts, 1).masked_fill_(broken, math.nan)


def parzen_log_likelihood_backward(
    grad: Tensor, x: Tensor, samples: Tensor, sigmas: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The gradients at x and at the samples, rounded once to their dtype; grad is (S, N).

    With w_ni = sum_s grad_sn / sigma_s^2 softmax_i(-||x_n - mu_i||^2 / (2 sigma_s^2)): dx_n = sum_i w_ni (mu_i - x_n) and
    dmu_i = sum_n w_ni (x_n - mu_i). The softmax is found anew: a log-likelihood in the thousands is rounded too coarsely for it.
    """
    x, samples = x.contiguous(), samples.contiguous()
    centre, compute = _centre(samples), _compute(x)
    at_rows: list[Tensor] = []
    at_samples = torch.zeros(samples.shape, dtype=compute, device=x.device)
    for rows, grads in zip(torch.split(x, ROWS), torch.split(grad, ROWS, 1), strict=True):
        rows = rows.to(compute) - centre
        least, sums = _normalisers(rows, samples, centre, sigmas)
        at = torch.zeros_like(rows)
        for tile, at_tile in zip(torch.split(samples, SAMPLES), torch.split(at_samples, SAMPLES), strict=True):
            tile = tile.to(compute) - centre
            weights = _weights(_scores(rows, tile).sub_(least[:, None]), sums, grads, sigmas)
            at += weights @ tile - weights.sum(1, keepdim=True) * rows
            at_tile += weights.T @ rows - weights.sum(0)[:, None] * tile
        at_rows.append(at.to(x.dtype))
    return torch.cat(at_rows), at_samples.to(x.dtype)


def parzen_log_likelihood_backward_dense(
    grad: Tensor, x: Tensor, samples: Tensor, sigmas: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The same gradients as one differentiable expression over an (N, M) table: what second derivatives are taken of."""
    compute = _compute(x)
    centre = _centre(samples.detach())
    rows, centred = x.to(compute) - centre, samples.to(compute) - centre
    scores = centred.square().sum(1) / 2 - rows @ centred.T
    weights = torch.zeros_like(scores)
    for sigma, grads in zip(sigmas, grad, strict=True):
        precision = _precision(sigma, compute)
        weights = weights + precision * grads[:, None] * torch.softmax(-precision * scores, 1)
    at_rows = weights @ centred - weights.sum(1, keepdim=True) * rows
    at_samples = weights.T @ rows - weights.sum(0)[:, None] * centred
    return at_rows.to(x.dtype), at_samples.to(x.dtype)


def _compute(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _largest(x: Tensor) -> float:
    return torch.finfo(x.dtype).max


def _centre(samples: Tensor) -> Tensor:
    """(D,): the samples' mean, where it is finite."""
    return samples.mean(0, dtype=_compute(samples)).nan_to_num(0, 0, 0)


def _precision(sigma: float, dtype: torch.dtype) -> float:
    """1 / sigma^2, kept inside the normal numbers of a dtype so that it makes no NaN of a zero or of an infinity."""
    limits = torch.finfo(dtype)
    return min(max(1 / sigma / sigma, limits.tiny), limits.max)


def _scores(rows: Tensor, tile: Tensor) -> Tensor:
    """|mu|^2 / 2 - x . mu; the largest number for what is out of reach."""
    scores = torch.addmm(tile.square().sum(1) / 2, rows, tile.T, alpha=-1)
    largest = _largest(scores)
    return scores.nan_to_num_(largest, largest, largest)


def _normalisers(rows: Tensor, samples: Tensor, centre: Tensor, sigmas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """For each row the least score over all samples, (n,), and sum_i exp(-(score_i - least) / sigma^2), (S, n)."""
    least = rows.new_full((len(rows),), _largest(rows))
    sums = rows.new_zeros(len(sigmas), len(rows))
    for tile in torch.split(samples, SAMPLES):
        scores = _scores(rows, tile.to(rows.dtype) - centre)
        lower = torch.minimum(least, scores.amin(1))
        scores -= lower[:, None]
        for total, sigma in zip(sums, sigmas, strict=True):
            precision = _precision(sigma, rows.dtype)
            total.mul_(torch.exp(precision * (lower - least))).add_((-precision * scores).exp_().sum(1))
        least = lower
    return least, sums


def _assemble(half: Tensor, sums: Tensor, samples: Tensor, sigmas: Sequence[float]) -> Tensor:
    """The log-likelihoods, (S, n), float64: from half the least squared distance of each row and its sums."""
    count, dimensions = samples.shape
    result = torch.log(sums.double()) - math.log(count)
    for row, sigma in zip(result, sigmas, strict=True):
        row -= half.double() * _precision(sigma, torch.float64) + dimensions * (
            math.log(sigma) + math.log(2 * math.pi) / 2
        )
    return result


def _weights(excess: Tensor, sums: Tensor, grads: Tensor, sigmas: Sequence[float]) -> Tensor:
    """w of `parzen_log_likelihood_backward` for a tile, from what its scores exceed the least of their row by."""
    largest = _largest(excess)
    weights = torch.zeros_like(excess)
    for total, grad, sigma in zip(sums, grads, sigmas, strict=True):
        precision = _precision(sigma, excess.dtype)
        pull = (precision * grad.to(excess.dtype)).clamp(-largest, largest)
        weights += (-precision * excess).exp_().mul_((1 / total)[:, None]).mul_(pull[:, None])
    return weights
