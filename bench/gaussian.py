"""Reparameterised draws, KL and likelihood against eager PyTorch, its own randn included."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import lapcore
from bench.harness import Case, main

SHAPES = ((256, 128), (64, 64, 32, 32))


def torch_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1).flatten(1).sum(1)


def torch_sample(mean: Tensor, logvar: Tensor) -> Tensor:
    return mean + (logvar / 2).exp() * torch.randn_like(mean)


def torch_nll(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (math.log(2 * math.pi) + logvar + (x - mean).square() / logvar.exp()).flatten(1).sum(1)


def gaussian_cases(shape: tuple[int, ...]) -> list[Case]:
    x, mean, logvar = torch.randn(3, *shape).unbind()
    trained = [mean.clone().requires_grad_(), logvar.clone().requires_grad_()]
    plane = 4 * mean.numel()

    def backward(z: Tensor, kl: Tensor) -> None:
        torch.autograd.grad((z, kl), trained, (x, torch.ones(shape[0])))

    def case(op: str, name: str, ours: object, planes: int, peer: object) -> Case:
        title = f"{name} {'x'.join(map(str, shape))}"
        return Case(op, title, ours, planes * plane, {"torch eager": peer})  # type: ignore[arg-type]

    return [
        case(
            "reparameterize",
            "reparameterize",
            lambda: lapcore.reparameterize(mean, logvar, 1),
            3,
            lambda: torch_sample(mean, logvar),
        ),
        case(
            "gaussian_kl", "gaussian_kl", lambda: lapcore.gaussian_kl(mean, logvar), 2, lambda: torch_kl(mean, logvar)
        ),
        case(
            "gaussian_nll",
            "gaussian_nll",
            lambda: lapcore.gaussian_nll(x, mean, logvar),
            3,
            lambda: torch_nll(x, mean, logvar),
        ),
        case(
            "reparameterize_kl",
            "reparameterize_kl",
            lambda: lapcore.reparameterize_kl(mean, logvar, seeds=1),
            3,
            lambda: (torch_sample(mean, logvar), torch_kl(mean, logvar)),
        ),
        case(
            "reparameterize_kl",
            "reparameterize_kl forward+backward",
            lambda: backward(*lapcore.reparameterize_kl(*trained, seeds=1)),
            8,
            lambda: backward(torch_sample(*trained), torch_kl(*trained)),
        ),
    ]


def cases() -> list[Case]:
    return [case for shape in SHAPES for case in gaussian_cases(shape)]


if __name__ == "__main__":
    main(cases())
