"""Several players in one stage: turns, optimisers and averages by hand, who sits out, what is logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import accelerate
import pytest
import safetensors.torch
import torch
from torch import Tensor

from lapcore.data.images import to_model_range
from lapcore.training import TrainConfig, order, train
from lapcore.training.feed import Batch
from lapcore.training.learner import learners_of
from tests.training.test_train import part_of, weights
from tests.training.tiny import SETTINGS, Duel, Pictures, made, run

pytestmark = pytest.mark.usefixtures("one_thread")


def by_hand(model: Duel, steps: int, batch: int, seed: int) -> dict[str, Tensor]:
    """The duel in plain arithmetic: the critic's two turns by Adam, the generator's by SGD, its average handed on."""
    pictures = Pictures().images
    moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in model.critic.parameters()}
    speeds = {p: torch.zeros_like(p) for p in model.generator.parameters()}
    average = {p: p.detach().clone() for p in model.generator.parameters()}
    for step in range(steps):
        for turn, player in enumerate(["critic", "critic", "generator"]):
            places = order.places(3 * step + turn, batch)
            images = to_model_range(pictures[order.images_at(seed, places, len(pictures))])
            chosen = list(getattr(model, player).parameters())
            model.requires_grad_(False)
            for p in chosen:
                p.requires_grad_(True)
            losses = model.loss(images, None, "duel", order.noise_seeds(seed, places), player=player)
            gradients = torch.autograd.grad(losses["loss"], chosen)
            with torch.no_grad():
                for p, gradient in zip(chosen, gradients, strict=True):
                    if player == "critic":
                        first, second = moments[p]
                        first += 0.5 * (gradient - first)
                        second += 0.1 * (gradient**2 - second)
                        count = 2 * step + turn + 1
                        lr = 0.01 * (1 - step / steps)
                        p -= lr * (first / (1 - 0.5**count)) / ((second / (1 - 0.9**count)).sqrt() + 1e-8)
                    else:
                        speeds[p].mul_(0.5).add_(gradient)
                        p -= 0.05 * speeds[p]
                        decay = min(0.999, (2 + step) / (11 + step))
                        average[p] += (1 - decay) * (p - average[p])
    with torch.no_grad():
        for p, mean in average.items():
            p.copy_(mean)
    return model.state_dict()


def test_turns_are_those_of_a_loop_by_hand(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"grad_clip": 0.0, "warmup": 0, "weight_decay": 0.0, "flip": False, "seed": 9}
    run(tmp_path / "a", kind="duel", **settings)
    found = safetensors.torch.load_file(tmp_path / "a/model/model.safetensors")
    model = made("duel")
    assert isinstance(model, Duel)
    for name, weight in by_hand(model.train(), 11, SETTINGS["batch_size"], 9).items():
        assert torch.allclose(found[name], weight, rtol=1e-4, atol=1e-5), name


def test_the_log_names_the_players(tmp_path: Path) -> None:
    out = tmp_path / "a"
    run(out, kind="duel", players={"critic": {"lr": 0.02}}, sample_every=5)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    names = {"critic_loss", "critic_accuracy", "generator_loss", "generator_fooled", "generator_plays"}
    assert all(set(line["losses"]) == names and set(line["lr"]) == {"critic", "generator"} for line in lines)
    assert lines[0]["lr"]["critic"] == pytest.approx(0.02 * (1 - 2 / 11)) and lines[-1]["lr"]["generator"] == 0.05
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("duel/samples")] == [5, 10, 11]
    assert {"duel/loss/critic_accuracy", "duel/lr/critic", "duel/lr/generator"} <= set(events.Tags()["scalars"])


def test_a_player_that_sits_out_stays_as_it_is(tmp_path: Path) -> None:
    run(tmp_path / "a", kind="duel", model={"patience": 0.0})
    start, end = made("duel").state_dict(), safetensors.torch.load_file(tmp_path / "a/model/model.safetensors")
    for name, weight in start.items():
        moved = name.startswith("critic") or "running" in name or "tracked" in name
        assert torch.equal(end[name], weight) != moved, name
    losses = json.loads((tmp_path / "a/log.jsonl").read_text().splitlines()[-1])["losses"]
    assert losses["generator_plays"] == 0


def test_resume_inside_the_stage(tmp_path: Path) -> None:
    run(tmp_path / "a", kind="duel", keep_checkpoints=0, accumulate=2)
    for step in (0, 4, 8):
        out = part_of(tmp_path / "a", tmp_path / f"from-{step}", step)
        run(out, resume=True, kind="duel", keep_checkpoints=0, accumulate=2)
        assert weights(out) == weights(tmp_path / "a"), step


def test_unknown_players_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="players: expected names among critic, generator, got judge"):
        train(made("duel"), Pictures(), TrainConfig(players={"judge": {"lr": 1.0}}), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_scaled_loss_of_float16_takes_the_same_steps(tmp_path: Path) -> None:
    """Loss scaling without float16 itself, which CPUs do not train in: powers of two change no bit of a gradient."""
    accelerator = accelerate.Accelerator(cpu=True)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 8, 8, generator=generator) * 2 - 1
    found = []
    for precision in ("no", "fp16"):
        model = made("duel")
        config = TrainConfig(**{**SETTINGS, "mixed_precision": precision})
        learners = learners_of(model, "duel", config, accelerator)
        for step in range(4):
            for learner in learners:
                learner.turn([Batch(images, torch.zeros(8), torch.arange(8) + step)], step, 4)
        found.append((model.state_dict(), learners[0].state()[1]))
    assert all(torch.equal(found[1][0][name], weight) for name, weight in found[0][0].items())
    assert found[0][1] == {} and found[1][1]["scale"] == 65536.0
    again = learners_of(made("duel"), "duel", config, accelerator)
    for learner, other in zip(again, learners, strict=True):
        tensors, scaler = other.state()
        learner.restore(tensors, other.ema.average, {**scaler, "scale": 1024.0})
        assert learner.state()[1]["scale"] == 1024.0
        assert all(torch.equal(learner.state()[0][name], tensor) for name, tensor in tensors.items())
