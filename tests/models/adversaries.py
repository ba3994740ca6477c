"""What the tests of adversarial models share: the equations of their losses in NumPy, and players that play alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lapcore
from tests.models import autoencoders as shared

KINDS = ("minimax", "nonsaturating", "lsgan", "wgan-gp", "hinge")


OPTIONAL = ("penalty", "real_class_loss", "fake_class_loss")
"""What is logged with a gradient penalty and with a class head."""


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def critic_equation(kind: str, real: Any, fake: Any) -> float:
    values = {
        "lsgan": 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean(),
        "wgan-gp": fake.mean() - real.mean(),
        "hinge": np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean(),
    }
    return float(values.get(kind, -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean()))


def generator_equation(kind: str, fake: Any) -> float:
    values = {
        "minimax": np.log(1 - sigmoid(fake)).mean(),
        "nonsaturating": -np.log(sigmoid(fake)).mean(),
        "lsgan": 0.5 * ((fake - 1) ** 2).mean(),
    }
    return float(values.get(kind, -fake.mean()))


def cross_entropy(logits: Any, labels: Tensor) -> float:
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(-np.log(softmax[np.arange(len(logits)), labels.numpy()]).mean())


def penalty(judge: Any, real: Tensor, fake: Tensor, seeds: Tensor, stream: int) -> float:
    """E (||grad D|| - 1)^2 between real and drawn, with each image's slope in the direction of its gradient by differences."""
    mix = lapcore.random.uniform((len(seeds),), seeds, stream=stream).double()[:, None, None, None]
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(judge(between).sum(), between)
    norms = gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    step = 1e-6 * gradient / norms.clamp(min=1e-30)
    with torch.no_grad():
        slopes = (judge(between + step) - judge(between - step)) / 2e-6
    return float(((shared.numpy(slopes) - 1) ** 2).mean())


def assert_losses_are(model: Any, images: Tensor, seeds: Tensor, stage: str, expected: dict[str, Any]) -> None:
    """expected: by player, what its loss reports; labels under "labels"."""
    labels = expected.pop("labels", None)
    for player, values in expected.items():
        losses = model.loss(images, labels, stage=stage, seeds=seeds, player=player)
        assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(values, rel=1e-6), player
        assert all(name == "loss" or not loss.requires_grad for name, loss in losses.items())
    together = {name: loss.item() for name, loss in model.loss(images, labels, stage=stage, seeds=seeds).items()}
    named = {**expected["critic"], **expected["generator"], "critic": expected["critic"]["loss"]}
    assert together == pytest.approx(named, rel=1e-6)


def assert_each_wins_alone(
    model: Any, images: Tensor, stage: str, steps: int = 60, lr: float = 2e-3, labels: Tensor | None = None
) -> None:
    """The other fixed, the critic learns to tell, and then the generator to fool it."""
    model.set_stage(stage)
    for player in model.players(stage):
        optimizer = torch.optim.Adam([w for m in player.modules for w in m.parameters()], lr)
        values = []
        for _ in range(steps):
            losses = shared.turn(model, images, labels, stage, player.name)
            losses["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            values.append(losses["loss"].item())
        assert sum(values[-5:]) < 0.5 * sum(values[:5]), (player.name, values)
        if player.name == "critic":
            assert losses["accuracy"] > 0.9
