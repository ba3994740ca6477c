"""The likelihood of PixelCNN++, its gradient and its draws, against the official code's way in PyTorch, eager and compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lapcore

from .harness import Build, Case, Peers, Work, by_backend, largest_difference, mean_difference
from .peers import compiled

SHAPE, COMPONENTS = (32, 3, 32, 32), 10


def groups(params: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (N, 1, K, H, W), means, log-scales and coefficients (N, 3, K, H, W)."""
    means, log_scales, coefficients = params[:, k:].unflatten(1, (3, 3, k)).unbind(2)
    return params[:, None, :k], means, log_scales.clamp_min(-7), coefficients.tanh()


def moved(means: Tensor, c: Tensor, x: Tensor) -> Tensor:
    red, green = x[:, 0], x[:, 1]
    rest = means[:, 1] + c[:, 0] * red, means[:, 2] + c[:, 1] * red + c[:, 2] * green
    return torch.stack((means[:, 0], *rest), 1)


def official_nll(params: Tensor, x: Tensor, k: int) -> Tensor:
    """As PixelCNN++'s authors compute it: every case everywhere, and the one that counts picked."""
    logits, means, log_scales, c = groups(params, k)
    x = x[:, :, None]
    centred, inv = x - moved(means, c, x), torch.exp(-log_scales)
    upper, lower, middle = inv * (centred + 1 / 255), inv * (centred - 1 / 255), inv * centred
    mass = upper.sigmoid() - lower.sigmoid()
    density = middle - log_scales - 2 * F.softplus(middle) - math.log(127.5)
    inside = torch.where(mass > 1e-5, mass.clamp_min(1e-12).log(), density)
    log_p = torch.where(x > 0.999, -F.softplus(lower), inside)
    log_p = torch.where(x < -0.999, upper - F.softplus(upper), log_p)
    joint = log_p.sum(1) + logits[:, 0].log_softmax(1)
    return -joint.logsumexp(1).flatten(1).sum(1)


def official_draw(params: Tensor, k: int) -> Tensor:
    logits, means, log_scales, c = groups(params, k)
    gumbel = -torch.log(-torch.log(torch.empty_like(logits).uniform_(1e-5, 1 - 1e-5)))
    chosen = F.one_hot((logits + gumbel).argmax(2, keepdim=True), k).movedim(-1, 2).squeeze(3)
    mean, log_scale, c = ((part * chosen).sum(2) for part in (means, log_scales, c))
    u = torch.empty_like(mean).uniform_(1e-5, 1 - 1e-5)
    x = mean + log_scale.exp() * (u.log() - (1 - u).log())
    red = x[:, 0].clamp(-1, 1)
    green = (x[:, 1] + c[:, 0] * red).clamp(-1, 1)
    blue = (x[:, 2] + c[:, 1] * red + c[:, 2] * green).clamp(-1, 1)
    return torch.stack((red, green, blue), 1)


def inputs(shape: tuple[int, ...], k: int) -> tuple[Tensor, Tensor]:
    """What a network in training gives: means in the image, scales of some levels."""
    n, _, h, w = shape
    params = torch.randn(n, 10 * k, h, w)
    params[:, k:].unflatten(1, (3, 3, k))[:, :, 1].sub_(3)
    return params, torch.randint(0, 256, shape).float() / 127.5 - 1


def in_both_ways(
    found: Peers, function: Callable[..., Any], make: Callable[[Callable[..., Any]], Work]
) -> dict[str, Work]:
    works = {"torch eager": make(function)}
    if found.wants("torch.compile"):
        works["torch.compile"] = make(compiled(function))
    return found.only_wanted(works)


def nll(found: Peers, shape: tuple[int, ...] = SHAPE, k: int = COMPONENTS, backward: bool = False) -> Case:
    op = "discretized_logistic_mixture_nll"
    params, x = inputs(shape, k)
    params.requires_grad_(backward)

    def finish(value: Tensor) -> object:
        return (value, torch.autograd.grad(value.sum(), params)) if backward else value

    ours = by_backend(lambda: finish(lapcore.discretized_logistic_mixture_nll(params, x)), op, params)
    peers = in_both_ways(found, official_nll, lambda function: lambda: finish(function(params, x, k)))
    # Forward reads both once; backward reads them again and writes a gradient.
    moved_bytes = params.nbytes + x.nbytes + (2 * params.nbytes + x.nbytes if backward else 0)
    return Case(op, moved_bytes, ours, peers, difference=mean_difference if backward else largest_difference)


def draw(found: Peers, shape: tuple[int, ...] = SHAPE, k: int = COMPONENTS) -> Case:
    """Not put on the grid: a value in the middle between two points goes to either by the last bit."""
    op = "sample_discretized_logistic_mixture"
    params, _ = inputs(shape, k)
    seeds = torch.arange(shape[0])
    ours = by_backend(lambda: lapcore.sample_discretized_logistic_mixture(params, seeds, snap=False), op, params)
    peers = in_both_ways(found, official_draw, lambda function: lambda: function(params, k))
    pixels = shape[0] * shape[2] * shape[3]
    # The logits and, of one component, nine parameters are read, three values written.
    return Case(op, 4 * pixels * (k + 9 + 3), ours, peers, difference=mean_difference)


def cases(found: Peers) -> dict[str, Build]:
    """Every case by name, built when it is measured."""
    size = "x".join(map(str, SHAPE)) + f" K={COMPONENTS}"
    return {
        f"discretized_logistic_mixture_nll {size}": partial(nll, found),
        f"discretized_logistic_mixture_nll {size} forward+backward": partial(nll, found, backward=True),
        f"sample_discretized_logistic_mixture {size}": partial(draw, found),
    }
