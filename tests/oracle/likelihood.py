"""Mixtures of discretised logistics in float64, by the formulas of PixelCNN++ (Salimans, Karpathy, Chen, Kingma, ICLR 2017).

The channels of `params`, for K components, are those of the authors' code (openai/pixel-cnn, pixel_cnn_pp/nn.py; NHWC there, NCHW
here). Colour, 10K: the K logits, then one block of 3K for red, one for green, one for blue, each of K means, K log-scales and K
coefficients (before tanh). Channel K + 3K c + jK + k is thus number j (0 mean, 1 log-scale, 2 coefficient) of component k of
colour c. The mean of green is moved by coefficient 0 (red's block) times red; that of blue by coefficient 1 times red and
coefficient 2 times green. Greyscale, 3K: K logits, K means, K log-scales. Log-scales below -7 count as -7.
x is (N, 3, H, W) or (N, 1, H, W) in [-1, 1].
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import NamedTuple

import numpy as np

Array = np.ndarray

FLOOR = -7.0
HALF_STEP = 1 / 255
MODES = ("exact", "official")


class Mixture(NamedTuple):
    logits: Array  # (N, K, H, W)
    means: Array  # (N, C, K, H, W), before the coefficients move them
    log_scales: Array  # (N, C, K, H, W), before the floor
    coefficients: Array  # (N, 3, K, H, W) before tanh, or (N, 0, K, H, W)


class Centred(NamedTuple):
    """(N, C, K, H, W) each: what a component's log-probability of a sub-pixel is made of."""

    x: Array
    offset: Array  # x - mean
    log_scale: Array
    inv: Array  # exp(-log_scale)


def unpack(params: Array, channels: int) -> Mixture:
    params = np.asarray(params, dtype=np.float64)
    n, width, h, w = params.shape
    per_channel = 3 if channels == 3 else 2
    k = width // (1 + per_channel * channels)
    assert width == k * (1 + per_channel * channels), f"{width} channels of params for {channels} of x"
    rest = params[:, k:].reshape(n, channels, per_channel, k, h, w)
    return Mixture(params[:, :k], rest[:, :, 0], rest[:, :, 1], rest[:, : 3 * (channels == 3), -1])


def sigmoid(t: Array) -> Array:
    return np.exp(-softplus(-t))


def softplus(t: Array) -> Array:
    return np.logaddexp(0, t)


def _logsumexp(t: Array, axis: int) -> Array:
    return np.logaddexp.reduce(t, axis=axis, keepdims=True)


def _conditional_means(mixture: Mixture, x: Array) -> Array:
    """x is (N, C, 1, H, W)."""
    means = mixture.means.copy()
    if x.shape[1] == 3:
        c = np.tanh(mixture.coefficients)
        means[:, 1] += c[:, 0] * x[:, 0]
        means[:, 2] += c[:, 1] * x[:, 0] + c[:, 2] * x[:, 1]
    return means


def _centred(mixture: Mixture, x: Array) -> Centred:
    x = np.asarray(x, dtype=np.float64)[:, :, None]
    offset = x - _conditional_means(mixture, x)
    log_scale = np.maximum(mixture.log_scales, FLOOR)
    return Centred(np.broadcast_to(x, offset.shape), offset, log_scale, np.exp(-log_scale))


def _ends(c: Centred) -> tuple[Array, Array, Array]:
    """The bin's ends and its width in units of the scale."""
    return c.inv * (c.offset + HALF_STEP), c.inv * (c.offset - HALF_STEP), 2 * HALF_STEP * c.inv


def _log_width(c: Centred, width: Array) -> Array:
    """log(1 - exp(-width)); its series where width is near or below the smallest float."""
    with np.errstate(divide="ignore"):
        return np.where(width > 1e-6, np.log(-np.expm1(-width)), np.log(2 * HALF_STEP) - c.log_scale - width / 2)


def _wide_enough(a: Array, b: Array) -> Array:
    """Where the official code takes the logarithm of the difference of the CDFs rather than of a density."""
    return sigmoid(a) - sigmoid(b) > 1e-5


def _log_probabilities(c: Centred, mode: str) -> Array:
    """(N, C, K, H, W)."""
    assert mode in MODES, mode
    a, b, width = _ends(c)
    if mode == "exact":
        inside = -softplus(-a) - softplus(b) + _log_width(c, width)
    else:
        mid = c.inv * c.offset
        density = mid - c.log_scale - 2 * softplus(mid) - np.log(127.5)
        inside = np.where(_wide_enough(a, b), np.log(np.maximum(sigmoid(a) - sigmoid(b), 1e-12)), density)
    return np.where(c.x < -0.999, -softplus(-a), np.where(c.x > 0.999, -softplus(b), inside))


