"""Mixtures at the ends: tails, parameters of any size, infinitely sharp and flat components, NaN."""

from __future__ import annotations

import functools
import math
from decimal import Decimal

import numpy as np
import pytest
import torch

from tests.ops.likelihood_checks import (
    FLOATS,
    draw_image,
    draw_params,
    each_pixel,
    gradients,
    modes,
    nll,
    sample,
    size_of,
)
from tests.oracle import likelihood as oracle
from tests.tolerance import assert_close, to_numpy

PROBE = ("discretized_logistic_mixture_nll", (1, 10, 1, 1))


@functools.cache
def tails() -> tuple[torch.Tensor, torch.Tensor, list[Decimal]]:
    """Parameters, pixels, and by decimal arithmetic that knows no formula but the definition their nats: once for all backends."""
    log_scales = torch.tensor([-7.0, -6.0, -5.0, -3.0, 0.0, 5.0, 60.0])
    means = torch.tensor([-1.2, -0.3, 0.0, 0.35, 3.0])
    grid = torch.cartesian_prod(log_scales, means).double()
    params = torch.cat([torch.zeros(len(grid), 1), grid[:, 1:], grid[:, :1]], 1)[..., None, None]
    x = (torch.arange(len(grid)) * 7 % 256).double()[:, None, None, None] / 127.5 - 1
    # A difference of sigmoids of z loses z / log(10) digits.
    lost = (x - params[:, 1:2]).abs().add(1 / 255).flatten() * torch.exp(-grid[:, 0]) / math.log(10)
    every = zip(to_numpy(params), to_numpy(x), lost.ceil().int().tolist(), strict=True)
    return params, x, [oracle.exact_nll_by_definition(p[None], v[None], digits=50 + n)[0] for p, v, n in every]


@pytest.mark.heavy
def test_exact_is_exact_in_the_tails(backend: str, device: str) -> None:
    """To 400 nats per pixel."""
    params, x, want = tails()
    assert max(want) > 1000
    got = to_numpy(nll(params.to(device), x.to(device)))
    assert max(abs(Decimal(float(g)) - v) / (1 + v) for g, v in zip(got, want, strict=True)) < Decimal("1e-12")


@pytest.mark.heavy
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", FLOATS)
@modes
def test_no_finite_parameters_give_nan(backend: str, device: str, mode: str, dtype: torch.dtype, channels: int) -> None:
    largest = torch.finfo(dtype).max
    values = torch.tensor([0, 1e-8, 0.7, -7, -7.5, 30, 90, 104, 1e4, 6e4, largest / 3, largest], dtype=torch.float64)
    values = torch.cat([values, -values]).clamp(-largest, largest).to(dtype)
    shape = (3, 2, channels, 1, 150)
    generator = torch.Generator().manual_seed(5)
    params = values[torch.randint(0, len(values), (3, size_of(2, channels), 1, 150), generator=generator)].to(device)
    x = draw_image(shape, dtype=torch.promote_types(dtype, torch.float32)).to(device)
    value = nll(params, x, mode)
    assert not value.isnan().any() and (value > -1e-3).all()
    single = each_pixel(params, x, mode)
    assert not single.isnan().any() and single.isfinite().any()
    for grad in gradients(params, x, torch.ones_like(value), mode):
        assert not grad.isnan().any()
    drawn = sample(params, 3, channels=channels)
    assert drawn.abs().max() <= 1


def test_a_flat_and_a_sharp_component(backend: str, device: str) -> None:
    """p -> 2/255 exp(-s) as the scale grows, to the largest numbers; a mean that is a world away."""
    for dtype in (torch.float32, torch.float64):
        s = torch.tensor([20.0, 90.0, 1e4, 1e30], dtype=dtype, device=device)
        params = torch.zeros(4, 3, 1, 1, dtype=dtype, device=device)
        params[:, 2, 0, 0] = s
        x = torch.full((4, 1, 1, 1), 0.2, dtype=dtype, device=device)
        params.requires_grad_()
        value = nll(params, x)
        want = to_numpy(s) - math.log(2 / 255)
        # The logistic's density at 0 is a quarter.
        assert_close(value, want + math.log(4), 4 * torch.finfo(dtype).eps * want)
        (grad,) = torch.autograd.grad(value.sum(), params)
        assert_close(grad[:, 2, 0, 0], np.ones(4), 1e-6)
    far = torch.tensor([0, 1e30, 0], dtype=torch.float32, device=device).view(1, 3, 1, 1)
    assert_close(nll(far, torch.zeros(1, 1, 1, 1, device=device)), np.array([1e30]), 1e24)


def test_the_floor_of_log_scales(backend: str, device: str) -> None:
    params = torch.tensor([[0, 0.1, s] for s in (-9, -7, -6.9)], dtype=torch.float64, device=device)[..., None, None]
    x = torch.full((3, 1, 1, 1), 25 / 127.5, dtype=torch.float64, device=device)
    value = nll(params, x)
    assert value[0] == value[1] != value[2]
    d_params, _ = gradients(params, x, torch.ones(3, dtype=torch.float64, device=device))
    assert d_params[0, 2] == 0 and d_params[1, 2] != 0
    assert d_params[0, 1] == d_params[1, 1] != 0


@pytest.mark.heavy
@modes
def test_a_nan_stays_in_its_image(backend: str, device: str, mode: str) -> None:
    shape = (3, 2, 3, 2, 2)
    params, x = draw_params(shape, 1, torch.float32).to(device), draw_image(shape, dtype=torch.float32).to(device)
    x[1, 1, 0, 1] = 0.2
    for row in (0, 3, 5, 6, 9, 11, 13, 17, 19):  # a logit, means, log-scales, coefficients; of both components
        bad = params.clone()
        bad[1, row, 0, 1] = math.nan
        assert nll(bad, x, mode).isnan().tolist() == [False, True, False], row
