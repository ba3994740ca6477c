"""The flow over codes: its density by the change of variables, and its inverse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lapcore.nn.condition import Condition
from lapcore.nn.flow import LARGEST_LOG_SCALE, CouplingFlow


def flow(length: int = 5, layers: int = 4, condition: Condition | None = None) -> CouplingFlow:
    """A flow far from the identity, whose rotations are orthogonal to float64's rounding."""
    made = CouplingFlow(length, layers, 16, condition or Condition()).double()
    made.rotations = torch.linalg.qr(made.rotations)[0]
    for coupling in made.couplings:
        torch.nn.init.normal_(coupling.out.weight, std=0.3)
        torch.nn.init.normal_(coupling.out.bias, std=0.3)
    return made


@pytest.mark.parametrize("length", [2, 5, 8])
def test_log_prob_is_the_change_of_variables(length: int) -> None:
    """log N(f(z); 0, I) + log |det df/dz|, with f the inverse of `draw` and the determinant from the whole Jacobian of that."""
    made, noise = flow(length), torch.randn(3, length, dtype=torch.float64)
    codes = made.draw(noise, None)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda e: made.draw(e, None), noise[i : i + 1])
        log_det = torch.linalg.slogdet(jacobian.reshape(length, length))[1]
        want = -0.5 * (noise[i].square() + math.log(2 * math.pi)).sum() - log_det
        torch.testing.assert_close(made.log_prob(codes[i : i + 1], None)[0], want, rtol=1e-9, atol=1e-9)


def test_density_sums_to_one() -> None:
    made = flow(2, 3)
    line = torch.linspace(-30, 30, 1201, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    with torch.no_grad():
        total = made.log_prob(grid, None).exp().sum() * (line[1] - line[0]) ** 2
    assert total == pytest.approx(1, abs=2e-3)


def test_without_layers_and_at_the_start_it_is_the_standard_normal() -> None:
    z = torch.randn(4, 6)
    normal = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    torch.testing.assert_close(CouplingFlow(6, 0, 8, Condition()).log_prob(z, None), normal)
    started = CouplingFlow(6, 8, 8, Condition())
    torch.testing.assert_close(started.log_prob(z, None), normal, rtol=0, atol=0.2)


@pytest.mark.parametrize("condition", [Condition(3), Condition(None, 2)])
def test_labels_move_it(condition: Condition) -> None:
    made, z = flow(condition=condition), torch.randn(1, 5, dtype=torch.float64)
    labels: list[Tensor] = (
        [torch.tensor([0]), torch.tensor([1])]
        if condition.num_classes
        else [torch.zeros(1, 2).double(), torch.ones(1, 2).double()]
    )
    first, second = (made.log_prob(z, each) for each in labels)
    assert (first - second).abs() > 1e-3
    torch.testing.assert_close(made.log_prob(made.draw(z, labels[0]), labels[0]).exp() > 0, torch.tensor([True]))


def test_codes_far_away_stay_finite() -> None:
    made = flow()
    codes = made.draw(torch.full((1, 5), 50.0, dtype=torch.float64), None)
    assert codes.isfinite().all() and codes.abs().max() < 50 * 5 * math.exp(LARGEST_LOG_SCALE) ** 4 * 10


def test_fits_two_clusters() -> None:
    """What N(0, I) cannot be: half of the mass on either side, little between."""
    torch.manual_seed(0)
    made = CouplingFlow(2, 6, 32, Condition())
    centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    optimizer = torch.optim.Adam(made.parameters(), 5e-3)
    for _ in range(300):
        z = centres[torch.randint(2, (128,))] + 0.2 * torch.randn(128, 2)
        optimizer.zero_grad()
        (-made.log_prob(z, None).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        drawn = made.draw(torch.randn(2000, 2), None)[:, 0]
    assert 0.35 < (drawn > 0).float().mean() < 0.65
    assert (drawn.abs() < 1).float().mean() < 0.15
