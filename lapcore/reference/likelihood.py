"""Mixtures of discretised logistics in plain PyTorch: the readable definition, its gradient by formula, and draws.

With w = inv (x - m), delta = inv / 255, u = exp(-|w|) and h = exp(-delta), the probability of a bin has no cancellation:

    sigmoid(w + delta) - sigmoid(w - delta) = (1 - h^2) u / ((u + h) (1 + u h))

and 1 - h^2 = 2 delta phi(2 delta), phi(y) = (1 - exp(-y)) / y. So for every channel log p = line + log q, where line is a sum
of terms that are added up and q lies in [0.1, 9], whatever the parameters: of a mixture's component one product of them is
kept. In the two edge bins log sigmoid(v) = min(v, 0) - log(1 + exp(-|v|)), with v = inv (x - m + 1/255) or its mirror image,
has that form too, and so has the official code's approximation. Everything is computed in float32, or in float64 for float64,
and pixels are added up in float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lapcore.reference import random

FLOOR = -7.0
EDGE = 0.999
LOG_STEP = math.log(2 / 255)
OFFICIAL_LEAST = 1e-5
"""The probability up to which the official code approximates that of a bin by its middle's density."""
SERIES = 1e-4
"""Below it phi is its series' first three terms, in float64 too."""


class Mixture(NamedTuple):
    """One of L pixels each: logits (N, K, L), means and log_scales (N, C, K, L), coefficients (N, 3, K, L) before the tanh, or
    None."""

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    coefficients: Tensor | None


class Channel(NamedTuple):
    """log p = line + log q of every component, and its derivatives at the mean (at x: minus that) and the log-scale."""

    line: Tensor
    q: Tensor
    d_mean: Tensor
    d_log_scale: Tensor


def groups(channels: int) -> int:
    """What each channel has K parameters of: means, log-scales and, of RGB, coefficients."""
    return 3 if channels == 3 else 2


def components(size: int, channels: int) -> int:
    """K of P = 10 K parameters for RGB, 3 K for grey."""
    return size // (1 + channels * groups(channels))


