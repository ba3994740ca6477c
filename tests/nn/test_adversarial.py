"""Adversarial losses against NumPy, and the gradient penalty against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lapcore.nn.adversarial import (
    LOSSES,
    CriticHead,
    class_loss,
    critic_accuracy,
    critic_loss,
    generator_loss,
    gradient_penalty,
)

REAL = np.array([1.3, -0.2, 0.6, 4.0, -1.5])
FAKE = np.array([-0.7, 0.4, -3.0, 1.1])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


CRITIC = {
    "minimax": -np.log(sigmoid(REAL)).mean() - np.log(1 - sigmoid(FAKE)).mean(),
    "nonsaturating": -np.log(sigmoid(REAL)).mean() - np.log(1 - sigmoid(FAKE)).mean(),
    "lsgan": 0.5 * ((REAL - 1) ** 2).mean() + 0.5 * (FAKE**2).mean(),
    "wgan-gp": FAKE.mean() - REAL.mean(),
    "hinge": np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean(),
}
GENERATOR = {
    "minimax": np.log(1 - sigmoid(FAKE)).mean(),
    "nonsaturating": -np.log(sigmoid(FAKE)).mean(),
    "lsgan": 0.5 * ((FAKE - 1) ** 2).mean(),
    "wgan-gp": -FAKE.mean(),
    "hinge": -FAKE.mean(),
}
UNDECIDED = {"lsgan": 0.5, "wgan-gp": np.concatenate([REAL, FAKE]).mean()}


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_are_their_equations(kind: str) -> None:
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    assert critic_loss(kind, real, fake).item() == pytest.approx(CRITIC[kind], rel=1e-12)
    assert generator_loss(kind, fake).item() == pytest.approx(GENERATOR[kind], rel=1e-12)


@pytest.mark.parametrize("kind", LOSSES)
def test_accuracy_counts_scores_on_their_side(kind: str) -> None:
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    point = UNDECIDED.get(kind, 0.0)
    expected = ((point < REAL).sum() + (point > FAKE).sum()) / (len(REAL) + len(FAKE))
    assert critic_accuracy(kind, real, fake).item() == pytest.approx(expected)
    assert critic_accuracy(kind, fake + 20, real - 20).item() == 1
    assert critic_accuracy(kind, fake - 20, real + 20).item() == 0


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_are_finite_for_scores_of_any_size(kind: str) -> None:
    scores = torch.tensor([-300.0, 300.0], requires_grad=True)
    (generator_loss(kind, scores) + critic_loss(kind, scores, scores)).backward()
    assert scores.grad is not None and torch.isfinite(scores.grad).all()
    assert torch.isfinite(generator_loss(kind, scores)) and torch.isfinite(critic_loss(kind, scores, scores))


@pytest.mark.parametrize("kind", LOSSES)
def test_each_player_pushes_scores_its_own_way(kind: str) -> None:
    real, fake = torch.from_numpy(REAL).requires_grad_(), torch.from_numpy(FAKE).requires_grad_()
    down_real, down_fake = torch.autograd.grad(critic_loss(kind, real, fake), (real, fake))
    (up,) = torch.autograd.grad(generator_loss(kind, fake), fake)
    assert down_real[1] < 0 and down_fake[1] > 0 and up[1] < 0


def test_unknown_losses_are_named() -> None:
    scores = torch.zeros(2)
    for call in (
        lambda: generator_loss("wgan", scores),
        lambda: critic_loss("wgan", scores, scores),
        lambda: critic_accuracy("wgan", scores, scores),
    ):
        with pytest.raises(ValueError, match=r"loss: expected minimax, .*hinge, got 'wgan'"):
            call()


def critic(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1), nn.Flatten(0)).double()


def penalty_by_differences(judge: nn.Module, real: Tensor, fake: Tensor, mix: Tensor, step: float = 1e-5) -> float:
    """The penalty with central differences for the gradient, value by value."""
    values = []
    for x, y, w in zip(real.numpy(), fake.numpy(), mix.numpy(), strict=True):
        point = w * x + (1 - w) * y
        slopes = []
        for index in np.ndindex(point.shape):
            ends = []
            for sign in (1, -1):
                moved = point.copy()
                moved[index] += sign * step
                ends.append(judge(torch.from_numpy(moved)[None]).item())
            slopes.append((ends[0] - ends[1]) / (2 * step))
        values.append((np.sqrt(np.square(slopes).sum()) - 1) ** 2)
    return float(np.mean(values))


def test_gradient_penalty_is_its_equation_by_finite_differences() -> None:
    real, fake, mix = torch.rand(3, 2, 3, 3).double(), torch.rand(3, 2, 3, 3).double(), torch.rand(3).double()
    judge = critic()
    penalty = gradient_penalty(judge, real, fake, mix)
    with torch.no_grad():
        expected = penalty_by_differences(judge, real, fake, mix)
    assert penalty.item() == pytest.approx(expected, rel=1e-6)


def test_the_penaltys_gradient_moves_the_critic_by_finite_differences() -> None:
    real, fake, mix = torch.rand(3, 2, 3, 3).double(), torch.rand(3, 2, 3, 3).double(), torch.rand(3).double()
    judge = critic()
    gradient_penalty(judge, real, fake, mix).backward()
    weight = judge[0].weight
    values, step = [], 1e-5
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 1, 0, 1] += sign * step
            values.append(gradient_penalty(judge, real, fake, mix).item())
            weight[0, 1, 0, 1] -= sign * step
    assert weight.grad is not None
    assert weight.grad[0, 1, 0, 1].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_gradient_penalty_reaches_the_critic_alone() -> None:
    real = torch.rand(3, 2, 3, 3).double().requires_grad_()
    fake = torch.rand(3, 2, 3, 3).double().requires_grad_()
    judge = critic()
    gradient_penalty(judge, real, fake, torch.rand(3).double()).backward()
    assert real.grad is None and fake.grad is None
    assert all(p.grad is not None for name, p in judge.named_parameters() if name != "3.bias")


def test_a_slope_of_one_costs_nothing() -> None:
    direction = torch.randn(18).double()
    direction = (direction / direction.norm()).reshape(2, 3, 3)
    images = torch.rand(4, 2, 3, 3).double()
    penalty = gradient_penalty(lambda x: (x * direction).flatten(1).sum(1), images, -images, torch.rand(4).double())
    assert penalty.item() < 1e-24


def test_a_flat_critic_costs_one_and_has_a_finite_gradient() -> None:
    slope = torch.zeros(18, requires_grad=True)
    images = torch.rand(4, 2, 3, 3)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ slope, images, -images, torch.rand(4))
    penalty.backward()
    assert penalty == 1 and slope.grad is not None and torch.isfinite(slope.grad).all()


def test_class_loss_is_its_equation() -> None:
    logits, labels = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(softmax[np.arange(5), labels]).mean()
    assert class_loss(torch.from_numpy(logits), torch.from_numpy(labels)).item() == pytest.approx(expected, rel=1e-12)


def test_the_head_gives_scores_and_if_asked_classes() -> None:
    features = torch.rand(4, 6)
    plain, named = CriticHead(6)(features), CriticHead(6, 3)(features)
    assert plain.scores.shape == (4,) and plain.logits is None
    assert named.scores.shape == (4,) and named.logits is not None and named.logits.shape == (4, 3)