def _log_joint(mixture: Mixture, c: Centred, mode: str) -> Array:
    """log p(component, pixel): (N, K, H, W)."""
    return mixture.logits - _logsumexp(mixture.logits, 1) + _log_probabilities(c, mode).sum(axis=1)


def discretized_logistic_mixture_nll(params: Array, x: Array, mode: str = "exact") -> Array:
    """Nats, (N,)."""
    mixture = unpack(params, np.shape(x)[1])
    return -_logsumexp(_log_joint(mixture, _centred(mixture, x), mode), 1).sum(axis=(1, 2, 3))


def nll_magnitude(params: Array, x: Array) -> Array:
    """(N,): what the rounding errors of the NLL are proportional to. No derivative of a log-probability at its bin's ends or at
    its log-scale exceeds 1 by much, so errors of the ends pass as they are; the sum over components weights by responsibility."""
    mixture = unpack(params, np.shape(x)[1])
    c = _centred(mixture, x)
    joint = _log_joint(mixture, c, "exact")
    responsibility = np.exp(joint - _logsumexp(joint, 1))
    ends = c.inv * (abs(mixture.means) + 2 * abs(c.x[:, :1]) + abs(c.x) + HALF_STEP + (0 if c.x.shape[1] == 1 else 1))
    terms = (ends * (1 + abs(c.log_scale)) + abs(c.log_scale) + abs(_log_probabilities(c, "exact"))).sum(axis=1)
    logits = abs(mixture.logits) + abs(_logsumexp(mixture.logits, 1))
    return (responsibility * (terms + logits + abs(joint) + 1)).sum(axis=(1, 2, 3))


def _slopes(c: Centred, mode: str) -> tuple[Array, Array]:
    """d log p / d mean and d log p / d log_scale of every sub-pixel, by the chain rule over a, b and the width: d a / d mean is
    -inv, d a / d log_scale is -a, and so on."""
    a, b, width = _ends(c)
    if mode == "exact":
        at_a, at_b = sigmoid(-a), -sigmoid(b)
        with np.errstate(invalid="ignore", over="ignore"):
            at_width = np.where(width > 1e-12, width / np.expm1(width), 1.0)
        mean, scale = -c.inv * (at_a + at_b), -(a * at_a + b * at_b + at_width)
    else:
        mid, wide = c.inv * c.offset, _wide_enough(a, b)
        difference = np.where(wide, sigmoid(a) - sigmoid(b), 1.0)
        at_a, at_b = sigmoid(a) * sigmoid(-a) / difference, -sigmoid(b) * sigmoid(-b) / difference
        at_mid = 1 - 2 * sigmoid(mid)
        mean = -c.inv * np.where(wide, at_a + at_b, at_mid)
        scale = -np.where(wide, a * at_a + b * at_b, mid * at_mid + 1)
    low, high = c.x < -0.999, c.x > 0.999
    mean = np.where(low, -c.inv * sigmoid(-a), np.where(high, c.inv * sigmoid(b), mean))
    scale = np.where(low, -a * sigmoid(-a), np.where(high, b * sigmoid(b), scale))
    return mean, scale


def discretized_logistic_mixture_nll_gradient(grad: Array, params: Array, x: Array, mode: str = "exact") -> Array:
    """At params; grad is (N,). A log-scale below the floor gets 0, one at it its slope."""
    channels = np.shape(x)[1]
    mixture = unpack(params, channels)
    c = _centred(mixture, x)
    joint = _log_joint(mixture, c, mode)
    responsibility = np.exp(joint - _logsumexp(joint, 1))
    weight = np.exp(mixture.logits - _logsumexp(mixture.logits, 1))
    mean, scale = (-responsibility[:, None] * slope for slope in _slopes(c, mode))
    blocks = [mean, np.where(mixture.log_scales >= FLOOR, scale, 0.0)]
    if channels == 3:
        derivative = 1 - np.tanh(mixture.coefficients) ** 2
        moved = np.stack([mean[:, 1] * c.x[:, 0], mean[:, 2] * c.x[:, 0], mean[:, 2] * c.x[:, 1]], axis=1)
        blocks.append(derivative * moved)
    n, _, h, w = mixture.logits.shape
    rest = np.stack(blocks, axis=2).reshape(n, -1, h, w)
    g = np.asarray(grad, dtype=np.float64).reshape(-1, 1, 1, 1)
    return g * np.concatenate([weight - responsibility, rest], axis=1)


def _decimal_sigmoid(t: Decimal) -> Decimal:
    return 1 / (1 + (-t).exp())


