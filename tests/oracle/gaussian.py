"""Diagonal Gaussians in float64: samples, divergences and their gradients, term by term."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def _float64(*arrays: Array) -> list[Array]:
    return [np.asarray(a, dtype=np.float64) for a in arrays]


def _rows(terms: Array) -> Array:
    return terms.reshape(terms.shape[0], -1).sum(axis=1) if terms.size else np.zeros(terms.shape[0])


def reparameterize(mean: Array, logvar: Array, noise: Array) -> Array:
    mean, logvar, noise = _float64(mean, logvar, noise)
    return mean + np.exp(logvar / 2) * noise


def reparameterize_gradients(grad: Array, logvar: Array, noise: Array) -> tuple[Array, Array]:
    """At mean and logvar."""
    grad, logvar, noise = _float64(grad, logvar, noise)
    return grad, grad * noise * np.exp(logvar / 2) / 2


def _prior(mean: Array, prior_mean: Array | None, prior_logvar: Array | None) -> tuple[Array, Array]:
    zero = np.zeros(mean.shape)
    return (zero if prior_mean is None else prior_mean), (zero if prior_logvar is None else prior_logvar)


def kl_terms(mean: Array, logvar: Array, prior_mean: Array | None = None, prior_logvar: Array | None = None) -> Array:
    """1/2 [lp - lq + (exp(lq) + (mq - mp)^2) / exp(lp) - 1], element by element."""
    mp, lp = _prior(mean, prior_mean, prior_logvar)
    mq, lq, mp, lp = _float64(mean, logvar, mp, lp)
    return (lp - lq + np.exp(lq - lp) + (mq - mp) ** 2 * np.exp(-lp) - 1) / 2


def gaussian_kl(
    mean: Array, logvar: Array, prior_mean: Array | None = None, prior_logvar: Array | None = None
) -> Array:
    return _rows(kl_terms(mean, logvar, prior_mean, prior_logvar))


def kl_magnitude(
    mean: Array, logvar: Array, prior_mean: Array | None = None, prior_logvar: Array | None = None
) -> Array:
    """The sum of the absolute summands: what a rounding error of the KL is proportional to."""
    mp, lp = _prior(mean, prior_mean, prior_logvar)
    mq, lq, mp, lp = _float64(mean, logvar, mp, lp)
    return _rows((abs(lp) + abs(lq) + np.exp(lq - lp) + (mq - mp) ** 2 * np.exp(-lp) + 1) / 2)


def kl_gradients(
    grad: Array, mean: Array, logvar: Array, prior_mean: Array | None = None, prior_logvar: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """At mean, logvar, prior_mean and prior_logvar; grad is (N,)."""
    mp, lp = _prior(mean, prior_mean, prior_logvar)
    mq, lq, mp, lp, g = _float64(mean, logvar, mp, lp, grad)
    g = g.reshape(-1, *[1] * (mq.ndim - 1))
    ratio, whitened = np.exp(lq - lp), (mq - mp) * np.exp(-lp)
    return g * whitened, g * (ratio - 1) / 2, -g * whitened, g * (1 - ratio - (mq - mp) * whitened) / 2


def reparameterize_kl(
    mean: Array, logvar: Array, noise: Array, prior_mean: Array | None = None, prior_logvar: Array | None = None
) -> tuple[Array, Array]:
    return reparameterize(mean, logvar, noise), gaussian_kl(mean, logvar, prior_mean, prior_logvar)


def gaussian_nll(x: Array, mean: Array, logvar: Array) -> Array:
    """1/2 sum [ln 2 pi + logvar + (x - mean)^2 / exp(logvar)]."""
    x, mean, logvar = _float64(x, mean, logvar)
    return _rows((np.log(2 * np.pi) + logvar + (x - mean) ** 2 * np.exp(-logvar)) / 2)


def nll_magnitude(x: Array, mean: Array, logvar: Array) -> Array:
    x, mean, logvar = _float64(x, mean, logvar)
    return _rows((np.log(2 * np.pi) + abs(logvar) + (x - mean) ** 2 * np.exp(-logvar)) / 2)


def nll_gradients(grad: Array, x: Array, mean: Array, logvar: Array) -> tuple[Array, Array, Array]:
    """At x, mean and logvar; grad is (N,)."""
    x, mean, logvar, g = _float64(x, mean, logvar, grad)
    g = g.reshape(-1, *[1] * (x.ndim - 1))
    whitened = (x - mean) * np.exp(-logvar)
    return g * whitened, -g * whitened, g * (1 - (x - mean) * whitened) / 2
