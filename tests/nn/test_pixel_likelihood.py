"""PixelCNN layers as a decoder's likelihood: a density of bands, one pixel after the other."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lapcore.nn.pixel_likelihood import LEVELS, PixelLikelihood
from lapcore.ops.likelihood import sample_discretized_logistic_mixture


def likelihood(channels: int = 3, size: tuple[int, int] = (5, 6), bound: float = 2.0) -> PixelLikelihood:
    torch.manual_seed(0)
    return PixelLikelihood(channels, size, hidden=8, layers=2, bound=bound).eval()


@pytest.mark.parametrize("bound", [1.0, 2.0])
def test_densities_sum_to_one_over_all_images_of_two_pixels(bound: float) -> None:
    """Levels are 2 bound / 255 wide, so that the probability of one is its density times that."""
    pixels = likelihood(1, (1, 2), bound).double()
    axis = bound * torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
    every = torch.cartesian_prod(axis, axis).reshape(-1, 1, 1, 2)
    m = torch.rand(1, 1, 1, 2, dtype=torch.float64)
    with torch.no_grad():
        nll = pixels.nll(every, m.expand_as(every))
    total = (torch.exp(-nll) * (2 * bound / (LEVELS - 1)) ** 2).sum()
    assert total.item() == pytest.approx(1, abs=1e-7)  # the levels are float32


def test_a_pixel_sees_those_before_it_and_all_of_what_it_is_told() -> None:
    pixels = likelihood()
    h, m = (torch.rand(1, 3, 5, 6, requires_grad=True) for _ in range(2))
    i, j = 2, 3
    out = pixels.network(h, *pixels._conditions(m))[0, :, i, j].square().sum()
    of_h, of_m = torch.autograd.grad(out, (h, m))
    for y, x in itertools.product(range(5), range(6)):
        before = (y, x) < (i, j)
        near = max(i - y, abs(j - x)) <= 3  # a 7x7 layer sees that far, and what a row above sees is passed on
        reached = bool(of_h[0, :, y, x].abs().max() > 0)
        assert reached <= before and (reached or not (before and near)), (y, x)
        told = bool(of_m[0, :, y, x].abs().max() > 0)
        assert told or max(abs(i - y), abs(j - x)) > 2, (y, x)


def test_draws_are_those_of_the_whole_network_at_every_pixel() -> None:
    pixels = likelihood(bound=2.0)
    m, seeds = torch.rand(3, 3, 5, 6), torch.tensor([4, 2**40, -7])
    with torch.no_grad():
        drawn = pixels.draw(m, seeds)
        again = torch.zeros_like(m)
        for i, j in itertools.product(range(5), range(6)):
            out = pixels.network(again, *pixels._conditions(m))
            again[:, :, i, j] = sample_discretized_logistic_mixture(out, seeds, channels=3)[:, :, i, j]
        torch.testing.assert_close(drawn, 2 * again, rtol=0, atol=1e-6)
        grid = (drawn / 2 + 1) / 2 * (LEVELS - 1)
    assert (grid - grid.round()).abs().max() <= 6 * 255 * 2**-24  # six roundings of at most 255
    assert pixels.nll(drawn, m).isfinite().all()


def test_what_is_rounded_to_a_level_has_its_density() -> None:
    pixels = likelihood(1, (3, 3), bound=1.0)
    m = torch.rand(2, 1, 3, 3)
    on = 2 * torch.randint(0, LEVELS, (2, 1, 3, 3)).float() / (LEVELS - 1) - 1
    off = on + 0.4 / (LEVELS - 1)
    with torch.no_grad():
        torch.testing.assert_close(pixels.nll(on, m), pixels.nll(off, m), rtol=0, atol=0)
        assert not math.isclose(pixels.nll(on, m)[0].item(), pixels.nll(on, m + 0.5)[0].item(), rel_tol=1e-4)
