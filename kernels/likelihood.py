"""Mixtures of discretised logistics in Triton: one pass over params forward, two backward, and draws.

A program has BLOCK pixels of one image, whose components it goes through one after the other: nothing of the size of K images
is kept. Forward it leaves one sum of its pixels, in float64; those of an image are added in one order, whatever the batch. The
arithmetic is that of lapcore/reference/likelihood.py: log p = line + log q for every channel.

params are (N, P, L) and x (N, C, L) of any strides, pixels in one row; x is float32, or float64 for float64. Callers check the
arguments.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._arithmetic import log_of_normal, rounded
from ._noise import noise_of, philox, pick, row_keys, uniform_of
from ._strip import total_kernel

__all__ = [
    "discretized_logistic_mixture_nll",
    "discretized_logistic_mixture_nll_backward",
    "sample_discretized_logistic_mixture",
]

BLOCK = 128
OPTIONS = {"BLOCK": BLOCK, "num_warps": 4, "enable_fp_fusion": True}
DRAWING = OPTIONS | {"enable_fp_fusion": False}  # what is drawn, like the noise, is rounded operation by operation
LARGEST = {torch.float32: torch.finfo(torch.float32).max, torch.float64: torch.finfo(torch.float64).max}

FLOOR, EDGE = tl.constexpr(-7.0), tl.constexpr(0.999)
LOG_STEP = tl.constexpr(-4.848116364598481)  # ln(2 / 255)
STEP = tl.constexpr(1 / 255)
OFFICIAL_LEAST = tl.constexpr(1e-5)
SMALL = tl.constexpr(0.125)


@triton.jit
def at_least(x, low):
    """NaN passes."""
    return tl.where(x < low, low, x)


@triton.jit
def at_most(x, high):
    return tl.where(x > high, high, x)


@triton.jit
def mean_decay(delta):
    """(1 - exp(-delta)) / delta; a series where it would cancel."""
    terms: tl.constexpr = 12 if delta.dtype == tl.float64 else 7
    series = delta * 0 + 1
    for i in tl.static_range(terms, 1, -1):
        series = 1 - series * delta / i
    large = at_least(delta, SMALL)
    return tl.where(delta < SMALL, series, (1 - tl.exp(-large)) / large)


@triton.jit
def tanh_of(z):
    """tanh z and its derivative."""
    e = tl.exp(-2 * tl.abs(z))
    t = (1 - e) / (1 + e)
    return tl.where(z < 0, -t, t), 4 * e / ((1 + e) * (1 + e))


@triton.jit
def place_of(x):
    """x, the mirror that brings an upper edge bin to the lower one's form, and an offset, which only edge bins have."""
    right = x > EDGE
    edge = right | (x < -EDGE)
    return x, 1 - 2 * right.to(x.dtype), edge.to(x.dtype) * STEP


@triton.jit
def term_of(place, mean, log_scale, OFFICIAL: tl.constexpr, LIMIT: tl.constexpr):
    """Of one channel: line and q of log p = line + log q, and its derivatives at the mean and at the log-scale."""
    x, side, offset = place
    edge = offset > 0
    s = at_least(log_scale, FLOOR)
    inv = tl.exp(-s)
    w = at_most(at_least(inv * (side * (x - mean) + offset), -LIMIT), LIMIT)
    negative = w < 0
    size = tl.abs(w)
    u = tl.exp(-size)
    delta = inv * STEP
    ratio = mean_decay(delta)
    z = delta * ratio
    h, phi = 1 - z, ratio * (1 - 0.5 * z)
    above, below, rise = phi, (u + h) * (1 + u * h), h
    width, spread = h * h / phi, delta * h * (1 + u * u + 2 * u * h)
    if OFFICIAL:
        far = 2 * delta * u * phi <= OFFICIAL_LEAST * below
        above, below = tl.where(far, 1.0, above), tl.where(far, (1 + u) * (1 + u), below)
        rise, width, spread = tl.where(far, 1.0, rise), tl.where(far, 1.0, width), tl.where(far, 0.0, spread)
    outer = 1 + u
    share = 1 / tl.where(edge, outer, below)
    line = tl.where(edge, tl.where(negative, w, 0.0), LOG_STEP - s - size)
    q = tl.where(edge, share, above * share)
    inner = rise * (1 - u) * outer
    slope = share * tl.where(edge, tl.where(negative, 1.0, u), tl.where(negative, inner, -inner))
    d_log_scale = -w * slope - tl.where(edge, 0.0, spread * share + width)
    return line, q, -side * inv * slope, tl.where(log_scale < FLOOR, 0.0, d_log_scale)


