"""Diagonal Gaussians in plain PyTorch: the readable definition, and its gradients (Kingma & Welling 2014, app. B).

Everything is computed in float32, or in float64 where an input is; draws and gradients are rounded once to the inputs'
dtype. Log-variances may be anything, infinities included: a result is exact where it is finite and infinite where it is
not, and no infinity meets another, or zero, to make a NaN. The gradients are differentiable PyTorch themselves, so that
second derivatives follow. Gradients come in the order of the tensors that they belong to; those of a prior that is not
there are left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lapcore.reference import random


def reparameterize(mean: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    """z = mean + exp(logvar/2) * noise."""
    return (_accumulated(mean) + _scaled_noise(logvar, seeds, stream)).to(mean.dtype)


def reparameterize_backward(grad: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    """d/dlogvar = exp(logvar/2) * noise / 2, the noise drawn again; the gradient at the mean is `grad` itself."""
    return _chain(grad, _scaled_noise(logvar, seeds, stream) / 2).to(logvar.dtype)


def _scaled_noise(logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    logvar = _accumulated(logvar)
    root = _fourth_root(logvar)
    return random.normal(logvar.shape, seeds, stream, logvar.device, logvar.dtype) * root * root


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
) -> list[Tensor]:
    """d/dmq = d / exp(lp) = -d/dmp, d/dlq = x'/2, d/dlp = -(x' + d^2 / exp(lp)) / 2."""
    found = _kl_gradients(grad, mean, logvar, prior_mean, prior_logvar)
    return [gradient.to(mean.dtype) for gradient in found]


def reparameterize_kl_backward(
    grad_z: Tensor,
    grad_kl: Tensor,
    mean: Tensor,
    logvar: Tensor,
    prior_mean: Tensor | None,
    prior_logvar: Tensor | None,
    seeds: Tensor,
    stream: int,
) -> list[Tensor]:
    """The sums of both functions' gradients."""
    d_mean, d_logvar, *d_prior = _kl_gradients(grad_kl, mean, logvar, prior_mean, prior_logvar)
    d_logvar = d_logvar + _chain(grad_z, _scaled_noise(logvar, seeds, stream) / 2)
    return [gradient.to(mean.dtype) for gradient in (d_mean + grad_z, d_logvar, *d_prior)]


def _kl_gradients(
    grad: Tensor, mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None
) -> list[Tensor]:
    ratio, lp, whitened = _compare(mean, logvar, prior_mean, prior_logvar)
    excess = torch.expm1(ratio)
    d_mean = _chain(grad, _scale(whitened, -lp))
    found = [d_mean, _chain(grad, excess / 2)]
    if prior_mean is not None:
        found.append(-d_mean)
    if prior_logvar is not None:
        found.append(_chain(grad, -(excess + whitened.square()) / 2))
    return found


def gaussian_nll(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """-log N(x; mean, exp(logvar)) = 1/2 sum [ ln 2 pi + logvar + (x - mean)^2 / exp(logvar) ]."""
    lv = _accumulated(logvar)
    square = _scale(_difference(_accumulated(x), _accumulated(mean)), -lv).square()
    # Off its mean a vanishing variance gives no density: +inf, though logvar is -inf.
    return _sum_rows(torch.where(square.isposinf(), square, square + lv + math.log(2 * math.pi))) / 2


def gaussian_nll_backward(grad: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> list[Tensor]:
    """d/dx = d / exp(logvar) = -d/dmean, d/dlogvar = (1 - d^2 / exp(logvar)) / 2; d = x - mean."""
    lv = _accumulated(logvar)
    whitened = _scale(_difference(_accumulated(x), _accumulated(mean)), -lv)
    d_x = _chain(grad, _scale(whitened, -lv))
    found = d_x, -d_x, _chain(grad, (1 - whitened.square()) / 2)
    return [gradient.to(x.dtype) for gradient in found]


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


def _chain(grad: Tensor, derivative: Tensor) -> Tensor:
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
