"""DCGAN: the paper's layers, each player's loss, whom it moves, and sampling by seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lapcore
from lapcore.models import DCGAN
from lapcore.models.adversarial import MIX, PRIOR
from tests.models import adversaries
from tests.models import autoencoders as shared
from tests.models.autoencoders import images_of, numpy


def small(**options: Any) -> DCGAN:
    return DCGAN(**(dict(image_size=16, latent=6, width=4) | options))


def warmed(**options: Any) -> DCGAN:
    """A model with batch-norm statistics of real batches, in evaluation mode."""
    model = small(**options)
    labels = None if model.num_classes is None else torch.arange(6) % model.num_classes
    shared.train_by_hand(model, images_of(6, model.image_size), 5, labels)
    return model.eval()


def test_the_papers_layout() -> None:
    """64x64: 4x4 of 1024 maps, and by 512, 256 and 128 to the image; the critic back."""
    with torch.device("meta"):
        model = DCGAN(width=128)
    generator = [tuple(p.shape) for p in model.generator.parameters() if p.ndim > 1]
    assert generator == [
        (1024 * 4 * 4, 100), (1024, 512, 5, 5), (512, 256, 5, 5), (256, 128, 5, 5), (128, 3, 5, 5),
    ]  # fmt: skip
    critic = [tuple(p.shape) for p in model.critic.parameters() if p.ndim > 1]
    assert critic == [
        (128, 3, 5, 5), (256, 128, 5, 5), (512, 256, 5, 5), (1024, 512, 5, 5), (1, 1024 * 4 * 4),
    ]  # fmt: skip
    norms = [m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == [1024, 512, 256, 128, 256, 512, 1024]
    assert {m.negative_slope for m in model.critic.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}


def test_the_papers_training() -> None:
    critic, generator = small().players("all")
    for player in (critic, generator):
        assert (player.optimizer, player.lr, player.betas, player.turns) == ("adamw", 2e-4, (0.5, 0.999), 1)
        assert (player.schedule, player.warmup, player.grad_clip) == ("constant", 0, 0.0)
    assert critic.modules != generator.modules and (critic.averaged, generator.averaged) == (False, True)
    critic, generator = small(loss="wgan-gp", norm="none").players("all")
    assert (critic.lr, critic.betas, critic.turns, generator.turns) == (1e-4, (0.0, 0.9), 5, 1)


def test_the_papers_starting_weights() -> None:
    for name, parameter in DCGAN(image_size=32, width=32).requires_grad_(False).named_parameters():
        if parameter.ndim > 1:
            assert abs(parameter.mean()) < 2e-3 and parameter.std() == pytest.approx(0.02, rel=0.1), name
        elif name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            assert parameter.mean() == pytest.approx(1, abs=0.02), name


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    model = small(norm="spectral")
    model.train()
    for _ in range(200):  # power iterations
        model.critic(images_of(2), None)
    layers = [m for m in model.critic.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        values = np.linalg.svd(numpy(layer.weight).reshape(len(layer.weight), -1), compute_uv=False)
        assert values[0] == pytest.approx(1, rel=1e-3)


def judged(model: DCGAN, images: Tensor) -> Any:
    return numpy(model.critic(images, None).scores)


@pytest.mark.parametrize("kind", adversaries.KINDS)
def test_losses_are_the_formulas(kind: str) -> None:
    """In evaluation mode, where the critic takes images one by one."""
    model = warmed(loss=kind, norm="none" if kind == "wgan-gp" else "batch", penalty_weight=3.0).double()
    images, seeds = images_of(4).double(), torch.tensor([3, 1, 4, 1])
    z = 2 * lapcore.random.uniform((4, 6), seeds, stream=PRIOR, dtype=torch.float64) - 1
    drawn = model.generator(z, None)
    assert torch.equal(model.sample(seeds), drawn)
    real, fake = judged(model, images), judged(model, drawn)
    point = {"lsgan": 0.5, "wgan-gp": np.concatenate([real, fake]).mean()}.get(kind, 0.0)
    critic = {
        "loss": adversaries.critic_equation(kind, real, fake),
        "accuracy": np.concatenate([real > point, fake < point]).mean(),
    }
    if kind == "wgan-gp":
        critic["penalty"] = adversaries.penalty(lambda x: model.critic(x, None).scores, images, drawn, seeds, MIX)
        critic["loss"] += 3 * critic["penalty"]
    generator = {"loss": adversaries.generator_equation(kind, fake)}
    adversaries.assert_losses_are(model, images, seeds, "all", {"critic": critic, "generator": generator})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "spectral"},
        {"norm": "none", "loss": "wgan-gp"},
        {"loss": "hinge"},
        {"num_classes": 3},
        {"num_classes": 3, "class_head": True},
    ],
)
def test_gradients_reach_the_player_alone(options: dict[str, Any]) -> None:
    labels = torch.arange(6) % 3 if "num_classes" in options else None
    # Wasserstein and hinge scores may be moved together at no cost.
    unused = ["head.score.bias"] if options.get("loss") in ("wgan-gp", "hinge") else []
    shared.assert_gradients_reach_the_player_alone(small(**options), images_of(6), "all", labels, unused)


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_each_player_wins_alone(norm: str) -> None:
    torch.manual_seed(0)
    model = small(norm=norm, width=8, loss="nonsaturating" if norm == "batch" else "hinge")
    adversaries.assert_each_wins_alone(model, images_of(16), "all", 80)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_sample_depends_on_its_seed_and_label_alone(labelled: bool) -> None:
    model = warmed(num_classes=3 if labelled else None)
    shared.assert_a_sample_depends_on_its_seed_and_label_alone(model, labelled)


def test_attributes_reach_both_networks() -> None:
    model, images = small(attributes=["glasses", "hat"]).eval(), images_of(4)
    seeds, none = torch.arange(4), torch.zeros(4, 2)
    hats = torch.tensor([0.0, 1.0]).expand(4, 2)
    assert not torch.equal(model.sample(seeds, none), model.sample(seeds, hats))
    torch.nn.init.constant_(model.critic.planes.plane.linear.bias, 0.5)
    assert not torch.equal(model.critic(images, none).scores, model.critic(images, hats).scores)


def test_with_a_class_head_the_critic_is_not_told_the_class() -> None:
    model, images = small(num_classes=3, class_head=True).eval(), images_of(4)
    first, second = (model.critic(images, torch.full((4,), label)) for label in (0, 2))
    assert torch.equal(first.scores, second.scores) and first.logits.shape == (4, 3)


@pytest.mark.parametrize("size", [1, 5, 13, 24])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size: int, channels: int) -> None:
    model = small(image_size=size, channels=channels)
    images = images_of(3, size, channels)
    assert model.loss(images)["loss"].isfinite()
    drawn = model.eval().sample(torch.arange(2))
    assert drawn.shape == (2, channels, size, size) and drawn.abs().max() <= 1


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_a_saved_model_comes_back_the_same(norm: str, tmp_path: Path) -> None:
    model, images = warmed(num_classes=3, norm=norm), images_of(3)
    labels = torch.tensor([0, 2])
    shared.assert_comes_back_the_same(model, tmp_path / "m", labels)
    again, seeds = DCGAN.from_pretrained(tmp_path / "m"), torch.arange(3)
    for player in ("critic", "generator"):
        first, second = (m.loss(images, torch.arange(3), seeds=seeds, player=player)["loss"] for m in (model, again))
        assert torch.equal(first, second)


def test_trains_through_the_loop(tmp_path: Path) -> None:
    model = small(image_size=8, num_classes=2, class_head=True)
    shared.assert_trains(model, tmp_path, labelled=True, absent=["penalty"])
    lines = [json.loads(line)["losses"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert {"generator_loss", "critic_loss", "critic_accuracy", "critic_real_class_loss"} <= lines[0].keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "layer"}, "norm: expected batch, spectral, none, got 'layer'"),
        ({"loss": "wgan-gp"}, 'norm: expected "spectral" or "none" with loss "wgan-gp", got "batch"'),
        ({"loss": "w"}, "loss: expected minimax"),
        ({"width": 0}, "width"),
        ({"class_head": True}, "class_head"),
        ({"attributes": ["a"], "class_head": True}, "class_head"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_a_batch_of_one_is_refused_in_training() -> None:
    with pytest.raises(ValueError, match="images: expected at least 2"):
        small().loss(images_of(1), player="critic")
