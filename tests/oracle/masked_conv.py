"""Masked convolutions and the activations beside them, from their definitions, in float64: a loop over the single weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray


def alive(mask: str, kernel: tuple[int, int], tap: tuple[int, int], group_in: int, group_out: int) -> bool:
    """Whether a weight between channels of these colour groups counts, by where its tap stands as seen from the centre."""
    down, right = tap[0] - kernel[0] // 2, tap[1] - kernel[1] // 2
    if mask == "rows":
        return down <= 0
    if mask == "above":
        return down < 0
    if (down, right) == (0, 0):
        return group_in < group_out if mask == "A" else group_in <= group_out
    return down < 0 or (down == 0 and right < 0)


def group(channel: int, channels: int, groups: int) -> int:
    return channel * groups // channels


def output_group(channel: int, channels: int, groups: int, gated: bool) -> int:
    if not gated:
        return group(channel, channels, groups)
    half = channels // 2
    return group(channel if channel < half else channel - half, half, groups)


def mask_of(
    mask: str, kernel: tuple[int, int], inputs: int, outputs: int, groups: int = 1, gated: bool = False
) -> Array:
    """bool, (outputs, inputs, kh, kw)."""
    live = np.zeros((outputs, inputs, *kernel), dtype=bool)
    for o, c, dy, dx in np.ndindex(live.shape):
        group_out = output_group(o, outputs, groups, gated)
        live[o, c, dy, dx] = alive(mask, kernel, (dy, dx), group(c, inputs, groups), group_out)
    return live


def weights(weight: Array, mask: str, groups: int, gated: bool) -> Iterator[tuple[int, int, int, int]]:
    """The live ones, taps in raster order and for each the channels in order."""
    outputs, inputs, *kernel = weight.shape
    live = mask_of(mask, (kernel[0], kernel[1]), inputs, outputs, groups, gated)
    for o, dy, dx, c in np.ndindex(outputs, *kernel, inputs):
        if live[o, c, dy, dx]:
            yield o, c, dy, dx


def windows(size: int, tap: int, kernel: int) -> tuple[slice, slice]:
    """Where along an axis outputs have an input under this tap, and where those inputs are."""
    shift = tap - kernel // 2
    low, high = max(0, -shift), min(size, size - shift)
    return (slice(low, high), slice(low + shift, high + shift)) if high > low else (slice(0, 0), slice(0, 0))


def masked_conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    mask: str,
    color_groups: int = 1,
    condition: Array | None = None,
    stride: int = 1,
    activation: str = "none",
    gated_layout: bool = False,
    accumulate: Any = None,
) -> Array:
    """(N, O, ceil(H / stride), ceil(W / stride)). accumulate(sum, weight, x): the next sum, sum + weight * x if None."""
    gated = gated_layout or activation == "gated"
    (n, _, height, width), (outputs, _, *kernel) = x.shape, weight.shape
    y = np.zeros((n, outputs, height, width), dtype=x.dtype)
    for o, c, dy, dx in weights(weight, mask, color_groups, gated):
        rows, rows_in = windows(height, dy, kernel[0])
        columns, columns_in = windows(width, dx, kernel[1])
        total, inputs = y[:, o, rows, columns], x[:, c, rows_in, columns_in]
        w = weight[o, c, dy, dx]
        y[:, o, rows, columns] = total + w * inputs if accumulate is None else accumulate(total, w, inputs)
    y = y[:, :, ::stride, ::stride]
    if bias is not None:
        y = y + bias[:, None, None]
    if condition is not None:
        y = y + (condition[:, :, None, None] if condition.ndim == 2 else condition)
    if activation == "relu":
        return np.maximum(y, 0)
    return gated_activation(y) if activation == "gated" else y


def fused(total: Array, weight: Array, x: Array) -> Array:
    """One float32 fused multiply-add: the product is exact in the wider type, and the sum of 64 bits there, rounded once more."""
    wide = np.longdouble
    return (wide(weight) * x.astype(wide) + total.astype(wide)).astype(np.float32)


def masked_conv2d_gradients(
    grad: Array, x: Array, weight: Array, mask: str, groups: int, gated: bool, stride: int
) -> tuple[Array, Array]:
    """At x, and at the weight, of sum(grad * masked_conv2d(x, weight))."""
    height, width = x.shape[2:]
    full = np.zeros((len(x), weight.shape[0], height, width))
    full[:, :, ::stride, ::stride] = grad
    at_x, at_weight = np.zeros(x.shape), np.zeros(weight.shape)
    for o, c, dy, dx in weights(weight, mask, groups, gated):
        rows, rows_in = windows(height, dy, weight.shape[2])
        columns, columns_in = windows(width, dx, weight.shape[3])
        incoming = full[:, o, rows, columns]
        at_x[:, c, rows_in, columns_in] += weight[o, c, dy, dx] * incoming
        at_weight[o, c, dy, dx] = (incoming * x[:, c, rows_in, columns_in]).sum()
    return at_x, at_weight


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def gated_activation(x: Array, first: str = "tanh") -> Array:
    half = x.shape[1] // 2
    a, b = x[:, :half], x[:, half:]
    return (np.tanh(a) if first == "tanh" else a) * sigmoid(b)


def gated_activation_gradient(grad: Array, x: Array, first: str = "tanh") -> Array:
    half = x.shape[1] // 2
    a, b = x[:, :half], x[:, half:]
    value, slope = (np.tanh(a), np.cosh(np.clip(a, -300, 300)) ** -2.0) if first == "tanh" else (a, 1)
    return np.concatenate([grad * slope * sigmoid(b), grad * value * sigmoid(b) * sigmoid(-b)], axis=1)


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def concat_elu(x: Array) -> Array:
    return np.concatenate([elu(x), elu(-x)], axis=1)


def concat_elu_gradient(grad: Array, x: Array) -> Array:
    """Of elu(x) the slope is 1 for x > 0, else e^x."""
    half = x.shape[1]
    return grad[:, :half] * np.exp(np.minimum(x, 0)) - grad[:, half:] * np.exp(np.minimum(-x, 0))
