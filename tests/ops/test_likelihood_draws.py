"""Draws from mixtures: the oracle's from the same noise, on the grid, and distributed as they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import lapcore
from tests.ops.likelihood_checks import (
    ALL,
    FLOATS,
    SHAPES,
    Shape,
    draw_params,
    each_pixel,
    nll,
    sample,
)
from tests.oracle import likelihood as oracle
from tests.oracle import random as random_oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

PROBE = ("discretized_logistic_mixture_nll", (1, 10, 1, 1))


def uniforms(shape: Shape, seeds: int | list[int], stream: int = 0) -> tuple[np.ndarray, np.ndarray]:
    n, k, c, h, w = shape
    u = random_oracle.uniform((n, k + c, h, w), seeds, stream)
    return u[:, :k], u[:, k:]


@pytest.mark.parametrize("snap", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES[:3], (2, 3, 3, 5, 7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_equal_the_oracle(backend: str, device: str, dtype: torch.dtype, shape: Shape, snap: bool) -> None:
    """Values to rounding; on the grid, a value in the middle between two of its points may go to either."""
    params = draw_params(shape, 2, dtype).to(device)
    seeds = [11 * i - 2**40 for i in range(shape[0])]
    got = sample(
        params, torch.tensor(seeds, dtype=torch.int64, device=device), channels=shape[2], snap=snap, stream=2**33
    )
    assert got.dtype == dtype and got.shape == (shape[0], *shape[2:])
    want = oracle.sample_discretized_logistic_mixture(to_numpy(params), uniforms(shape, seeds, 2**33), snap)
    assert_close(got, want, (1e-12 if dtype == torch.float64 else 2e-5) * (1 if snap else 1 + np.abs(want)))


@pytest.mark.heavy
def test_one_seed_is_one_stream_over_the_batch(backend: str, device: str) -> None:
    shape = (2, 2, 3, 3, 4)
    params = draw_params(shape).to(device)
    want = oracle.sample_discretized_logistic_mixture(to_numpy(params), uniforms(shape, 2**64 - 3), False)
    assert_close(sample(params, 2**64 - 3, snap=False), want, 1e-12)


@pytest.mark.heavy
def test_a_pixel_can_be_drawn_alone(backend: str, device: str) -> None:
    """From the elements (j H + y) W + x of its image's stream."""
    n, k, c, h, w = shape = (2, 3, 3, 4, 5)
    params = draw_params(shape, 4).to(device)
    seeds = torch.tensor([9, 10], device=device)
    whole = sample(params, seeds)
    u = to_numpy(lapcore.random.uniform((n, k + c, h, w), seeds))
    for y, x in ((0, 0), (3, 4), (2, 1)):
        pixel = u[:, :, y : y + 1, x : x + 1]
        alone = oracle.sample_discretized_logistic_mixture(
            to_numpy(params)[:, :, y : y + 1, x : x + 1], (pixel[:, :k], pixel[:, k:])
        )
        assert_close(whole[:, :, y : y + 1, x : x + 1], alone, 1e-12)


@pytest.mark.heavy
def test_draws_lie_on_the_grid(backend: str, device: str) -> None:
    """To the bit where images that come from 8 bits lie."""
    shape = (1, 2, 3, 8, 9)
    for dtype in FLOATS:
        drawn = sample(draw_params(shape, 5, dtype).to(device), 1).cpu()
        assert drawn.dtype == torch.promote_types(dtype, torch.float32)
        levels = ((drawn + 1) * 127.5).round()
        assert_same_bits(drawn, levels / 127.5 - 1)
        assert levels.unique().numel() > 20


@pytest.mark.heavy
@pytest.mark.parametrize("channels", [1, 3])
def test_draws_follow_the_distribution(channels: int) -> None:
    """The mean of -log p over draws is the same for two samples of them; in grey, chi-square over bins of 16 levels."""
    count = 40_000
    params = draw_params((1, 3, channels, 1, 1), 8, torch.float32)
    many = params.expand(1, -1, 1, count)
    drawn = sample(many, 12, channels=channels)
    value = each_pixel(many, drawn)
    again = each_pixel(many, sample(many, 13, channels=channels))
    spread = math.sqrt((value.var() + again.var()).item() / count)
    assert abs(value.mean() - again.mean()) < 5 * spread
    if channels == 1:
        p = (-nll(params.double().expand(256, -1, -1, -1), ALL.view(256, 1, 1, 1))).exp()
        seen = torch.bincount(((drawn.flatten() + 1) * 127.5).round().long(), minlength=256)
        bins = torch.stack([p.view(16, 16).sum(1) * count, seen.view(16, 16).sum(1).double()])
        expected, observed = bins[:, bins[0] > 5]
        chi = ((observed - expected).square() / expected).sum()
        assert chi < len(expected) + 5 * math.sqrt(2 * len(expected))


@pytest.mark.heavy
def test_seeds_and_streams_are_independent(backend: str, device: str) -> None:
    params = draw_params((1, 2, 1, 4, 8), 1).expand(3, -1, -1, -1).to(device)
    drawn = sample(params, torch.tensor([1, 2, 1], device=device), channels=1, snap=False)
    assert_same_bits(drawn[0], drawn[2])
    assert (drawn[0] != drawn[1]).float().mean() > 0.5
    other = sample(params, torch.tensor([1, 2, 1], device=device), channels=1, snap=False, stream=1)
    assert (drawn != other).float().mean() > 0.5


def test_draws_are_constants() -> None:
    params = draw_params((1, 2, 3, 2, 2)).requires_grad_()
    assert not sample(params, 1).requires_grad


def test_the_lowest_of_equal_components_is_drawn(backend: str, device: str) -> None:
    """Equal logits of 1e30 swallow the noise."""
    params = torch.zeros(1, 9, 2, 2, dtype=torch.float64, device=device)
    params[:, :3] = 1e30
    params[:, 3:6] = torch.tensor([0.5, -0.5, 0.2], device=device).view(3, 1, 1)
    params[:, 6:] = -7
    assert (sample(params, 1, channels=1, snap=False) - 0.5).abs().max() < 0.03