@triton.jit
def row(at, zero, index, stride, inside, x):
    """Row `index` of the pixels' params, in x's type."""
    return tl.load(at + (zero + index) * stride, mask=inside, other=0).to(x.dtype)


@triton.jit
def joint_of(
    at, zero, stride, inside, places, count, k, top, C: tl.constexpr, OFFICIAL: tl.constexpr, LIMIT: tl.constexpr
):
    """Of component k: exponent and q, the terms of the channels, and value and derivative of the coefficients."""
    x = places[0][0]
    exponent = row(at, zero, k, stride, inside, x) - top
    mean = row(at, zero, count + k, stride, inside, x)
    log_scale = row(at, zero, 2 * count + k, stride, inside, x)
    red = term_of(places[0], mean, log_scale, OFFICIAL, LIMIT)
    exponent, q = exponent + red[0], red[1]
    terms, coefficients = (red,), ()
    if C == 3:
        c0 = tanh_of(row(at, zero, 3 * count + k, stride, inside, x))
        c1 = tanh_of(row(at, zero, 6 * count + k, stride, inside, x))
        c2 = tanh_of(row(at, zero, 9 * count + k, stride, inside, x))
        y = places[1][0]
        mean = row(at, zero, 4 * count + k, stride, inside, x) + c0[0] * x
        log_scale = row(at, zero, 5 * count + k, stride, inside, x)
        green = term_of(places[1], mean, log_scale, OFFICIAL, LIMIT)
        mean = row(at, zero, 7 * count + k, stride, inside, x) + c1[0] * x + c2[0] * y
        log_scale = row(at, zero, 8 * count + k, stride, inside, x)
        blue = term_of(places[2], mean, log_scale, OFFICIAL, LIMIT)
        exponent, q = exponent + green[0] + blue[0], q * green[1] * blue[1]
        terms, coefficients = (red, green, blue), (c0, c1, c2)
    return at_least(exponent, -LIMIT), q, terms, coefficients


@triton.jit
def pixels_of(mixture, x, pixels, C: tl.constexpr, BLOCK: tl.constexpr):
    """Of a program: its image, an int64 zero, pixels and which of them there are, pointers to params, places of the
    channels."""
    blocks = tl.cdiv(pixels, BLOCK)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    pixel = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    at = mixture[0] + image * mixture[1] + pixel * mixture[3]
    of_x = x[0] + image * x[1] + pixel * x[3]
    places = (place_of(tl.load(of_x, mask=inside, other=0)),)
    if C == 3:
        green = place_of(tl.load(of_x + x[2], mask=inside, other=0))
        places = (places[0], green, place_of(tl.load(of_x + 2 * x[2], mask=inside, other=0)))
    return image, image * 0, pixel, inside, at, places


@triton.jit
def normalisers(at, zero, stride, inside, places, count, C: tl.constexpr, OFFICIAL: tl.constexpr, LIMIT: tl.constexpr):
    """The largest logit and the sum of exp(logit - that); the largest exponent and the sum of q exp(exponent - that)."""
    x = places[0][0]
    top = row(at, zero, 0, stride, inside, x)
    for k in range(1, count):
        top = tl.maximum(top, row(at, zero, k, stride, inside, x))
    logits, best, weights = x * 0, x * 0 - LIMIT, x * 0
    for k in range(count):
        logits += tl.exp(row(at, zero, k, stride, inside, x) - top)
        exponent, q, _, _ = joint_of(at, zero, stride, inside, places, count, k, top, C, OFFICIAL, LIMIT)
        larger = tl.maximum(best, exponent)
        weights = weights * tl.exp(best - larger) + q * tl.exp(exponent - larger)
        best = larger
    return top, logits, best, weights


