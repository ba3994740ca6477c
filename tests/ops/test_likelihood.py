"""Mixtures of discretised logistics on every backend, against the float64 oracle: values, gradients, and sums over all values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.ops.likelihood_checks import (
    ALL,
    FLOATS,
    SHAPES,
    Shape,
    draw_image,
    draw_params,
    gradients,
    modes,
    near_threshold,
    nll,
    sample,
    steepness,
)
from tests.oracle import likelihood as oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

PROBE = ("discretized_logistic_mixture_nll", (1, 10, 1, 1))


# The oracle itself ---------------------------------------------------------------------------------------------------------------


def test_the_oracle_is_the_definition() -> None:
    shape = (2, 2, 3, 1, 2)
    params, x = draw_params(shape).numpy(), draw_image(shape).numpy()
    want = [float(v) for v in oracle.exact_nll_by_definition(params, x)]
    assert np.allclose(oracle.discretized_logistic_mixture_nll(params, x), want, rtol=1e-12)


def test_the_layout_is_the_official_code_s() -> None:
    """Pixels last, as openai/pixel-cnn has them: logits, then (C, 3 K), a third each of means, log-scales and coefficients."""
    k, h, w = 4, 2, 3
    shape = (1, k, 3, h, w)
    params, x = draw_params(shape), draw_image(shape)
    params[:, k:].view(1, 3, 3, k, h, w)[:, :, 1] += 3
    last = params[0].permute(1, 2, 0)
    groups = last[..., k:].reshape(h, w, 3, 3 * k)
    means, log_scales, c = groups[..., :k], groups[..., k : 2 * k].clamp_min(-7), groups[..., 2 * k :].tanh()
    pixel = x[0].permute(1, 2, 0)[..., None]
    moved = torch.stack(
        [
            means[:, :, 0],
            means[:, :, 1] + c[:, :, 0] * pixel[:, :, 0],
            means[:, :, 2] + c[:, :, 1] * pixel[:, :, 0] + c[:, :, 2] * pixel[:, :, 1],
        ],
        2,
    )
    upper = ((pixel - moved + 1 / 255) / log_scales.exp()).sigmoid().masked_fill(pixel > 0.999, 1)
    lower = ((pixel - moved - 1 / 255) / log_scales.exp()).sigmoid().masked_fill(pixel < -0.999, 0)
    want = -(last[..., :k].softmax(-1) * (upper - lower).prod(2)).sum(-1).log().sum()
    assert_close(nll(params, x), want.numpy()[None], 1e-8)


# Values and gradients ------------------------------------------------------------------------------------------------------------


@modes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float64(backend: str, device: str, shape: Shape, mode: str) -> None:
    params, x = draw_params(shape).to(device), draw_image(shape).to(device)
    got = nll(params, x, mode)
    assert got.dtype == torch.float64
    want = oracle.discretized_logistic_mixture_nll(to_numpy(params), to_numpy(x), mode)
    assert_close(got, want, 1e-9 * (1 + np.abs(want)))


@modes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float64_gradients(backend: str, device: str, shape: Shape, mode: str) -> None:
    params, x = draw_params(shape).to(device), draw_image(shape).to(device)
    grad = torch.linspace(-1, 2, shape[0], dtype=torch.float64, device=device)
    got, _ = gradients(params, x, grad, mode)
    want = oracle.discretized_logistic_mixture_nll_gradient(to_numpy(grad), to_numpy(params), to_numpy(x), mode)
    assert_close(got, want, 1e-9 * (1 + np.abs(want)))


def test_no_images(backend: str, device: str) -> None:
    params, x = torch.zeros(0, 20, 2, 3, device=device), torch.zeros(0, 3, 2, 3, device=device)
    assert nll(params, x).shape == (0,)
    d_params, d_x = gradients(params, x, torch.zeros(0, device=device))
    assert d_params.shape == params.shape and d_x.shape == x.shape
    assert sample(params, torch.zeros(0, dtype=torch.int64, device=device)).shape == x.shape


@modes
@pytest.mark.parametrize("dtype", FLOATS[:3])
def test_lower_precision(backend: str, device: str, dtype: torch.dtype, mode: str) -> None:
    """The rounding errors of a pixel are some epsilons of what it is made of; sums are float64."""
    shape = (2, 4, 3, 3, 4)
    seed = next(
        s for s in range(99) if not near_threshold(to_numpy(draw_params(shape, s, dtype)), to_numpy(draw_image(shape)))
    )
    params, x = draw_params(shape, seed, dtype).to(device), draw_image(shape, dtype=torch.float32).to(device)
    grad = torch.tensor([1.0, -0.5], device=device)
    eps = torch.finfo(torch.float32).eps
    p, pixels = to_numpy(params), to_numpy(x)
    got = nll(params, x, mode)
    assert got.dtype == torch.float32
    want = oracle.discretized_logistic_mixture_nll(p, pixels, mode)
    assert_close(got, want, 8 * eps * oracle.nll_magnitude(p, pixels))
    d_params, d_x = gradients(params, x, grad, mode)
    assert d_params.dtype == dtype and d_x.dtype == torch.float32
    want = oracle.discretized_logistic_mixture_nll_gradient(to_numpy(grad), p, pixels, mode)
    rounding = torch.finfo(dtype).eps * np.abs(want) + torch.finfo(dtype).tiny
    assert_close(d_params, want, 16 * eps * steepness(p, pixels) + rounding)
    _, exact_x = gradients(params.double(), x.double(), grad.double(), mode)
    assert_close(d_x, to_numpy(exact_x), 16 * eps * steepness(p, pixels))


@pytest.mark.heavy
@modes
@pytest.mark.parametrize("channels", [1, 3])
def test_gradcheck(backend: str, device: str, channels: int, mode: str) -> None:
    """At params and at x."""
    shape = (1, 2, channels, 1, 3)
    params, x = draw_params(shape, 3).to(device), draw_image(shape).to(device)
    leaves = params.requires_grad_(), x.requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: nll(*given, mode), leaves)
    assert torch.autograd.gradgradcheck(lambda *given: nll(*given, mode), leaves, fast_mode=True)


@pytest.mark.heavy
def test_only_the_wanted_gradient_is_computed(backend: str, device: str) -> None:
    shape = (2, 2, 3, 2, 2)
    params, x = draw_params(shape).to(device), draw_image(shape).to(device)
    both = gradients(params, x, torch.ones(2, dtype=torch.float64, device=device))
    for i in range(2):
        given = [t.detach().requires_grad_(j == i) for j, t in enumerate((params, x))]
        nll(*given).sum().backward()
        assert given[1 - i].grad is None and given[i].grad is not None
        assert_same_bits(given[i].grad, both[i])
    assert not nll(params, x).requires_grad


@pytest.mark.heavy
def test_the_two_modes_agree_where_it_is_likely(backend: str, device: str) -> None:
    shape = (60, 1, 1, 1, 1)
    params, x = draw_params(shape).to(device), draw_image(shape).to(device)
    exact, official = nll(params, x), nll(params, x, "official")
    likely = (-exact).exp() > 2e-5
    assert 10 < likely.sum() < 60
    assert (exact - official)[likely].abs().max() < 2e-9
    assert (exact - official)[~likely].abs().max() > 1e-4


# A distribution ------------------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
@given(
    values=st.lists(st.floats(-3, 3), min_size=9, max_size=9),
    stretch=st.sampled_from([0.01, 1.0, 4.0, 30.0]),
)
def test_the_bins_of_a_pixel_sum_to_one(values: list[float], stretch: float) -> None:
    params = torch.tensor(values, dtype=torch.float64).view(1, 9, 1, 1).expand(256, 9, 1, 1).clone()
    params[:, 6:] *= stretch
    total = (-nll(params, ALL.view(256, 1, 1, 1))).exp().sum()
    assert abs(total - 1) < 1e-12
    single = (-nll(params.float(), ALL.view(256, 1, 1, 1).float())).double().exp().sum()
    assert abs(single - 1) < 1e-4


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(3))
def test_the_bins_of_a_colour_sum_to_its_condition(backend: str, device: str, seed: int) -> None:
    """sum over blue of p(r, g, b) = p(r) p(g | r), which two grey pixels give."""
    params = draw_params((1, 1, 3, 1, 1), seed).to(device)
    red, green = 0.6, -0.2
    x = torch.tensor([red, green, 0.0], dtype=torch.float64, device=device).view(1, 3, 1, 1).repeat(256, 1, 1, 1)
    x[:, 2, 0, 0] = ALL.to(device)
    got = (-nll(params.expand(256, -1, -1, -1), x)).exp().sum()
    _, m_r, s_r, c, m_g, s_g, *_ = params.flatten().tolist()
    grey = torch.tensor([[0, m_r, s_r], [0, m_g + math.tanh(c) * red, s_g]], dtype=torch.float64, device=device)
    want = (
        (-nll(grey[..., None, None], torch.tensor([red, green], dtype=torch.float64, device=device).view(2, 1, 1, 1)))
        .sum()
        .exp()
    )
    assert abs(got / want - 1) < 1e-9
