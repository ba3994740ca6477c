"""VAEGAN: each player's loss, whom it moves, the equilibrium rule, and the operations on images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.models.autoencoding import POSTERIOR, PRIOR
from lapcore.models.vaegan import VAEGAN, Balance
from tests.models import autoencoders as shared
from tests.models.autoencoders import CLOSE, images_of, numpy


def small(**options: Any) -> VAEGAN:
    settings = dict(
        image_size=16, latent=6, widths=(8, 16), decoder_widths=(8, 8), hidden=16, critic_widths=(4, 8, 8, 8),
        critic_hidden=12,
    )  # fmt: skip
    return VAEGAN(**(settings | options))


def warmed(**options: Any) -> VAEGAN:
    model = small(**options)
    shared.train_by_hand(model, images_of(6), 5, None if model.num_classes is None else torch.arange(6) % 3)
    return model.eval()


def test_the_papers_layout() -> None:
    shapes = [tuple(p.shape) for p in VAEGAN().critic.parameters() if p.ndim in (2, 4)]
    assert shapes == [
        (32, 3, 5, 5), (128, 32, 5, 5), (256, 128, 5, 5), (256, 256, 5, 5), (512, 256 * 8 * 8), (1, 512),
    ]  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"adversarial": "nonsaturating"}])
def test_gradients_reach_the_player_alone(options: dict[str, Any]) -> None:
    labels = torch.arange(6) % 3 if "num_classes" in options else None
    shared.assert_gradients_reach_the_player_alone(small(**options), images_of(6), "all", labels)


def judged(model: VAEGAN, images: Tensor) -> tuple[Any, Any]:
    features, scores = model.critic(images, None)
    return numpy(features).reshape(len(images), -1), numpy(scores)


@pytest.mark.parametrize("adversarial", ["minimax", "nonsaturating"])
def test_losses_are_the_formulas(adversarial: str) -> None:
    """In evaluation mode, where the critic takes images one by one, against logarithms of probabilities in NumPy."""
    model = warmed(gamma=0.01, kl_weight=0.5, adversarial=adversarial).double()
    images, seeds = images_of(4).double(), torch.tensor([3, 1, 4, 1])
    mean, logvar = map(numpy, model.encode(images))

    def noise(stream: int) -> Any:
        return numpy(lapcore.random.normal((4, 6), seeds, stream=stream, dtype=torch.float64))

    decoded = model.decode(torch.from_numpy(mean + np.exp(logvar / 2) * noise(POSTERIOR)))
    drawn = model.decode(torch.from_numpy(noise(PRIOR)))
    (real_features, real), (features, first), (_, second) = (judged(model, x) for x in (images, decoded, drawn))
    likeness = ((real_features - features) ** 2).sum(1).mean() / 2
    kl = shared.kl(mean, logvar).mean()
    on_real = -np.log(1 / (1 + np.exp(-real))).mean()
    probabilities = 1 / (1 + np.exp(-np.concatenate([first, second])))
    on_fake = -np.log(1 - probabilities).mean()
    gan = np.log(1 - probabilities).mean() if adversarial == "minimax" else -np.log(probabilities).mean()
    expected = {
        "encoder": {
            "loss": 0.5 * kl + likeness,
            "kl": kl,
            "likeness": likeness,
            "mse": numpy((decoded - images) ** 2).mean(),
        },
        "decoder": {"loss": 0.01 * likeness + gan, "likeness": likeness, "real": on_real, "fake": on_fake},
        "critic": {"loss": on_real + on_fake, "real": on_real, "fake": on_fake},
    }
    accuracy = np.concatenate([real > 0, real > 0, first < 0, second < 0]).mean()
    for player, values in expected.items():
        losses = model.loss(images, seeds=seeds, player=player)
        if player != "encoder":
            values["accuracy"] = accuracy
        assert losses.keys() == values.keys()
        for name, value in values.items():
            assert losses[name].item() == pytest.approx(value, rel=1e-6), (player, name)
            assert name == "loss" or not losses[name].requires_grad
    together = {name: loss.item() for name, loss in model.loss(images, seeds=seeds).items()}
    named = {"loss": expected["decoder"]["loss"], "encoder": expected["encoder"]["loss"]}
    assert together == pytest.approx(named | {"critic": expected["critic"]["loss"]}, rel=1e-6)


def test_features_are_what_the_third_strided_convolution_gives() -> None:
    model, x = warmed(), images_of(2)
    given: list[Tensor] = []
    convolutions = [module for module in model.critic.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [c.stride for c in convolutions] == [(1, 1), (2, 2), (2, 2), (2, 2)]
    convolutions[3].register_forward_hook(lambda module, inputs, output: given.append(output.clone()))
    assert torch.equal(model.critic.features(x), given[0])
    assert torch.equal(model.critic(x, None)[0], given[1])


@pytest.mark.parametrize(
    ("real", "fake", "decoder", "critic"),
    [
        (0.68, 0.68, True, True),
        (0.34, 0.34, True, True),
        (0.32, 0.68, True, False),
        (0.68, 0.32, True, False),
        (1.02, 1.02, True, True),
        (1.04, 0.68, False, True),
        (0.68, 1.04, False, True),
        (0.32, 1.04, True, True),
        (1.04, 0.32, True, True),
    ],
)
def test_the_equilibrium_rule(real: float, fake: float, decoder: bool, critic: bool) -> None:
    """Thresholds 0.33 and 1.03: who is ahead waits, and if the two means disagree, nobody does."""
    players = {player.name: player for player in small().players("all")}
    means = {"loss": 0.0, "real": real, "fake": fake}
    assert players["encoder"].plays is None
    assert players["decoder"].plays is not None and players["decoder"].plays(means) is decoder
    assert players["critic"].plays is not None and players["critic"].plays(means) is critic


def test_the_equilibrium_rule_at_its_thresholds() -> None:
    rule = Balance(0.5, 0.25)
    assert rule.critic_plays({"real": 0.25, "fake": 0.5}) and not rule.critic_plays({"real": 0.249, "fake": 0.5})
    assert rule.decoder_plays({"real": 0.75, "fake": 0.5}) and not rule.decoder_plays({"real": 0.751, "fake": 0.5})


def test_players() -> None:
    model = small()
    players = model.players("all")
    assert [p.name for p in players] == ["encoder", "decoder", "critic"]
    assert [p.modules for p in players] == [(model.encoder,), (model.decoder,), (model.critic,)]
    assert [p.averaged for p in players] == [True, True, False]
    with pytest.raises(ValueError, match="stage"):
        model.players("critic")


@pytest.mark.parametrize(("player", "falls"), [("encoder", "loss"), ("decoder", "likeness"), ("critic", "loss")])
def test_a_player_that_plays_alone_wins(player: str, falls: str) -> None:
    """The others fixed, what it minimises falls by half on one batch."""
    torch.manual_seed(0)
    model, images = small(gamma=1.0), images_of(6)
    model.set_stage("all")
    optimizer = torch.optim.Adam(getattr(model, player).parameters(), 5e-3)
    values = []
    for _ in range(60):
        losses = shared.turn(model, images, None, "all", player)
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        values.append(losses[falls].item())
    assert sum(values[-5:]) < 0.5 * sum(values[:5])


@pytest.mark.parametrize("labelled", [False, True])
def test_a_sample_depends_on_its_seed_and_label_alone(labelled: bool) -> None:
    model = warmed(num_classes=3 if labelled else None)
    shared.assert_a_sample_depends_on_its_seed_and_label_alone(model, labelled)


@pytest.mark.parametrize("size", [5, 13])
def test_any_size(size: int) -> None:
    model = warmed_of(size)
    assert model.sample(torch.arange(2)).shape == (2, 3, size, size)
    assert model.loss(images_of(2, size), player="critic")["loss"].isfinite()


def warmed_of(size: int) -> VAEGAN:
    model = small(image_size=size)
    shared.train_by_hand(model, images_of(6, size), 3)
    return model.eval()


def test_interpolation_and_attribute_vectors() -> None:
    model, images = warmed(), images_of(5)
    line = model.interpolate(images[:2], images[2:4], 3)
    torch.testing.assert_close(line[0], model.reconstruct(images[:2]), **CLOSE)
    torch.testing.assert_close(line[2], model.reconstruct(images[2:4]), **CLOSE)
    has = torch.tensor([True, False, True, True, False])
    codes = numpy(model.encode(images)[0])
    vector = model.attribute_vector(images, has)
    # Two means of at most three codes and their difference take six roundings.
    rounding = 6 * torch.finfo(torch.float32).eps / 2 * 2 * np.abs(codes).max()
    np.testing.assert_allclose(vector, codes[[0, 2, 3]].mean(0) - codes[[1, 4]].mean(0), rtol=0, atol=rounding)
    shifted = model.shift(images, -2 * vector)
    torch.testing.assert_close(shifted, model.decode(model.encode(images)[0] - 2 * vector), **CLOSE)


def test_autocast_changes_little() -> None:
    shared.assert_autocast_changes_little(warmed(), images_of(6))


def test_trains_through_the_loop(tmp_path: Path) -> None:
    shared.assert_trains(small(image_size=8), tmp_path)
    lines = [json.loads(line)["losses"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert {"encoder_kl", "decoder_plays", "critic_plays", "critic_accuracy"} <= lines[0].keys()


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    shared.assert_comes_back_the_same(warmed(), tmp_path / "m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critic_widths": (4, 8)}, "critic_widths: expected 4 numbers"),
        ({"adversarial": "hinge"}, 'adversarial: expected "minimax" or "nonsaturating"'),
        ({"gamma": -1.0}, "gamma: expected a number from 0"),
        ({"margin": float("nan")}, "margin: expected a number from 0"),
        ({"decoder_widths": (8,)}, "decoder_widths: expected 2 numbers"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_bad_arguments_are_named() -> None:
    model, images = warmed(), images_of(3)
    with pytest.raises(ValueError, match="player: expected encoder, decoder, critic, got 'generator'"):
        model.loss(images, player="generator")
    with pytest.raises(ValueError, match="has: expected images with the attribute and images without, got all True"):
        model.attribute_vector(images, torch.ones(3, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"has: expected torch\.bool"):
        model.attribute_vector(images, torch.ones(3))
    with pytest.raises(ValueError, match=r"has: expected shape \(3,\)"):
        model.attribute_vector(images, torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"vector: expected shape \(6,\), got \(7,\)"):
        model.shift(images, torch.zeros(7))