@triton.jit
def nll_kernel(
    sums_ptr, mixture, x, pixels, count,
    C: tl.constexpr, OFFICIAL: tl.constexpr, LIMIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    _, zero, _, inside, at, places = pixels_of(mixture, x, pixels, C, BLOCK)
    _, logits, best, weights = normalisers(at, zero, mixture[2], inside, places, count, C, OFFICIAL, LIMIT)
    infinite = weights - weights + float("inf")  # NaN stays
    value = tl.where(best <= -LIMIT, infinite, tl.log(logits) - tl.log(weights) - best)
    tl.store(sums_ptr + tl.program_id(0), tl.sum(tl.where(inside, value, 0.0).to(tl.float64), axis=0))


@triton.jit
def put(out, zero, index, pixels, inside, x):
    tl.store(out + (zero + index) * pixels, rounded(x, out.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    d_params, d_x, grad_ptr, mixture, x, pixels, count,
    C: tl.constexpr, OFFICIAL: tl.constexpr, LIMIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """d_params and d_x (or None) are contiguous."""
    image, zero, pixel, inside, at, places = pixels_of(mixture, x, pixels, C, BLOCK)
    stride = mixture[2]
    top, logits, best, weights = normalisers(at, zero, stride, inside, places, count, C, OFFICIAL, LIMIT)
    grad = tl.load(grad_ptr + image)
    red, green = places[0][0], places[C // 2][0]
    prior, scale = grad / logits, -grad / weights
    out = d_params + image * (count * (10 if C == 3 else 3)) * pixels + pixel
    d_red, d_green, d_blue = red * 0, red * 0, red * 0
    for k in range(count):
        exponent, q, terms, c = joint_of(at, zero, stride, inside, places, count, k, top, C, OFFICIAL, LIMIT)
        share = scale * q * tl.exp(exponent - best)
        logit = row(at, zero, k, stride, inside, red) - top
        put(out, zero, k, pixels, inside, prior * tl.exp(logit) + share)
        mean = share * terms[0][2]
        put(out, zero, count + k, pixels, inside, mean)
        put(out, zero, 2 * count + k, pixels, inside, share * terms[0][3])
        d_red -= mean
        if C == 3:
            mean = share * terms[1][2]
            put(out, zero, 3 * count + k, pixels, inside, mean * red * c[0][1])
            put(out, zero, 4 * count + k, pixels, inside, mean)
            put(out, zero, 5 * count + k, pixels, inside, share * terms[1][3])
            d_red += c[0][0] * mean
            d_green -= mean
            mean = share * terms[2][2]
            put(out, zero, 6 * count + k, pixels, inside, mean * red * c[1][1])
            put(out, zero, 7 * count + k, pixels, inside, mean)
            put(out, zero, 8 * count + k, pixels, inside, share * terms[2][3])
            put(out, zero, 9 * count + k, pixels, inside, mean * green * c[2][1])
            d_red += c[1][0] * mean
            d_green += c[2][0] * mean
            d_blue -= mean
    if d_x is not None:
        out = d_x + image * C * pixels + pixel
        put(out, zero, 0, pixels, inside, d_red)
        if C == 3:
            put(out, zero, 1, pixels, inside, d_green)
            put(out, zero, 2, pixels, inside, d_blue)


@triton.jit
def uniforms(noise, keys, element):
    """Of each element of a stream."""
    stream_low = noise[4].to(tl.int32).to(tl.uint32, bitcast=True)
    stream_high = noise[5].to(tl.int32).to(tl.uint32, bitcast=True)
    a, b, c, d = philox(element >> 2, keys[0], keys[1], stream_low, stream_high)
    return uniform_of(pick(element & 3, a, b, c, d))


@triton.jit
def ln(x):
    if x.dtype == tl.float64:
        return tl.log(x)
    else:
        return log_of_normal(x)


@triton.jit
def drawn_of(mean, log_scale, u, SNAP: tl.constexpr, LIMIT: tl.constexpr):
    """What a logistic's uniform gives, clipped to [-1, 1] and, if wanted, put on the 8-bit grid."""
    scale = at_most(tl.exp(at_least(log_scale, FLOOR)), LIMIT)
    value = at_most(at_least(mean + scale * (ln(u) - ln(1 - u)), -1.0), 1.0)
    if SNAP:  # a sum with 1.5 * 2**23, or 2**52, is rounded to an integer
        if value.dtype == tl.float64:
            value = ((value + 1) * 127.5 + 6755399441055744.0 - 6755399441055744.0) / 127.5 - 1
        else:
            level = (value + 1) * 127.5 + 12582912.0 - 12582912.0
            value = tl.div_rn(level, tl.full(level.shape, 127.5, level.dtype)) - 1
    return value


@triton.jit(do_not_specialize=["noise"])
def sample_kernel(
    out_ptr, mixture, noise, pixels, count,
    C: tl.constexpr, SNAP: tl.constexpr, LIMIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(pixels, BLOCK)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    pixel = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside, zero = pixel < pixels, image * 0
    at, stride = mixture[0] + image * mixture[1] + pixel * mixture[3], mixture[2]
    compute: tl.constexpr = out_ptr.dtype.element_ty
    x = tl.zeros((BLOCK,), compute)
    one = image + tl.arange(0, 1)
    keys = row_keys(noise, one, one >= 0)
    element = pixel
    if noise[0] is None:  # one stream for all images
        element += image * (count + C) * pixels
    best, chosen = x - float("inf"), tl.zeros((BLOCK,), tl.int64)
    for k in range(count):
        u = uniforms(noise, keys, element + (zero + k) * pixels).to(compute)
        score = row(at, zero, k, stride, inside, x) - ln(-ln(u))
        chosen = tl.where(score > best, k, chosen)
        best = tl.where(score > best, score, best)
    out = out_ptr + image * C * pixels + pixel
    at += (count + chosen) * stride
    u = uniforms(noise, keys, element + (zero + count) * pixels).to(compute)
    mean, log_scale = row(at, zero, 0, stride, inside, x), row(at, zero, count, stride, inside, x)
    red = drawn_of(mean, log_scale, u, SNAP, LIMIT)
    put(out, zero, 0, pixels, inside, red)
    if C == 3:
        c0, _ = tanh_of(row(at, zero, 2 * count, stride, inside, x))
        c1, _ = tanh_of(row(at, zero, 5 * count, stride, inside, x))
        c2, _ = tanh_of(row(at, zero, 8 * count, stride, inside, x))
        u = uniforms(noise, keys, element + (zero + count + 1) * pixels).to(compute)
        mean, log_scale = row(at, zero, 3 * count, stride, inside, x), row(at, zero, 4 * count, stride, inside, x)
        green = drawn_of(mean + c0 * red, log_scale, u, SNAP, LIMIT)
        put(out, zero, 1, pixels, inside, green)
        u = uniforms(noise, keys, element + (zero + count + 2) * pixels).to(compute)
        mean, log_scale = row(at, zero, 6 * count, stride, inside, x), row(at, zero, 7 * count, stride, inside, x)
        put(out, zero, 2, pixels, inside, drawn_of(mean + c1 * red + c2 * green, log_scale, u, SNAP, LIMIT))


def discretized_logistic_mixture_nll(params: Tensor, x: Tensor, mode: str) -> Tensor:
    """-log p(x) of every image."""
    nll = torch.empty(len(x), dtype=x.dtype, device=x.device)
    if len(x) == 0:
        return nll
    given, pixels, count = arguments(params, x.shape[1])
    blocks = triton.cdiv(pixels, BLOCK)
    sums = torch.empty((len(x), blocks), dtype=torch.float64, device=x.device)
    with torch.cuda.device_of(x):
        nll_kernel[(sums.numel(),)](sums, given, rows_of(x), pixels, count, **constants(x, mode), **OPTIONS)
        total_kernel[(len(x),)](nll, sums, blocks, **OPTIONS)
    return nll


def discretized_logistic_mixture_nll_backward(
    grad: Tensor, params: Tensor, x: Tensor, mode: str, with_x: bool
) -> list[Tensor]:
    """The gradients at params and, if wanted, at x."""
    gradients = [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in ((params, x) if with_x else (params,))]
    if len(x) == 0:
        return gradients
    given, pixels, count = arguments(params, x.shape[1])
    d_params, d_x = [*gradients, None][:2]
    grid = (len(x) * triton.cdiv(pixels, BLOCK),)
    with torch.cuda.device_of(x):
        backward_kernel[grid](
            d_params, d_x, grad.contiguous(), given, rows_of(x), pixels, count, **constants(x, mode), **OPTIONS
        )
    return gradients


def sample_discretized_logistic_mixture(
    params: Tensor, channels: int, seeds: Tensor, stream: int, snap: bool
) -> Tensor:
    """Draws, with the noise of lapcore.random.uniform((N, K + C, H, W), seeds, stream)."""
    n, _, height, width = params.shape
    compute = torch.promote_types(params.dtype, torch.float32)
    out = torch.empty((n, channels, height, width), dtype=compute, device=params.device)
    if n == 0:
        return out
    given, pixels, count = arguments(params, channels)
    grid = (n * triton.cdiv(pixels, BLOCK),)
    with torch.cuda.device_of(params):
        sample_kernel[grid](
            out, given, noise_of(seeds, stream), pixels, count,
            C=channels, SNAP=snap, LIMIT=LARGEST[compute], **DRAWING,
        )  # fmt: skip
    return out


def rows_of(x: Tensor) -> tuple[Tensor, int, int, int]:
    """(N, R, H, W) as (N, R, L) and its strides; a copy where the pixels do not lie in one row."""
    flat = x.flatten(2)
    return flat, *flat.stride()


def arguments(params: Tensor, channels: int) -> tuple[tuple[Tensor, int, int, int], int, int]:
    """params, how many pixels an image has, how many components a pixel."""
    size = params.shape[1]
    return rows_of(params), params.shape[2] * params.shape[3], size // 10 if channels == 3 else size // 3


def constants(x: Tensor, mode: str) -> dict[str, object]:
    return {"C": x.shape[1], "OFFICIAL": mode == "official", "LIMIT": LARGEST[x.dtype]}
