"""How far from the true ones the mixtures' values, gradients and draws may be: csrc/common/logistic.h and csrc/cuda/likelihood.cu
operation by operation, in numbers that carry the bound of their error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from lapcore.reference.likelihood import EDGE, FLOOR, LOG_STEP, OFFICIAL_LEAST, SERIES
from tests.oracle.likelihood import Mixture, unpack
from tests.rounding import Array, Rounded, where


@dataclass(frozen=True)
class Term:
    line: Rounded
    q: Rounded
    d_mean: Rounded
    d_log_scale: Rounded


def constant(value: float, unit: float) -> Rounded:
    """One that has to be rounded to be stored."""
    return Rounded(np.float64(value), unit * abs(value), unit)


def exact(value: Array, unit: float) -> Rounded:
    return Rounded(value, 0.0, unit)


def term_of(x: Array, mean: Rounded, log_scale: Array, official: bool) -> Term:
    """(N, K, H, W) each; x is (N, 1, H, W)."""
    unit = mean.unit
    edge, right = np.abs(x) > EDGE, x > EDGE
    side, one_step = np.where(right, -1.0, 1.0), constant(1 / 255, unit)
    s = np.maximum(log_scale, FLOOR)
    inv = exact(-s, unit).exp()
    centred = x - mean
    # A product with 1 or -1 is exact.
    w = inv * (Rounded(side * centred.value, centred.error, unit) + where(edge, one_step, 0.0))
    negative, size = w.value < 0, abs(w)
    u, delta = (-size).exp(), inv * one_step
    z = -(-delta).expm1()
    h, y = 1.0 - z, delta + delta
    series = 1.0 - y * 0.5 + y * y * constant(1 / 6, unit)
    phi = where(y.value < SERIES, series, z * (2.0 - z) / y)
    below, outer = (u + h) * (1.0 + u * h), 1.0 + u
    above, rise, width, spread = phi, h, h * h / phi, delta * h * (1.0 + u * u + 2.0 * u * h)
    if official:
        far = y.value * u.value * phi.value <= OFFICIAL_LEAST * below.value
        above, rise, width, spread = (
            where(far, a, b) for a, b in ((1.0, above), (1.0, rise), (1.0, width), (0.0, spread))
        )
        below = where(far, outer * outer, below)
    share = 1.0 / where(edge, outer, below)
    inner = rise * (1.0 - u) * outer
    slope = share * where(edge, where(negative, 1.0, u), where(negative, inner, -inner))
    d_log_scale = -w * slope - where(edge, 0.0, spread * share + width)
    return Term(
        line=where(edge, where(negative, w, 0.0), constant(LOG_STEP, unit) - s - size),
        q=where(edge, share, above * share),
        d_mean=inv * slope,
        d_log_scale=where(log_scale < FLOOR, 0.0, d_log_scale),
    )


def coefficient_of(z: Array, unit: float) -> tuple[Rounded, Rounded]:
    """tanh z, and its derivative."""
    e = exact(-2 * np.abs(z), unit).expm1()
    r = 1.0 / (e + 2.0)
    return -e * r, (e + 1.0) * r * r * 4.0


@dataclass(frozen=True)
class Pixels:
    """Of every pixel, what both directions need: (N, K, H, W), or (N, H, W) for sums over components."""

    x: Array
    terms: list[Term]
    coefficients: list[tuple[Rounded, Rounded]]
    exponent: Rounded
    q: Rounded
    prior: Rounded  # exp(logit - top)
    logits: Rounded
    best: Rounded
    weights: Rounded


def pixels_of(params: Array, x: Array, official: bool, unit: float) -> Pixels:
    mixture: Mixture = unpack(params, x.shape[1])
    channels = x.shape[1]
    means = [exact(mixture.means[:, c], unit) for c in range(channels)]
    coefficients = [coefficient_of(mixture.coefficients[:, i], unit) for i in range(mixture.coefficients.shape[1])]
    at = [x[:, c, None] for c in range(channels)]
    if channels == 3:
        means[1] = means[1] + coefficients[0][0] * at[0]
        means[2] = means[2] + coefficients[1][0] * at[0] + coefficients[2][0] * at[1]
    terms = [term_of(at[c], means[c], mixture.log_scales[:, c], official) for c in range(channels)]
    centred = exact(mixture.logits, unit) - mixture.logits.max(1, keepdims=True)
    exponent = reduce(Rounded.__add__, (term.line for term in terms), centred)
    q, prior = reduce(Rounded.__mul__, (term.q for term in terms)), centred.exp()
    logits, best, weights = prior[:, 0], exponent[:, 0], q[:, 0]
    for k in range(1, mixture.logits.shape[1]):
        logits = logits + prior[:, k]
        larger = where(exponent.value[:, k] > best.value, exponent[:, k], best)
        weights = weights * (best - larger).exp() + q[:, k] * (exponent[:, k] - larger).exp()
        best = larger
    return Pixels(x, terms, coefficients, exponent, q, prior, logits, best, weights)


def of_nll(params: Array, x: Array, official: bool, unit: float) -> Array:
    """(N,). Pixels are added up in float64."""
    it = pixels_of(params, x, official, unit)
    value = (it.logits / it.weights).log() - it.best
    return value.error.sum((1, 2)) + unit * np.abs(value.value.sum((1, 2)))


def of_gradients(grad: Array, params: Array, x: Array, official: bool, unit: float) -> tuple[Array, Array]:
    """At params and at x."""
    it = pixels_of(params, x, official, unit)
    given = exact(grad[:, None, None], unit)
    prior, scale = (given / it.logits)[:, None], (-given / it.weights)[:, None]
    share = scale * (it.q * (it.exponent - it.best[:, None]).exp())
    parts = [prior * it.prior + share]
    at_x = [term.d_mean for term in it.terms]
    for c, term in enumerate(it.terms):
        parts += [share * term.d_mean, share * term.d_log_scale]
        if it.coefficients:
            of, on = ((1, 0), (2, 0), (2, 1))[c]
            parts.append(share * (it.terms[of].d_mean * it.x[:, None, on] * it.coefficients[c][1]))
    if it.coefficients:
        c0, c1, c2 = (value for value, _ in it.coefficients)
        at_x[0] = at_x[0] + c0 * at_x[1] + c1 * at_x[2]
        at_x[1] = at_x[1] + c2 * at_x[2]
    d_x = [share * slope for slope in at_x]
    summed = [reduce(Rounded.__add__, (d[:, k] for k in range(d.value.shape[1]))) for d in d_x]
    return np.concatenate([part.error for part in parts], axis=1), np.stack([d.error for d in summed], axis=1)


def of_draws(params: Array, uniforms: tuple[Array, Array], unit: float) -> Array:
    """(N, C, H, W), of values that go to no grid, of whatever component."""
    mixture = unpack(params, uniforms[1].shape[1])
    coefficients = [coefficient_of(mixture.coefficients[:, i], unit)[0] for i in range(mixture.coefficients.shape[1])]
    drawn: list[Array] = []
    for c in range(uniforms[1].shape[1]):
        u = exact(uniforms[1][:, c, None].astype(np.float64), unit)
        mean = exact(np.abs(mixture.means[:, c]), unit)
        for b in range(c):
            # Magnitudes are added up, and a value is within [-1, 1].
            mean = mean + abs(coefficients[c * (c - 1) // 2 + b]) * Rounded(np.float64(1), drawn[b], unit)
        noise = exact(np.maximum(mixture.log_scales[:, c], FLOOR), unit).exp() * (u.log() - (1.0 - u).log())
        drawn.append((mean + abs(noise)).error.max(1, keepdims=True))
    return np.concatenate(drawn, axis=1)
