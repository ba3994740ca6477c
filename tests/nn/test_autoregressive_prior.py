"""The prior of codes: its density value by value, its masks, and its draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, distributions

from lapcore.nn.autoregressive_prior import INITIAL_LOGVAR, MIXTURES, AutoregressivePrior
from lapcore.nn.blocks import CODE_LOGVAR
from lapcore.nn.condition import Condition

CONDITIONS = [Condition(), Condition(3), Condition(None, 2)]


def prior(length: int = 5, layers: int = 3, width: int = 16, condition: Condition | None = None) -> AutoregressivePrior:
    """A prior far from its start, in float64."""
    torch.manual_seed(0)
    made = AutoregressivePrior(length, layers, width, condition or Condition()).double()
    for parameter in (made.out.weight, *made.out_label.parameters()):
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def labels_of(condition: Condition, count: int) -> Tensor | None:
    if condition.num_classes is not None:
        return torch.full((count,), 2)
    return torch.tensor([[0.5, -1.0]]).double().expand(count, 2) if condition.attributes else None


def outputs(made: AutoregressivePrior, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """Logits, means and log-variances of every value, (N, length, 3, MIXTURES), before the bounds, layer by layer."""
    length, width = made.length, made.width
    places, units = torch.arange(length), torch.arange(width) % max(length - 1, 1)
    first = made.first.weight * (units[:, None] >= places)
    features = torch.relu(made.label(z @ first.T + made.first.bias, labels))
    for layer in made.others:
        features = features + torch.relu(features @ (layer.weight * (units[:, None] >= units)).T + layer.bias)
    seen = places.repeat_interleave(3 * MIXTURES)[:, None] > units
    out = made.out_label(features @ (made.out.weight * seen).T + made.out.bias, labels)
    return out.view(len(z), length, 3, MIXTURES)


def bounded(logvar: Tensor) -> Tensor:
    (low, high), softplus = CODE_LOGVAR, torch.nn.functional.softplus
    return low + softplus(high - low - softplus(high - logvar))


def by_hand(made: AutoregressivePrior, z: Tensor, labels: Tensor | None) -> Tensor:
    """log p(z) of one code, each value's mixture from a forward pass in which all later values are other ones."""
    total = torch.zeros((), dtype=torch.float64)
    for d in range(len(z)):
        seen = torch.cat([z[:d], torch.randn(len(z) - d, dtype=torch.float64)])[None]
        weights, means, logvars = outputs(made, seen, labels)[0, d]
        mixture = distributions.MixtureSameFamily(
            distributions.Categorical(logits=weights), distributions.Normal(means, torch.exp(bounded(logvars) / 2))
        )
        total = total + mixture.log_prob(z[d])
    return total


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_value_has_a_mixture_of_those_before_it(length: int, layers: int, condition: Condition) -> None:
    made, z = prior(length, layers, condition=condition), torch.randn(4, length, dtype=torch.float64)
    want = torch.stack([by_hand(made, each, labels_of(condition, 1)) for each in z])
    torch.testing.assert_close(made.log_prob(z, labels_of(condition, 4)), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [2, 32])
def test_a_value_sees_all_of_those_before_it_and_no_other(width: int) -> None:
    """Also where fewer units are asked for than z has values."""
    made = prior(6, width=width)
    seen = torch.zeros(6, 6, dtype=torch.bool)
    for z in torch.randn(40, 1, 6, dtype=torch.float64):
        z.requires_grad_()
        for d, (_, out) in enumerate(made._outputs(z, None)):
            (gradient,) = torch.autograd.grad(out.square().sum(), z, allow_unused=True)
            seen[d] |= gradient[0] != 0
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


@pytest.mark.parametrize("condition", CONDITIONS)
def test_draws_have_the_density(condition: Condition) -> None:
    """The mean of f under p by draws and on a grid, f the density itself and the values; five standard errors allowed."""
    made, count = prior(2, condition=condition), 20000

    def density(z: Tensor) -> Tensor:
        return made.log_prob(z, labels_of(condition, len(z)))

    with torch.no_grad():
        noise, uniforms = torch.randn(count, 2).double(), torch.rand(count, 2, MIXTURES).double()
        z = made.draw(noise, uniforms, labels_of(condition, count))
        line = torch.linspace(-12, 12, 401, dtype=torch.float64)
        grid = torch.cartesian_prod(line, line)
        p = density(grid).exp() * (line[1] - line[0]) ** 2
        for f in (density, lambda z: z[:, 0], lambda z: z[:, 1], lambda z: z[:, 0] * z[:, 1]):
            mean, values = (p * f(grid)).sum(), f(z)
            assert (values.mean() - mean).abs() < 5 * values.std() / math.sqrt(count)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_a_draw_is_the_formula(temperature: float) -> None:
    """argmax_j of log w_j + t g_j, then m_j + t s_j e, value by value."""
    made, condition = prior(4, condition=CONDITIONS[1]), CONDITIONS[1]
    noise, uniforms, labels = torch.randn(3, 4).double(), torch.rand(3, 4, MIXTURES).double(), labels_of(condition, 3)
    z = np.zeros((3, 4))
    with torch.no_grad():
        for d in range(4):
            weights, means, logvars = (x.numpy() for x in outputs(made, torch.from_numpy(z), labels)[:, d].unbind(1))
            chosen = np.argmax(weights - temperature * np.log(-np.log(uniforms[:, d].numpy())), 1)
            rows = np.arange(3)
            scale = np.exp(bounded(torch.from_numpy(logvars)).numpy()[rows, chosen] / 2)
            z[:, d] = means[rows, chosen] + temperature * scale * noise[:, d].numpy()
        drawn = made.draw(noise, uniforms, labels, temperature)
    np.testing.assert_allclose(drawn.numpy(), z, rtol=1e-9, atol=1e-9)


def test_with_labels_its_gaussians_start_as_without() -> None:
    made = AutoregressivePrior(5, 2, 16, Condition(3))
    with torch.no_grad():
        logvars = outputs(made, torch.randn(30, 5), torch.arange(30) % 3)[:, :, 2]
    assert (logvars - INITIAL_LOGVAR).abs().max() < 0.5


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
