"""Order, moving average, schedule, settings."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lapcore.errors import CheckpointError
from lapcore.models.base import Player
from lapcore.training import RunConfig, TrainConfig, order
from lapcore.training.ema import EMA
from lapcore.training.feed import Batch
from lapcore.training.learner import Learner, lr_at, momentum_at


@given(count=st.integers(1, 40), batch=st.integers(1, 60), seed=st.integers(0, 2**63 - 1))
def test_every_epoch_is_a_permutation(count: int, batch: int, seed: int) -> None:
    steps = -(-3 * count // batch)
    line = torch.cat([order.images_at(seed, order.places(step, batch), count) for step in range(steps)])[: 3 * count]
    assert torch.equal(line.view(3, count).sort(1).values, torch.arange(count).expand(3, count))


def test_epochs_and_seeds_shuffle_differently() -> None:
    lines = [order.images_at(seed, torch.arange(300), 100) for seed in (0, 1)]
    assert not torch.equal(lines[0][:100], lines[0][100:200]) and not torch.equal(*lines)


@given(step=st.integers(0, 10**9), world=st.sampled_from([1, 2, 4]), seed=st.integers(0, 2**63 - 1))
def test_processes_share_the_same_batch(step: int, world: int, seed: int) -> None:
    parts = torch.cat([order.places(step, 8, rank, world) for rank in range(world)])
    assert torch.equal(parts, order.places(step, 8))
    assert torch.equal(order.noise_seeds(seed, parts), order.noise_seeds(seed, order.places(step, 8)))


def test_noise_seeds_are_distinct_and_flips_fair() -> None:
    places = torch.arange(100_000)
    seeds = torch.cat([order.noise_seeds(seed, places) for seed in (0, 1, 2)])
    assert seeds.dtype == torch.int64 and len(seeds.unique()) == len(seeds)
    share = order.flips(0, places).double().mean()
    assert abs(share - 0.5) < 5 * 0.5 / 100_000**0.5  # five standard deviations
    assert not torch.equal(order.flips(0, places), order.noise_seeds(0, places) < 0)


def test_splitmix64_known_answers() -> None:
    """The first outputs from state 1234567, as published with the reference implementation."""
    state = torch.arange(3).numpy().astype("uint64") * 0x9E3779B97F4A7C15 + 1234567
    assert order._mix(state).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_average_of_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(dict(model.named_parameters()), 0.9)
    weight = model[0].weight
    assert isinstance(weight, nn.Parameter)
    expected, values = weight.detach().clone().double(), []
    for step in range(1, 200):
        with torch.no_grad():
            weight += 0.1 * step % 3
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach().double()
    torch.testing.assert_close(ema.average["0.weight"].double(), expected, rtol=1e-5, atol=1e-5)
    trained = weight.detach().clone()
    with ema.applied():
        values.append(weight.detach().clone())
    assert torch.equal(values[0], ema.average["0.weight"]) and torch.equal(weight, trained)
    ema.copy_to_model()
    assert torch.equal(weight, ema.average["0.weight"])


def test_schedule() -> None:
    player = Player("model", (), lr=2.0, warmup=4)
    assert [lr_at(player, step, 1000) for step in range(3)] == pytest.approx([0.5, 1.0, 1.5], rel=1e-4)
    assert lr_at(player, 500, 1000) == pytest.approx(1.0) and lr_at(player, 999, 1000) < 1e-4
    flat = dataclasses.replace(player, warmup=0, schedule="constant")
    line = dataclasses.replace(player, warmup=0, schedule="linear")
    assert lr_at(flat, 999, 1000) == 2.0 and lr_at(line, 250, 1000) == pytest.approx(1.5)
    slower = dataclasses.replace(flat, lr_decay=0.01)
    assert [lr_at(slower, step, 1000) for step in (0, 100, 300)] == pytest.approx([2.0, 1.0, 0.5])


def test_momentum_changes_over_a_stage() -> None:
    player = Player("critic", (), optimizer="sgd", momentum=0.5, final_momentum=0.8)
    assert [momentum_at(player, step, 4) for step in range(4)] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert momentum_at(player, 0, 1) == 0.5
    assert momentum_at(dataclasses.replace(player, final_momentum=None), 3, 4) == 0.5


class Slope(nn.Module):
    """A loss of gradient 1 everywhere."""

    num_classes: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def loss(self, *_: object, **__: object) -> dict[str, Tensor]:
        return {"loss": self.w.sum()}


def test_sgd_moves_by_the_momentum_and_rate_of_its_step() -> None:
    """v' = m_t v + 1, w' = w - lr_t v'."""
    model = Slope()
    player = Player(
        "model",
        (model,),
        "sgd",
        lr=0.1,
        momentum=0.5,
        final_momentum=0.8,
        warmup=0,
        schedule="constant",
        lr_decay=0.5,
        grad_clip=0.0,
    )
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=1, autocast=contextlib.nullcontext)
    learner = Learner(player, model, "all", [model.w], TrainConfig(), accelerator, alone=True)
    batch = Batch(torch.zeros(1, 1, 1, 1), torch.zeros(1), torch.zeros(1))
    w, v = 1.0, 0.0
    for step in range(4):
        learner.turn([batch], step, 4)
        v = (0.5 + 0.1 * step) * v + 1
        w -= 0.1 / (1 + 0.5 * step) * v
    assert model.w.item() == pytest.approx(w, abs=1e-6)