def _decimal_bin(value: Decimal, mean: Decimal, inv: Decimal) -> Decimal:
    """The difference of the CDF at the bin's ends, taken in the lower tail, where it cancels least."""
    a, b = inv * (value - mean + 1 / Decimal(255)), inv * (value - mean - 1 / Decimal(255))
    if value < Decimal("-0.999"):
        return _decimal_sigmoid(a)
    if value > Decimal("0.999"):
        return _decimal_sigmoid(-b)
    return _decimal_sigmoid(a) - _decimal_sigmoid(b) if a + b < 0 else _decimal_sigmoid(-b) - _decimal_sigmoid(-a)


def _decimal_tanh(t: Decimal) -> Decimal:
    return 1 - 2 / (1 + (2 * t).exp())


def _decimal_pixel(mixture: Mixture, pixel: Array, at: tuple[int, int, int]) -> Decimal:
    """p(pixel), as a sum of products of differences of CDFs."""
    n, h, w = at
    x = [Decimal(float(v)) for v in pixel]
    weights = [Decimal(float(v)).exp() for v in mixture.logits[n, :, h, w]]
    total = Decimal(0)
    for k, weight in enumerate(weights):
        means = [Decimal(float(v)) for v in mixture.means[n, :, k, h, w]]
        if len(x) == 3:
            c = [_decimal_tanh(Decimal(float(v))) for v in mixture.coefficients[n, :, k, h, w]]
            means = [means[0], means[1] + c[0] * x[0], means[2] + c[1] * x[0] + c[2] * x[1]]
        product = weight / sum(weights)
        for value, mean, log_scale in zip(x, means, mixture.log_scales[n, :, k, h, w], strict=True):
            inv = (-max(Decimal(float(log_scale)), Decimal(FLOOR))).exp()
            product *= _decimal_bin(value, mean, inv)
        total += product
    return total


def exact_nll_by_definition(params: Array, x: Array, digits: int = 60) -> list[Decimal]:
    """Mode "exact" by no formula but the definition: the nats of each row from differences of CDFs in decimal arithmetic, where
    nothing underflows and `digits` outlast what cancels. For small arrays."""
    mixture = unpack(params, np.shape(x)[1])
    n, _, height, width = np.shape(x)
    with localcontext() as context:
        context.prec = digits
        return [
            -sum(
                (_decimal_pixel(mixture, x[i, :, h, w], (i, h, w)).ln() for h in range(height) for w in range(width)),
                Decimal(0),
            )
            for i in range(n)
        ]


def to_grid(x: Array) -> Array:
    """The nearest of the 256 values 2 i / 255 - 1."""
    return np.floor(127.5 * (x + 1) + 0.5) / 127.5 - 1


def sample_discretized_logistic_mixture(params: Array, uniforms: tuple[Array, Array], snap: bool = True) -> Array:
    """(N, C, H, W) from two tensors of uniforms in (0, 1): (N, K, H, W) for the component, argmax of logits - log(-log u), the
    first of equals; (N, C, H, W) for the values, mean + scale (log u - log(1 - u)). Each value is clipped to [-1, 1] before it
    moves the next channel's mean. With `snap` it goes to the grid before that too: images then have exactly the probabilities of
    mode "exact", whose condition is the sub-pixels on the grid."""
    gumbel, logistic = (np.asarray(u, dtype=np.float64) for u in uniforms)
    channels = logistic.shape[1]
    mixture = unpack(params, channels)
    component = np.argmax(mixture.logits - np.log(-np.log(gumbel)), axis=1)[:, None, None]
    means, log_scales, coefficients = (
        np.take_along_axis(block, np.broadcast_to(component, block[:, :, :1].shape), axis=2)[:, :, 0]
        for block in (mixture.means, mixture.log_scales, mixture.coefficients)
    )
    noise = np.exp(np.maximum(log_scales, FLOOR)) * (np.log(logistic) - np.log1p(-logistic))
    c, x = np.tanh(coefficients), np.zeros(logistic.shape)
    for channel in range(channels):
        value = means[:, channel] + noise[:, channel]
        if channel == 1:
            value = value + c[:, 0] * x[:, 0]
        if channel == 2:
            value = value + c[:, 1] * x[:, 0] + c[:, 2] * x[:, 1]
        clipped = np.clip(value, -1, 1)
        x[:, channel] = to_grid(clipped) if snap else clipped
    return x


def bits_per_dim(nll: Array, shape: tuple[int, ...]) -> Array:
    """nll / (ln 2 * C * H * W); shape is x's."""
    return nll / (np.log(2) * np.prod(shape[1:]))
