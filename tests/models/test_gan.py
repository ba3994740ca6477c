"""GAN: the published networks, each player's loss, whom it moves, and sampling by seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lapcore
from lapcore.models import GAN
from lapcore.models.adversarial import MIX, PRIOR
from tests.models import adversaries
from tests.models import autoencoders as shared
from tests.models.autoencoders import images_of, numpy


def small(**options: Any) -> GAN:
    settings = dict(image_size=8, latent=6, hidden=(16, 12), critic_hidden=(10, 8))
    return GAN(**(settings | options))


def shapes(network: torch.nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in network.parameters() if p.ndim > 1]


@pytest.mark.parametrize(
    ("options", "generator", "critic"),
    [
        ({}, [(8000, 100), (8000, 8000), (3072, 8000)], [(1600, 3072), (1600, 1600), (1, 1600)]),
        (
            {"networks": "goodfellow"},
            [(8000, 100), (8000, 8000), (3072, 8000)],
            [(8000, 3072), (8000, 1600), (1, 1600)],
        ),
        (
            {"networks": "goodfellow-mnist", "image_size": 28, "channels": 1},
            [(1200, 100), (1200, 1200), (784, 1200)],
            [(1200, 784), (1200, 240), (1, 240)],
        ),
    ],
)
def test_the_published_layouts(options: dict[str, Any], generator: Any, critic: Any) -> None:
    with torch.device("meta"):
        model = GAN(**options)
    assert shapes(model.generator) == generator and shapes(model.critic) == critic


def test_the_published_starting_weights() -> None:
    """With other numbers of units, the sums over them have the variance of the published 8000."""
    model = GAN(image_size=16, networks="goodfellow", hidden=(300, 400))
    weights = [p for p in [*model.generator.parameters(), *model.critic.parameters()] if p.ndim > 1]
    first, second = (8000 / 300) ** 0.5, (8000 / 400) ** 0.5
    for weight, bound in zip(weights, [0.05, 0.05 * first, 0.5 * second, 0.005, 0.005, 0.005], strict=True):
        assert 0.98 * bound < weight.abs().max() <= bound
    weights = [p for p in GAN(image_size=16, hidden=(300, 400)).generator.parameters() if p.ndim > 1]
    assert [p.std().item() for p in weights] == pytest.approx([0.05, 0.05 * first, 0.05 * second], rel=0.05)
    assert all((p == 0).all() for p in model.parameters() if p.ndim == 1)


@pytest.mark.parametrize("hidden", [(300, 300), (1000, 500)])
def test_images_depend_on_their_seeds_from_the_start(hidden: tuple[int, int]) -> None:
    drawn = GAN(image_size=8, hidden=hidden).sample(torch.arange(64))
    assert 0.2 < drawn.std(0).mean() < 0.5


def test_the_published_optimisers() -> None:
    for networks, lr in (("lapgan", 0.02), ("goodfellow", 0.025), ("goodfellow-mnist", 0.1)):
        critic, generator = small(networks=networks).players("all")
        assert (critic.name, generator.name) == ("critic", "generator")
        for player in (critic, generator):
            assert (player.optimizer, player.lr, player.momentum, player.turns) == ("sgd", lr, 0.5, 1)
            assert (player.final_momentum, player.lr_decay) == (0.7, 4e-6)
        assert (critic.averaged, generator.averaged) == (False, True)
    critic, generator = small(loss="wgan-gp").players("all")
    assert (critic.optimizer, critic.lr, critic.betas) == ("adamw", 1e-4, (0.0, 0.9))
    assert (critic.turns, generator.turns) == (5, 1)


def network(model: GAN, z: Any, images: Any) -> tuple[Any, Any, Any]:
    """What is drawn, and the scores of what is real and drawn, layer by layer in NumPy."""
    weights = {name: numpy(p) for name, p in model.named_parameters()}

    def linear(x: Any, name: str) -> Any:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def hidden(x: Any, index: int) -> Any:
        if f"critic.layers.{index}.weight" in weights:
            return np.maximum(linear(x, f"critic.layers.{index}"), 0)
        pieces = linear(x, f"critic.layers.{index}.linear")
        return pieces.reshape(len(x), -1, 5).max(2)

    def critic(x: Any) -> Any:
        first, second = (1, 4) if "critic.layers.4.weight" in weights else (1, 3)
        return linear(hidden(hidden(2 * x, first), second), "critic.head.score")[:, 0]

    drawn = np.maximum(linear(z, "generator.layers.0"), 0)
    drawn = linear(drawn, "generator.layers.2")
    squash = model.config["networks"] == "goodfellow-mnist"
    drawn = np.maximum(drawn, 0) if squash else adversaries.sigmoid(drawn)
    drawn = linear(drawn, "generator.layers.4")
    drawn = np.tanh(drawn) if squash else 0.5 * drawn
    return drawn, critic(images), critic(drawn)


@pytest.mark.parametrize("networks", ["lapgan", "goodfellow", "goodfellow-mnist"])
@pytest.mark.parametrize("kind", adversaries.KINDS)
def test_losses_are_the_formulas(networks: str, kind: str) -> None:
    """In evaluation mode, where nothing is dropped."""
    model = small(networks=networks, loss=kind, penalty_weight=3.0).eval().double()
    images, seeds = images_of(4, 8).double(), torch.tensor([3, 1, 4, 1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    draw = lapcore.random.uniform if networks == "lapgan" else lapcore.random.normal
    z = numpy(draw((4, 6), seeds, stream=PRIOR, dtype=torch.float64))
    z = 2 * z - 1 if networks == "lapgan" else z
    drawn, real, fake = network(model, z, numpy(images).reshape(4, -1))
    np.testing.assert_allclose(numpy(model.sample(seeds)).reshape(4, -1), drawn, atol=1e-6)
    point = {"lsgan": 0.5, "wgan-gp": np.concatenate([real, fake]).mean()}.get(kind, 0.0)
    critic = {
        "loss": adversaries.critic_equation(kind, real, fake),
        "accuracy": np.concatenate([real > point, fake < point]).mean(),
    }
    if kind == "wgan-gp":
        fakes = torch.from_numpy(drawn).reshape(images.shape)
        critic["penalty"] = adversaries.penalty(lambda x: model.critic(x, None).scores, images, fakes, seeds, MIX)
        critic["loss"] += 3 * critic["penalty"]
    generator = {"loss": adversaries.generator_equation(kind, fake)}
    adversaries.assert_losses_are(model, images, seeds, "all", {"critic": critic, "generator": generator})


def test_the_class_head_adds_its_cross_entropies() -> None:
    model = small(num_classes=3, class_head=True).eval().double()
    images, seeds, labels = images_of(4, 8).double(), torch.tensor([3, 1, 4, 1]), torch.tensor([0, 2, 1, 1])
    drawn = model.sample(seeds, labels)
    (real, real_logits), (fake, fake_logits) = (model.critic(x, None) for x in (images, drawn))
    on_real, on_fake = (adversaries.cross_entropy(numpy(x), labels) for x in (real_logits, fake_logits))
    kind = "nonsaturating"
    expected = {
        "labels": labels,
        "critic": {
            "loss": adversaries.critic_equation(kind, numpy(real), numpy(fake)) + on_real + on_fake,
            "accuracy": np.concatenate([numpy(real) > 0, numpy(fake) < 0]).mean(),
            "real_class_loss": on_real,
        },
        "generator": {
            "loss": adversaries.generator_equation(kind, numpy(fake)) + on_fake,
            "fake_class_loss": on_fake,
        },
    }
    adversaries.assert_losses_are(model, images, seeds, "all", expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"networks": "goodfellow"},
        {"networks": "goodfellow-mnist"},
        {"num_classes": 3},
        {"num_classes": 3, "class_head": True},
        *[{"loss": kind} for kind in adversaries.KINDS],
    ],
)
def test_gradients_reach_the_player_alone(options: dict[str, Any]) -> None:
    labels = torch.arange(6) % 3 if "num_classes" in options else None
    # Wasserstein and hinge scores may be moved together at no cost.
    unused = ["head.score.bias"] if options.get("loss") in ("wgan-gp", "hinge") else []
    shared.assert_gradients_reach_the_player_alone(small(**options), images_of(6, 8), "all", labels, unused)


def test_the_critics_loss_leaves_the_generator_alone_without_freezing() -> None:
    model = small()
    model.loss(images_of(4, 8), player="critic")["loss"].backward()
    assert all(p.grad is None for p in model.generator.parameters())


def test_attributes_reach_both_networks() -> None:
    model, images = small(attributes=["glasses", "hat"]).eval(), images_of(4, 8)
    seeds, none = torch.arange(4), torch.zeros(4, 2)
    hats = torch.tensor([0.0, 1.0]).expand(4, 2)
    assert not torch.equal(model.sample(seeds, none), model.sample(seeds, hats))
    assert not torch.equal(model.critic(images, none).scores, model.critic(images, hats).scores)
    assert model.loss(images, hats)["loss"].isfinite()


def test_each_player_wins_alone() -> None:
    torch.manual_seed(0)
    adversaries.assert_each_wins_alone(small(critic_hidden=(64, 64)), images_of(16, 8), "all")


@pytest.mark.parametrize("labelled", [False, True])
def test_a_sample_depends_on_its_seed_and_label_alone(labelled: bool) -> None:
    model = small(num_classes=3 if labelled else None, networks="goodfellow").eval()
    shared.assert_a_sample_depends_on_its_seed_and_label_alone(model, labelled)


def test_noise_of_a_loss_without_seeds_follows_torch() -> None:
    model, images = small().eval().double(), images_of(4, 8).double()
    torch.manual_seed(1)
    first = model.loss(images)["loss"]
    assert not torch.equal(model.loss(images)["loss"], first)
    torch.manual_seed(1)
    assert torch.equal(model.loss(images)["loss"], first)


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    model = small(num_classes=3, class_head=True, networks="goodfellow")
    shared.assert_comes_back_the_same(model, tmp_path / "m", torch.tensor([0, 2]))


def test_trains_through_the_loop(tmp_path: Path) -> None:
    shared.assert_trains(small(num_classes=2), tmp_path, labelled=True, absent=adversaries.OPTIONAL)
    lines = [json.loads(line)["losses"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert {"generator_loss", "critic_loss", "critic_accuracy"} <= lines[0].keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": "dcgan"}, "networks: expected lapgan, goodfellow, goodfellow-mnist, got 'dcgan'"),
        ({"loss": "wgan"}, "loss: expected minimax, .*, got 'wgan'"),
        ({"penalty_weight": -1.0}, "penalty_weight: expected a number from 0, got -1.0"),
        ({"class_head": True}, "class_head: expected num_classes"),
        ({"hidden": (8,)}, r"hidden: expected 2 numbers, one a layer, got \(8,\)"),
        ({"critic_hidden": (0,)}, "critic_hidden: expected integers of at least 1"),
        ({"latent": 0}, "latent"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_bad_arguments_are_named() -> None:
    model, images = small().eval(), images_of(2, 8)
    with pytest.raises(ValueError, match="player: expected critic or generator, got 'model'"):
        model.loss(images, player="model")
    with pytest.raises(ValueError, match="stage: expected all, got 'level0'"):
        model.loss(images, stage="level0")
    with pytest.raises(ValueError, match="stage"):
        model.players("level0")
    with pytest.raises(ValueError, match=r"images: .*\(N, 3, 8, 8\)"):
        model.loss(images[..., :4])
    with pytest.raises(TypeError, match=r"seeds: .*int64"):
        model.sample(torch.zeros(2))
    with pytest.raises(ValueError, match="labels: expected None"):
        model.sample(torch.arange(2), torch.arange(2))
