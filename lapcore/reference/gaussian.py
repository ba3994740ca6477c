"""Diagonal Gaussians in plain PyTorch: the readable definition, and its gradients (Kingma & Welling 2014, app. B).

Everything is computed in float32, or in float64 where an input is. Log-variances may be anything, infinities included:
a result is exact where it is finite and infinite where it is not, and no infinity meets another, or zero, to make a
NaN. The gradients are differentiable PyTorch themselves, in the dtype of the computation, so second derivatives follow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lapcore.reference import random


def reparameterize(mean: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    """z = mean + exp(logvar/2) * noise, rounded once to the dtype of `mean`."""
    return scaled_noise(logvar, seeds, stream).add_(mean).to(mean.dtype)


def scaled_noise(logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    """exp(logvar/2) * noise, in the accumulation dtype; twice the derivative of z with respect to `logvar`."""
    logvar = _accumulated(logvar)
    noise = random.normal(logvar.shape, seeds, stream, logvar.device, logvar.dtype)
    root = _fourth_root(logvar)
    return noise.mul_(root).mul_(root)


def gaussian_kl(mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None) -> Tensor:
    """KL(q||p) = 1/2 sum [ x' - x + d^2 / exp(lp) ], x = lq - lp, x' = exp(x) - 1, d = mq - mp."""
    ratio, _, whitened = _compare(mean, logvar, prior_mean, prior_logvar)
    excess = torch.expm1(ratio) - ratio.clamp(max=torch.finfo(ratio.dtype).max)
    return _sum_rows(excess.clamp_min(0) + whitened.square()) / 2


def reparameterize_kl(
    mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None, seeds: Tensor, stream: int
) -> tuple[Tensor, Tensor]:
    """(z, kl) of the two functions above."""
    return reparameterize(mean, logvar, seeds, stream), gaussian_kl(mean, logvar, prior_mean, prior_logvar)


def gaussian_kl_backward(
    grad: Tensor, mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of `gaussian_kl`: d/dmq = d / exp(lp) = -d/dmp, d/dlq = x'/2, d/dlp = -(x' + d^2 / exp(lp)) / 2."""
    ratio, lp, whitened = _compare(mean, logvar, prior_mean, prior_logvar)
    excess = torch.expm1(ratio)
    d_mean = chain(grad, _scale(whitened, -lp))
    d_prior_mean = None if prior_mean is None else -d_mean
    d_prior_logvar = None if prior_logvar is None else chain(grad, -(excess + whitened.square()) / 2)
    return d_mean, chain(grad, excess / 2), d_prior_mean, d_prior_logvar


def gaussian_nll(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """-log N(x; mean, exp(logvar)) = 1/2 sum [ ln 2 pi + logvar + (x - mean)^2 / exp(logvar) ]."""
    lv = _accumulated(logvar)
    square = _scale(_difference(_accumulated(x), _accumulated(mean)), -lv).square()
    # Off its mean a vanishing variance gives no density: +inf, though logvar is -inf.
    return _sum_rows(torch.where(square.isposinf(), square, square + lv + math.log(2 * math.pi))) / 2


def gaussian_nll_backward(grad: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `gaussian_nll`: d/dx = d / exp(logvar) = -d/dmean, d/dlogvar = (1 - d^2 / exp(logvar)) / 2; d = x -
    mean."""
    lv = _accumulated(logvar)
    whitened = _scale(_difference(_accumulated(x), _accumulated(mean)), -lv)
    d_x = chain(grad, _scale(whitened, -lv))
    return d_x, -d_x, chain(grad, (1 - whitened.square()) / 2)


def _compare(
    mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """lq - lp, lp, and (mq - mp) / exp(lp/2)."""
    d, lq = _accumulated(mean), _accumulated(logvar)
    if prior_mean is not None:
        d = _difference(d, _accumulated(prior_mean))
    if prior_logvar is None:
        return lq, torch.zeros((), dtype=lq.dtype, device=lq.device), d
    lp = _accumulated(prior_logvar)
    return _difference(lq, lp), lp, _scale(d, -lp)


def _accumulated(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """a - b, and 0 between equal infinities."""
    return torch.where(a.isinf() & (a == b), 0, a - b)


def _fourth_root(logvar: Tensor) -> Tensor:
    """exp(logvar / 4), held inside the normal numbers: only beyond them could it differ in a product that is finite."""
    limit = math.floor(-math.log(torch.finfo(logvar.dtype).smallest_normal))
    return torch.exp((logvar / 4).clamp(-limit, limit))


def _scale(d: Tensor, logvar: Tensor) -> Tensor:
    """d * exp(logvar / 2) in two steps, for d may bring back into range what exp alone would carry out of it."""
    root = _fourth_root(logvar)
    return d * root * root


def chain(grad: Tensor, derivative: Tensor) -> Tensor:
    """grad * derivative; grad[i] may stand for all of row i. What is not used (grad 0) has no gradient, even at inf."""
    grad = grad.reshape(*grad.shape, *(1,) * (derivative.ndim - grad.ndim))
    return grad * derivative.masked_fill(derivative.isinf() & (grad == 0), 0)


def _sum_rows(terms: Tensor) -> Tensor:
    """The sum over all but the first dimension; +inf where it meets -inf. torch sums in a tree: errors grow as log
    n."""
    rows = terms.reshape(terms.shape[0], math.prod(terms.shape[1:]))
    total = rows.sum(1)
    lowest = torch.finfo(rows.dtype).min
    return torch.where(total.isnan(), rows.clamp_min(lowest).sum(1), total)
