"""What the tests of the autoencoders share: smooth images, training by hand, and the formulas of Gaussians in NumPy."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lapcore.models import ImageModel, load_model
from lapcore.training import TrainConfig, train
from tests.training.tiny import Pictures

CLOSE = {"rtol": 0.0, "atol": 2e-5}
"""Pixels of two batch shapes: a few hundred float32 roundings of values near 1."""


def images_of(count: int, size: int = 16, channels: int = 3) -> Tensor:
    coarse = torch.rand(count, channels, 4, 4)
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear") * 2 - 1


def train_by_hand(
    model: Any, images: Tensor, steps: int, labels: Tensor | None = None, stage: str | None = None, lr: float = 5e-3
) -> list[dict[str, dict[str, float]]]:
    """What each player's loss says, step by step, on one batch."""
    stage = stage or model.training_stages()[0]
    model.set_stage(stage)
    players = model.players(stage)
    optimizers = {p.name: torch.optim.Adam([w for m in p.modules for w in m.parameters()], lr) for p in players}
    history = []
    for _ in range(steps):
        said = {}
        for player in players:
            losses = turn(model, images, labels, stage, player.name)
            said[player.name] = {key: value.item() for key, value in losses.items()}
            if player.plays is None or player.plays(said[player.name]):
                losses["loss"].backward()
                optimizers[player.name].step()
            optimizers[player.name].zero_grad()
        history.append(said)
    return history


def assert_trains(
    model: Any, folder: Path, steps: int = 3, labelled: bool = False, absent: Collection[str] = ()
) -> None:
    """Through the loop that `lapcore train` runs: all weights move, and the run's model is the one that was trained.

    absent: terms that a model of these settings does not log.
    """
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config = TrainConfig(steps=[steps] * len(model.training_stages()), batch_size=8, num_workers=0, log_every=1)
    out = train(model, Pictures(size=model.image_size), config, folder / "run")
    for name, _ in model.named_parameters():
        assert not torch.equal(model.state_dict()[name], before[name]), name
    seeds, labels = torch.arange(2), torch.tensor([0, 1]) if labelled else None
    assert torch.equal(load_model(out).sample(seeds, labels), model.sample(seeds, labels))
    lines = (folder / "run/log.jsonl").read_text().splitlines()
    assert len(lines) == steps * len(model.training_stages())
    logged = {name for line in lines for name in json.loads(line)["losses"] if not name.endswith("plays")}
    players = [player.name for stage in model.training_stages() for player in model.players(stage)]
    plain = {reduce(lambda text, player: text.removeprefix(f"{player}_"), players, name) for name in logged}
    assert plain == set(model.terms) - set(absent)


BFLOAT16 = torch.finfo(torch.bfloat16).eps / 2
"""The relative error of one rounding to bfloat16."""


def assert_autocast_changes_little(model: Any, images: Tensor, labels: Tensor | None = None) -> None:
    """Networks run in bfloat16, and what is summed is summed in float32."""
    model.eval()
    for stage in model.training_stages():
        for player in model.players(stage):
            whole = turn(model, images, labels, stage, player.name, torch.arange(len(images)))
            with torch.autocast("cpu", torch.bfloat16):
                half = turn(model, images, labels, stage, player.name, torch.arange(len(images)))
            for name, value in half.items():
                assert value.dtype == torch.float32, name
                # Six layers round their weights and their inputs, and what is reported are squares: 24 roundings.
                torch.testing.assert_close(value, whole[name], rtol=24 * BFLOAT16, atol=1e-6, msg=name)
            if half["loss"].requires_grad:
                half["loss"].backward()
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.loss(images, labels)["loss"].isfinite()
        assert model.reconstruct(images, labels=labels).isfinite().all()


def turn(
    model: Any, images: Tensor, labels: Tensor | None, stage: str, player: str, seeds: Tensor | None = None
) -> dict[str, Tensor]:
    """A player's losses while only it requires gradients."""
    players = model.players(stage)
    model.requires_grad_(False)
    for module in next(p for p in players if p.name == player).modules:
        module.requires_grad_(True)
    options: dict[str, Any] = {"player": player} if len(players) > 1 else {}
    losses: dict[str, Tensor] = model.loss(images, labels, stage=stage, seeds=seeds, **options)
    return losses


def assert_gradients_reach_the_player_alone(
    model: ImageModel, images: Tensor, stage: str, labels: Tensor | None = None, unused: Iterable[str] = ()
) -> None:
    """unused: parts of names of parameters that a start at zero keeps from a gradient."""
    model.set_stage(stage)
    for player in model.players(stage):
        model.zero_grad()
        turn(model, images, labels, stage, player.name)["loss"].backward()
        owned = {id(weight) for module in player.modules for weight in module.parameters()}
        for name, weight in model.named_parameters():
            if id(weight) not in owned:
                assert weight.grad is None, (player.name, name)
            elif not any(part in name for part in unused):
                assert weight.grad is not None and weight.grad.abs().max() > 0, (player.name, name)


def assert_a_sample_depends_on_its_seed_and_label_alone(model: Any, labelled: bool = False) -> None:
    seeds = torch.tensor([5, 0, 2**62, -3, 5])
    labels = torch.tensor([0, 1, 2, 1, 0]) if labelled else None
    whole = model.sample(seeds, labels)
    assert whole.shape == (5, model.channels, model.image_size, model.image_size) and whole.isfinite().all()
    assert torch.equal(whole, model.sample(seeds, labels))
    single = [model.sample(seeds[i : i + 1], None if labels is None else labels[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(torch.cat(single), whole, **CLOSE)
    torch.testing.assert_close(whole[0], whole[4], **CLOSE)
    assert (whole[0] - whole[1]).abs().max() > 1e-3
    if labels is not None:
        assert (model.sample(seeds, (labels + 1) % 3) - whole).abs().max() > 1e-3
    model.train()
    assert torch.equal(model.sample(seeds, labels), whole)
    model.eval()


def assert_comes_back_the_same(model: Any, folder: Any, labels: Tensor | None = None) -> None:
    model.eval().save_pretrained(folder)
    again = type(model).from_pretrained(folder)
    assert again.config == model.config
    seeds = torch.arange(2)
    assert torch.equal(again.sample(seeds, labels), model.sample(seeds, labels))


def numpy(x: Tensor) -> Any:
    return x.detach().numpy().astype(np.float64)


def bounded(x: Any, low: float, high: float) -> Any:
    """Log-variances as `lapcore.nn.blocks` bounds them."""
    return low + np.logaddexp(0, high - low - np.logaddexp(0, high - x))


def kl(mean: Any, logvar: Any, prior_mean: Any = 0.0, prior_logvar: Any = 0.0) -> Any:
    """Between diagonal Gaussians, summed over codes."""
    squares = (np.exp(logvar) + (mean - prior_mean) ** 2) / np.exp(prior_logvar)
    return (0.5 * (prior_logvar - logvar + squares - 1)).sum(1)


def nll(x: Any, mean: Any, logvar: Any) -> Any:
    """Of a diagonal Gaussian, summed over all but the first dimension."""
    values = 0.5 * (np.log(2 * np.pi) + logvar + (x - mean) ** 2 / np.exp(logvar))
    return values.reshape(len(x), -1).sum(1)