def test_settings_of_players() -> None:
    model = Player("critic", (), lr=0.1, turns=3, schedule="linear")
    assert TrainConfig().player(model) == model
    config = TrainConfig(lr=0.2, grad_clip=0.0, betas=[0.5, 0.9], players={"critic": {"lr": 0.3, "momentum": 0.5}})
    found = config.player(model)
    assert (found.lr, found.momentum, found.grad_clip, found.betas) == (0.3, 0.5, 0.0, (0.5, 0.9))
    assert (found.turns, found.schedule, found.warmup) == (3, "linear", 100)
    assert config.player(Player("generator", ())).lr == 0.2
    published = dataclasses.replace(model, optimizer="sgd", momentum=0.5, final_momentum=0.8, lr_decay=1e-6)
    found = config.player(published)
    assert (found.momentum, found.final_momentum, found.lr_decay) == (0.5, None, 1e-6)
    found = TrainConfig(players={"critic": {"optimizer": "adamw"}}).player(published)
    assert (found.final_momentum, found.lr_decay) == (None, 0.0)
    found = TrainConfig(players={"critic": {"momentum": 0.6, "final_momentum": 0.9}}).player(published)
    assert (found.momentum, found.final_momentum, found.lr_decay) == (0.6, 0.9, 1e-6)
    with pytest.raises(ValueError, match="players: expected names among generator, got critic"):
        config.check_player_names(["generator"])


def test_steps_of_stages() -> None:
    assert TrainConfig(steps=11).steps_of(("a", "b", "c")) == [3, 4, 4]
    assert TrainConfig(steps=[5, 0, 1]).steps_of(("a", "b", "c")) == [5, 0, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0}, {"steps": []}, {"steps": [0, 0]}, {"steps": [3, -1]}, {"steps": 2.5}, {"batch_size": 0},
        {"lr": 0}, {"lr": float("nan")}, {"lr": "fast"}, {"ema": 1}, {"betas": [0.9]}, {"betas": [0.9, 1.0]},
        {"schedule": "square"}, {"mixed_precision": "fp8"}, {"seed": -1}, {"seed": 2**63}, {"accumulate": 0},
        {"num_workers": -1}, {"grad_clip": -1.0}, {"flip": 1}, {"device": "gpu"}, {"log_every": True}, {"in_memory": 2},
        {"players": {"critic": 1}}, {"players": ["critic"]},
    ],
)  # fmt: skip
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: expected .* got "):
        TrainConfig(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0},
        {"turns": 0},
        {"turns": 1.5},
        {"optimizer": "lion"},
        {"momentum": 1},
        {"final_momentum": 1.5},
        {"lr_decay": -1e-6},
        {"averaged": 1},
        {"betas": [1, 0]},
    ],
)
def test_wrong_settings_of_a_player_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^players\.critic\.{next(iter(wrong))}: expected .* got "):
        TrainConfig(players={"critic": wrong})
    with pytest.raises(ValueError, match=r"^players\.critic: expected settings among optimizer, .* got 'speed'"):
        TrainConfig(players={"critic": {"speed": 1}})


def test_settings_survive_their_file(tmp_path: Path) -> None:
    run = RunConfig("vae", {"image_size": 32, "widths": [1, 2]}, {"path": "/x"}, TrainConfig(steps=[1, 2], lr=1e-4))
    run.save(tmp_path / "config.yaml")
    again = RunConfig.load(tmp_path / "config.yaml")
    assert again == run
    again.check_resumes(run, tmp_path)
    RunConfig("vae", run.options, {"path": "/moved"}, run.train).check_resumes(run, tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "model: a\nother: 1\ntrain: {}", "train: {lr: -1}\nmodel: a", "a: ["])
def test_broken_settings_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.yaml: not a run's configuration"):
        RunConfig.load(tmp_path / "config.yaml")
