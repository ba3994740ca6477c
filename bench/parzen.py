"""Parzen windows against PyTorch's own distances and products, each with its (N, M) table."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

import lapcore

from . import peers
from .harness import Build, Case, Goal, Peers, Work, by_backend, times


def log_likelihoods(squares: Tensor, sigmas: list[float], dimensions: int) -> Tensor:
    """From the table of squared distances."""
    return torch.stack(
        [
            torch.logsumexp(squares * (-0.5 / sigma**2), 1)
            - math.log(squares.shape[1])
            - dimensions * math.log(sigma * math.sqrt(2 * math.pi))
            for sigma in sigmas
        ]
    )


def by_distances(x: Tensor, samples: Tensor, sigmas: list[float]) -> Tensor:
    return log_likelihoods(torch.cdist(x, samples).square_(), sigmas, x.shape[1])


def by_products(x: Tensor, samples: Tensor, sigmas: list[float]) -> Tensor:
    squares = x.square().sum(1)[:, None] + samples.square().sum(1) - 2 * x @ samples.T
    return log_likelihoods(squares, sigmas, x.shape[1])


def case(
    found: Peers, rows: int, count: int, size: int, sigmas: list[float], goals: tuple[Goal, ...] = (), samples: int = 3
) -> Case:
    x, centres = torch.rand(rows, size), torch.rand(count, size)
    ways: dict[str, Work] = {
        "torch eager: cdist": partial(by_distances, x, centres, sigmas),
        "torch eager: product": partial(by_products, x, centres, sigmas),
    }
    if found.wants("torch.compile"):
        ways["torch.compile: product"] = partial(peers.compiled(by_products), x, centres, sigmas)
    ours = by_backend(
        lambda: lapcore.parzen_log_likelihood(x, centres, sigmas), "parzen_log_likelihood", x, centres, sigmas
    )
    return Case(
        "parzen_log_likelihood",
        0,
        ours,
        found.only_wanted(ways),
        goals,
        operations=2 * rows * count * size,
        peaks=True,
        least_samples=samples,
    )


def cases(found: Peers) -> dict[str, Build]:
    """Every case by name, built when it is measured; the table of the largest takes 400 MB."""
    ten = [0.1 * 10 ** (i / 9) for i in range(10)]
    goals = (times("C10", "torch eager", 2),)
    return {
        "parzen 10000x3072, 10000 samples, sigma 0.2": partial(case, found, 10000, 10000, 3072, [0.2], goals),
        "parzen 500x784, 10000 samples, 10 sigmas": partial(case, found, 500, 10000, 784, ten),
    }
