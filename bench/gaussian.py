"""Reparameterised draws, KL and likelihood against eager PyTorch, its own randn included."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

import lapcore

from .harness import Build, Case, Goal, Peers, Work, by_backend, of_ceiling, times

SMALL, LARGE = (256, 128), (64, 64, 32, 32)


def torch_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1).flatten(1).sum(1)


def torch_sample(mean: Tensor, logvar: Tensor) -> Tensor:
    return mean + (logvar / 2).exp() * torch.randn_like(mean)


def torch_nll(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (math.log(2 * math.pi) + logvar + (x - mean).square() / logvar.exp()).flatten(1).sum(1)


def case(found: Peers, op: str, shape: tuple[int, ...], backward: bool = False, goals: tuple[Goal, ...] = ()) -> Case:
    x, mean, logvar = torch.randn(3, *shape).unbind()
    given = [mean.clone().requires_grad_(backward), logvar.clone().requires_grad_(backward)]

    def finish(z: Tensor, kl: Tensor) -> object:
        return torch.autograd.grad((z, kl), given, (x, torch.ones(shape[0]))) if backward else (z, kl)

    # op: (ours, PyTorch's, planes read and written)
    works: dict[str, tuple[Work, Work, int]] = {
        "reparameterize": (lambda: lapcore.reparameterize(mean, logvar, 1), lambda: torch_sample(mean, logvar), 3),
        "gaussian_kl": (lambda: lapcore.gaussian_kl(mean, logvar), lambda: torch_kl(mean, logvar), 2),
        "gaussian_nll": (lambda: lapcore.gaussian_nll(x, mean, logvar), lambda: torch_nll(x, mean, logvar), 3),
        "reparameterize_kl": (
            lambda: finish(*lapcore.reparameterize_kl(given[0], given[1], seeds=1)),
            lambda: finish(torch_sample(*given), torch_kl(*given)),
            8 if backward else 3,
        ),
    }
    ours, eager, planes = works[op]
    rivals = found.only_wanted({"torch eager": eager})
    return Case(op, planes * mean.nbytes, by_backend(ours, op, mean), rivals, goals)


def cases(found: Peers) -> dict[str, Build]:
    """Every case by name, built when it is measured."""
    built: dict[str, Build] = {}
    for shape in (SMALL, LARGE):
        size = "x".join(map(str, shape))
        for op in ("reparameterize", "gaussian_kl", "gaussian_nll", "reparameterize_kl"):
            built[f"{op} {size}"] = partial(case, found, op, shape)
        goals = (times("C7", "torch eager", 3), *((of_ceiling("C7", 70),) if shape == LARGE else ()))
        built[f"reparameterize_kl {size} forward+backward"] = partial(
            case, found, "reparameterize_kl", shape, True, goals
        )
    return built
