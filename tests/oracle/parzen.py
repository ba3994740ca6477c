"""Parzen windows in float64, by the differences themselves, and the multi-scale estimator of LAPGAN (Denton, Chintala, Szlam,
Fergus, NeurIPS 2015, appendix A) on orthonormal 2x2 blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def _rows(x: Array) -> Array:
    x = np.asarray(x, dtype=np.float64)
    return x.reshape(len(x), int(np.prod(x.shape[1:])))


def _exponents(x: Array, samples: Array, sigma: float) -> Array:
    """-1/2 ||(x_n - mu_i) / sigma||^2: (N, M)."""
    columns = [-np.square((x - sample) / sigma).sum(axis=1) / 2 for sample in samples]
    return np.stack(columns, axis=1)


def _log_normaliser(dimensions: int, sigma: float) -> float:
    return dimensions * float(np.log(sigma) + np.log(2 * np.pi) / 2)


def _logmeanexp(t: Array) -> Array:
    return np.logaddexp.reduce(t, axis=1) - np.log(t.shape[1])


def parzen_log_likelihood(x: Array, samples: Array, sigma: float) -> Array:
    """logmeanexp_i(-1/2 ||(x - mu_i) / sigma||^2) - D ln(sigma sqrt(2 pi)), nats, (N,); x is (N, ...), samples (M, ...), M >= 1."""
    x, samples = _rows(x), _rows(samples)
    return _logmeanexp(_exponents(x, samples, sigma)) - _log_normaliser(x.shape[1], sigma)


def parzen_gradients(grad: Array, x: Array, samples: Array, sigma: float) -> tuple[Array, Array]:
    """At x and at samples, in their shapes; grad is (N,). With w_ni the share of sample i in the density at x_n, d LL_n / d mu_i =
    w_ni (x_n - mu_i) / sigma^2, and d LL_n / d x_n is minus the sum of these."""
    rows, centres = _rows(x), _rows(samples)
    exponents = _exponents(rows, centres, sigma)
    share = np.exp(exponents - np.logaddexp.reduce(exponents, axis=1, keepdims=True))
    weighted = np.asarray(grad, dtype=np.float64)[:, None] * share / sigma**2  # (N, M)
    at_x, at_samples = np.zeros(rows.shape), np.zeros(centres.shape)
    for i, centre in enumerate(centres):
        pull = weighted[:, i : i + 1] * (rows - centre)
        at_x -= pull
        at_samples[i] = pull.sum(axis=0)
    return at_x.reshape(np.shape(x)), at_samples.reshape(np.shape(samples))


def parzen_magnitude(x: Array, samples: Array, sigma: float) -> Array:
    """(N,): what the rounding errors of an evaluation through |x|^2 + |mu|^2 - 2 x . mu are proportional to."""
    x, samples = _rows(x), _rows(samples)
    expanded = (
        np.square(x).sum(axis=1) + np.square(samples).sum(axis=1).max() + 2 * (abs(x) @ abs(samples).T).max(axis=1)
    ) / 2
    return expanded / sigma**2 + x.shape[1] * (abs(np.log(sigma)) + np.log(2 * np.pi) / 2) + np.log(len(samples)) + 1


def haar_split(images: Array) -> tuple[Array, Array]:
    """Low (N, C, H/2, W/2) and high (N, C, 3, H/2, W/2) of images (N, C, H, W), H and W even: of each block a b / c d, low is
    (a + b + c + d) / 2, twice its mean, and high (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2. Orthonormal."""
    images = np.asarray(images, dtype=np.float64)
    a, b = images[:, :, 0::2, 0::2], images[:, :, 0::2, 1::2]
    c, d = images[:, :, 1::2, 0::2], images[:, :, 1::2, 1::2]
    return (a + b + c + d) / 2, np.stack([a - b + c - d, a + b - c - d, a - b - c + d], axis=2) / 2


def haar_merge(low: Array, high: Array) -> Array:
    """The inverse of haar_split."""
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    n, channels, h, w = low.shape
    across, down, diagonal = high[:, :, 0], high[:, :, 1], high[:, :, 2]
    images = np.zeros((n, channels, 2 * h, 2 * w))
    images[:, :, 0::2, 0::2] = low + across + down + diagonal
    images[:, :, 0::2, 1::2] = low - across + down - diagonal
    images[:, :, 1::2, 0::2] = low + across - down - diagonal
    images[:, :, 1::2, 1::2] = low - across - down + diagonal
    return images / 2


def multiscale_log_likelihood(
    images: Array, low_samples: Array, high_samples: Sequence[Array], sigmas: Sequence[float]
) -> Array:
    """log p(I) = log p(low) + sum over levels of log p(high | low), (N,). `high_samples` from the finest level on, each
    (N, M, C, 3, h, w): M samples for every image, drawn given that image's own low. `low_samples`, (M, C, h, w), are of the
    coarsest low. Both are in the orthonormal units of haar_split applied again and again. `sigmas` from the finest level on, the
    coarsest low's last."""
    low, total = np.asarray(images, dtype=np.float64), np.zeros(len(images))
    for samples, sigma in zip(high_samples, sigmas[:-1], strict=True):
        low, high = haar_split(low)
        total += [parzen_log_likelihood(high[n : n + 1], samples[n], sigma)[0] for n in range(len(high))]
    return total + parzen_log_likelihood(low, low_samples, sigmas[-1])