def computed(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def discretized_logistic_mixture_nll(params: Tensor, x: Tensor, mode: str) -> Tensor:
    """-log p(x) of every image; x in the type that is computed in."""
    mixture, pixels = _split(params, x.shape[1]), x.flatten(2)
    logits = mixture.logits - mixture.logits.amax(1, keepdim=True)
    best, weights = _weights(logits, _channels(mixture, pixels, mode))
    value = best + weights.sum(1).log() - logits.exp().sum(1).log()
    lowest = torch.finfo(x.dtype).min
    return torch.where(best <= lowest, math.inf, -value).double().sum(1).to(x.dtype)


def discretized_logistic_mixture_nll_backward(
    grad: Tensor, params: Tensor, x: Tensor, mode: str, with_x: bool
) -> list[Tensor]:
    """The gradients at params, in its dtype, and, if wanted, at x; differentiable themselves."""
    mixture, pixels = _split(params, x.shape[1]), x.flatten(2)
    logits = mixture.logits - mixture.logits.amax(1, keepdim=True)
    channels = _channels(mixture, pixels, mode)
    _, weights = _weights(logits, channels)
    scale = grad[:, None, None]
    share = scale * weights / weights.sum(1, keepdim=True)
    d_logits = scale * logits.softmax(1) - share
    d_means = [-share * channel.d_mean for channel in channels]
    parts = [d_logits]
    for c, channel in enumerate(channels):
        below = mixture.log_scales[:, c] < FLOOR
        parts += [d_means[c], torch.where(below, 0, -share * channel.d_log_scale)]
        if mixture.coefficients is not None:
            # c0 is of green's mean on red, c1 and c2 of blue's on red and green.
            of, on = ((1, 0), (2, 0), (2, 1))[c]
            squared = mixture.coefficients[:, c].tanh().square()
            parts.append(d_means[of] * pixels[:, None, on] * (1 - squared))
    d_params = torch.cat(parts, 1).view(params.shape).to(params.dtype)
    if not with_x:
        return [d_params]
    d_x = [-d for d in d_means]
    if mixture.coefficients is not None:
        c0, c1, c2 = mixture.coefficients.tanh().unbind(1)
        d_x = [d_x[0] + c0 * d_means[1] + c1 * d_means[2], d_x[1] + c2 * d_means[2], d_x[2]]
    return [d_params, torch.stack([d.sum(1) for d in d_x], 1).view(x.shape)]


def sample_discretized_logistic_mixture(
    params: Tensor, channels: int, seeds: Tensor, stream: int, snap: bool
) -> Tensor:
    """(N, C, H, W) in the type that is computed in. Noise: the uniforms (N, K + C, H, W) of seeds and stream, K for the choice
    of a component, then one for each channel."""
    n, size, height, width = params.shape
    shape = n, components(size, channels) + channels, height, width
    return draw(params, channels, random.uniform(shape, seeds, stream, params.device, torch.float32), snap)


def draw(params: Tensor, channels: int, u: Tensor, snap: bool) -> Tensor:
    """(N, C, H, W) from params (N, P, H, W) and the uniforms (N, K + C, H, W)."""
    n, _, height, width = params.shape
    mixture = _split(params, channels)
    count = mixture.logits.shape[1]
    u = u.to(mixture.logits.dtype).flatten(2)
    score = mixture.logits - (-u[:, :count].log()).log()
    order = torch.arange(count, device=params.device)[:, None]
    first = torch.where(score == score.amax(1, keepdim=True), order, count).amin(1, keepdim=True)

    def chosen(values: Tensor) -> Tensor:
        """(N, C, K, L) -> (N, C, L)"""
        return values.gather(2, first.unsqueeze(1).expand(-1, values.shape[1], -1, -1)).squeeze(2)

    means, log_scales = chosen(mixture.means), chosen(mixture.log_scales)
    scales = log_scales.clamp_min(FLOOR).exp().clamp_max(torch.finfo(u.dtype).max)
    noise = scales * (u[:, count:].log() - (1 - u[:, count:]).log())
    drawn: list[Tensor] = []
    for c in range(channels):
        mean = means[:, c]
        if c and mixture.coefficients is not None:
            factors = chosen(mixture.coefficients).tanh()[:, c * (c - 1) // 2 :]
            mean = sum((factors[:, i] * drawn[i] for i in range(c)), mean)
        value = (mean + noise[:, c]).clamp(-1, 1)
        drawn.append(((value + 1) * 127.5).round() / 127.5 - 1 if snap else value)
    return torch.stack(drawn, 1).view(n, channels, height, width)


def _split(params: Tensor, channels: int) -> Mixture:
    size = params.shape[1]
    count = components(size, channels)
    flat = params.flatten(2).to(computed(params.dtype))
    rest = flat[:, count:].reshape(len(flat), channels, groups(channels), count, flat.shape[2]).unbind(2)
    return Mixture(flat[:, :count], *rest, *([None] if channels == 1 else []))


def _channels(mixture: Mixture, x: Tensor, mode: str) -> list[Channel]:
    means = list(mixture.means.unbind(1))
    if mixture.coefficients is not None:
        red, green, _ = x.unsqueeze(2).unbind(1)
        c0, c1, c2 = mixture.coefficients.tanh().unbind(1)
        means[1] = means[1] + c0 * red
        means[2] = means[2] + c1 * red + c2 * green
    scales = mixture.log_scales.clamp_min(FLOOR).unbind(1)
    return [_channel(x[:, c, None], mean, s, mode) for c, (mean, s) in enumerate(zip(means, scales, strict=True))]


def _channel(x: Tensor, mean: Tensor, log_scale: Tensor, mode: str) -> Channel:
    largest = torch.finfo(x.dtype).max
    right, edge = x > EDGE, x.abs() > EDGE
    side, offset = 1 - 2 * right.to(x.dtype), edge.to(x.dtype) / 255
    inv = torch.exp(-log_scale)
    w = (inv * (side * (x - mean) + offset)).clamp(-largest, largest)  # beyond that, inf * 0 would be NaN in a gradient
    sign = 1 - 2 * (w < 0).to(x.dtype)
    size = w * sign
    u = torch.exp(-size)
    delta = inv / 255
    h, phi = torch.exp(-delta), _phi(2 * delta)
    below = (u + h) * (1 + u * h)
    q = phi / below
    slope = -sign * h * (1 - u) * (1 + u) / below
    width = delta * h * (1 + u * u + 2 * u * h) / below + h * h / phi
    if mode == "official":
        far = 2 * delta * u * q <= OFFICIAL_LEAST
        q = torch.where(far, 1 / (1 + u).square(), q)
        slope = torch.where(far, -sign * (1 - u) / (1 + u), slope)
        width = torch.where(far, 1.0, width)
    slope = torch.where(edge, torch.where(w < 0, 1.0, u) / (1 + u), slope)
    return Channel(
        line=torch.where(edge, w.clamp_max(0), LOG_STEP - log_scale - size),
        q=torch.where(edge, 1 / (1 + u), q),
        d_mean=-side * inv * slope,
        d_log_scale=-w * slope - torch.where(edge, 0.0, width),
    )


def _phi(y: Tensor) -> Tensor:
    """(1 - exp(-y)) / y"""
    large = y.clamp_min(SERIES)
    return torch.where(y < SERIES, 1 - y / 2 + y * y / 6, -torch.expm1(-large) / large)


def _weights(logits: Tensor, channels: list[Channel]) -> tuple[Tensor, Tensor]:
    """The largest exponent t of the components, and exp(t_k - that) q_k. Where all components are beyond the smallest number
    they are taken for equally likely: a gradient is finite even there."""
    exponent = logits + sum(channel.line for channel in channels)
    exponent = exponent.clamp_min(torch.finfo(logits.dtype).min)
    best = exponent.amax(1).detach()
    return best, torch.exp(exponent - best[:, None]) * math.prod(channel.q for channel in channels)
