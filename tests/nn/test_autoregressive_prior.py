"""The prior of codes: its density value by value, its masks, and its draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions

from lapcore.nn.autoregressive_prior import MIXTURES, AutoregressivePrior
from lapcore.nn.blocks import CODE_LOGVAR
from lapcore.nn.condition import Condition


def prior(length: int = 5, layers: int = 3, width: int = 16, condition: Condition | None = None) -> AutoregressivePrior:
    """A prior far from its start, in float64."""
    torch.manual_seed(0)
    made = AutoregressivePrior(length, layers, width, condition or Condition()).double()
    torch.nn.init.normal_(made.out.weight, std=0.5)
    return made


def by_hand(made: AutoregressivePrior, z: Tensor) -> Tensor:
    """log p(z) of one code, each value's mixture from a forward pass in which all later values are other ones."""
    total = torch.zeros((), dtype=torch.float64)
    for d in range(len(z)):
        seen = torch.cat([z[:d], torch.randn(len(z) - d, dtype=torch.float64)])[None]
        out = made.out(made._hidden(seen, None)).view(len(z), 3, MIXTURES)[d]
        (low, high), softplus = CODE_LOGVAR, torch.nn.functional.softplus
        scale = torch.exp((low + softplus(high - low - softplus(high - out[2]))) / 2)
        mixture = distributions.MixtureSameFamily(
            distributions.Categorical(logits=out[0]), distributions.Normal(out[1], scale)
        )
        total = total + mixture.log_prob(z[d])
    return total


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("layers", [1, 3])
def test_each_value_has_a_mixture_of_those_before_it(length: int, layers: int) -> None:
    made, z = prior(length, layers), torch.randn(4, length, dtype=torch.float64)
    want = torch.stack([by_hand(made, each) for each in z])
    torch.testing.assert_close(made.log_prob(z, None), want, rtol=1e-9, atol=1e-9)


def test_a_value_sees_those_before_it_alone() -> None:
    made = prior(6, width=32)
    seen = torch.zeros(6, 6, dtype=torch.bool)
    for z in torch.randn(20, 1, 6, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(
            lambda z: made.out(made._hidden(z, None)).view(6, -1).square().sum(1), z
        )
        seen |= jacobian[:, 0] != 0
    assert torch.equal(seen, torch.ones(6, 6).tril(-1).bool())


def test_density_sums_to_one() -> None:
    made = prior(2)
    line = torch.linspace(-12, 12, 1201, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        total = made.log_prob(grid, None).exp().sum() * (line[1] - line[0]) ** 2
    assert total == pytest.approx(1, abs=1e-4)


def test_without_layers_it_is_the_standard_normal() -> None:
    made, z = AutoregressivePrior(6, 0, 8, Condition()), torch.randn(4, 6)
    torch.testing.assert_close(made.log_prob(z, None), distributions.Normal(0, 1).log_prob(z).sum(1))
    assert torch.equal(made.draw(z, torch.rand(4, 6, MIXTURES), None, 0.5), 0.5 * z)
    assert not list(made.parameters())


@pytest.mark.parametrize("condition", [Condition(3), Condition(None, 2)])
def test_labels_move_every_value(condition: Condition) -> None:
    made = prior(condition=condition)
    noise, uniforms = torch.randn(1, 5).double(), torch.rand(1, 5, MIXTURES).double()
    labels: list[Tensor] = (
        [torch.tensor([0]), torch.tensor([1])]
        if condition.num_classes
        else [torch.zeros(1, 2).double(), torch.ones(1, 2).double()]
    )
    first, second = (made.draw(noise, uniforms, each) for each in labels)
    assert ((first - second).abs() > 1e-4).all()
    assert (made.log_prob(first, labels[0]) - made.log_prob(first, labels[1])).abs() > 1e-3


def test_draws_have_the_density() -> None:
    """The mean of f under p by draws and on a grid, f the density itself and the values; five standard errors allowed."""
    made, count = prior(2), 20000
    with torch.no_grad():
        z = made.draw(torch.randn(count, 2).double(), torch.rand(count, 2, MIXTURES).double(), None)
        line = torch.linspace(-12, 12, 801, dtype=torch.float64)
        grid = torch.cartesian_prod(line, line)
        p = made.log_prob(grid, None).exp() * (line[1] - line[0]) ** 2
        for f in (lambda z: made.log_prob(z, None), lambda z: z[:, 0], lambda z: z[:, 1], lambda z: z[:, 0] * z[:, 1]):
            mean, values = (p * f(grid)).sum(), f(z)
            assert (values.mean() - mean).abs() < 5 * values.std() / math.sqrt(count)


def test_at_temperature_0_a_draw_is_the_heaviest_gaussian_s_mean() -> None:
    made = prior(4)
    with torch.no_grad():
        z = made.draw(torch.randn(1, 4).double(), torch.rand(1, 4, MIXTURES).double(), None, 0.0)
        weights, means, _ = made._mixture(made.out(made._hidden(z, None)).view(1, 4, -1))
    torch.testing.assert_close(z, means.gather(2, weights.argmax(2, keepdim=True))[..., 0])


def test_fits_two_clusters() -> None:
    """What N(0, I) cannot be: half of the mass on either side, little between; and what follows from it in the second value."""
    torch.manual_seed(0)
    made = AutoregressivePrior(2, 2, 32, Condition())
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    for _ in range(300):
        side = 2.0 * torch.randint(2, (128, 1)) - 1
        z = side * torch.tensor([[2.0, -1.0]]) + 0.1 * torch.randn(128, 2)
        optimizer.zero_grad()
        (-made.log_prob(z, None).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        drawn = made.draw(torch.randn(2000, 2), torch.rand(2000, 2, MIXTURES), None)
    assert 0.4 < (drawn[:, 0] > 0).float().mean() < 0.6
    assert (drawn[:, 0].abs() < 1).float().mean() < 0.1
    assert (drawn.prod(1) < 0).float().mean() > 0.9
