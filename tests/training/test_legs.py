"""A run as a list of legs: chosen stages, more of them later, and the model of a run that has not finished."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lapcore.errors import CheckpointError
from lapcore.models import VAE, load_model
from lapcore.models.running import checkpoints
from lapcore.training import RunConfig, Stopped, TrainConfig, train
from tests.training.test_train import part_of, weights
from tests.training.tiny import SETTINGS, Pictures, Tiny, run, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def content(out: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(out / "model/model.safetensors")


def further(out: Path, steps: int | list[int], stages: list[str] | None = None) -> Path:
    config = TrainConfig(**{**SETTINGS, "steps": steps})
    return train(tiny(), Pictures(), config, out, resume=True, extend=True, stages=stages)


def test_chosen_stages_alone(tmp_path: Path) -> None:
    config = TrainConfig(**{**SETTINGS, "steps": 5})
    train(tiny(), Pictures(), config, tmp_path / "fine", stages=["fine"])
    start, end = tiny().state_dict(), content(tmp_path / "fine")
    for name in start:
        assert torch.equal(end[name], start[name]) == name.startswith("coarse"), name
    saved = RunConfig.load(tmp_path / "fine/config.yaml")
    assert saved.stages == ["fine"] and saved.train.steps == [5]
    with pytest.raises(ValueError, match="stages: expected some of coarse, fine, got middle"):
        train(tiny(), Pictures(), config, tmp_path / "none", stages=["middle"])
    assert not (tmp_path / "none").exists()


def test_stages_one_by_one_are_the_run_of_both(tmp_path: Path) -> None:
    run(tmp_path / "both")
    train(tiny(), Pictures(), TrainConfig(**{**SETTINGS, "steps": 9}), tmp_path / "one", stages=["coarse"])
    further(tmp_path / "one", 8, ["fine"])
    assert weights(tmp_path / "one") == weights(tmp_path / "both")


def test_a_finished_run_goes_on_as_if_it_had_been_longer(tmp_path: Path) -> None:
    out = tmp_path / "a"
    run(out, steps=[4, 4])
    before = content(out)
    further(out, [3, 2])
    saved = RunConfig.load(out / "config.yaml")
    assert saved.stages == ["coarse", "fine"] * 2 and saved.train.steps == [4, 4, 3, 2]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines if line["step"] > 8] == ["coarse", "coarse", "fine", "fine"]
    assert lines[-1]["step"] == 13 and any(not torch.equal(content(out)[name], before[name]) for name in before)
    stages = ["coarse", "fine", "coarse", "fine"]
    config = TrainConfig(**{**SETTINGS, "steps": [4, 4, 3, 2]})
    train(tiny(), Pictures(), config, tmp_path / "long", stages=stages)
    assert weights(out) == weights(tmp_path / "long")


def test_a_killed_extension_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "a"
    run(out, steps=[4, 4], keep_checkpoints=0)
    further(out, [4, 4])
    part = part_of(out, tmp_path / "part", 12)
    with pytest.raises(CheckpointError, match="the run has steps to go; finish them first with: train"):
        further(part, [1, 1])
    further(part, [4, 4])  # asked for again, it is the same
    assert weights(part) == weights(out)
    shutil.rmtree(part / "model")  # killed between the last checkpoint and the model
    further(part, [4, 4])
    assert weights(part) == weights(out) and RunConfig.load(part / "config.yaml").train.steps == [4, 4, 4, 4]
    # Killed before the old model was cleared away, and before a newer checkpoint.
    part = part_of(out, tmp_path / "early", 8)
    shutil.copytree(out / "model", part / "model")
    run(part, resume=True, steps=[4, 4])
    assert weights(part) == weights(out)


def test_legs_that_are_not_the_runs_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "a"
    run(out, steps=[4, 4])
    with pytest.raises(CheckpointError, match=r"\(coarse 4, fine 4 in the run, coarse 5, fine 5 now\); leave them out"):
        run(out, resume=True, steps=[5, 5])


class Interrupted(Tiny):
    """Receives a signal in the loss of its 6th step."""

    name = "interrupted"
    calls = 0

    def loss(self, *arguments: Any, **options: Any) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(*arguments, **options)


def interrupted() -> Interrupted:
    torch.manual_seed(3)
    return Interrupted()


def test_a_signal_ends_training_after_the_step(tmp_path: Path) -> None:
    out, config = tmp_path / "a", TrainConfig(**SETTINGS)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(
        Stopped, match=r"stopped by SIGTERM: step 6 of 17 \(stage coarse\) is kept in .*; go on with"
    ) as found:
        train(interrupted(), Pictures(), config, out)
    assert found.value.exit_code == 143
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert checkpoints(out / "checkpoints")[-1].name == "step-00000006"
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"] == 6
    model = interrupted()
    model.calls = 6
    train(model, Pictures(), config, out, resume=True)
    run(tmp_path / "whole")
    assert weights(out) == weights(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(number: signal.Signals, tmp_path: Path) -> None:
    """Also in the middle of a computation that does not return to Python."""
    code = """
import os, sys, threading, torch
from lapcore.training.stop import Stopping
number = int(sys.argv[1])
with Stopping() as stopping:
    os.kill(os.getpid(), number)
    assert stopping._received == number
    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
    torch.linalg.eigvals(torch.randn(3000, 3000))  # minutes that do not return to Python
print("alive")
"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, str(number.value)], capture_output=True, text=True, timeout=60)
    assert done.returncode == -number and done.stdout == "" and time.monotonic() - begun < 20
    assert done.stderr == "stopping after the step in progress; a second signal ends at once\n"


def test_a_folder_in_which_another_trains(tmp_path: Path) -> None:
    out = tmp_path / "a"
    run(out, steps=[2, 2])
    shutil.rmtree(out / "model")
    with open(out / ".lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another process is training in this folder"):
            run(out, resume=True, steps=[2, 2])
    run(out, resume=True, steps=[2, 2])
    begun = tmp_path / "begun"
    begun.mkdir()
    with open(begun / ".lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another process is training in this folder"):
            run(begun)
    assert [path.name for path in begun.iterdir()] == [".lock"]
    run(begun, steps=[1, 1])


VAE_SETTINGS: dict[str, Any] = {"latent": 4, "widths": [4], "decoder_widths": [4], "hidden": 8}


def small_vae() -> VAE:
    torch.manual_seed(0)
    return VAE(8, 3, **VAE_SETTINGS)


def test_the_model_of_a_run_that_has_not_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = TrainConfig(**{**SETTINGS, "steps": 6})
    train(small_vae(), Pictures(), config, tmp_path / "a")
    out = part_of(tmp_path / "a", tmp_path / "part", 4)
    capsys.readouterr()
    found = load_model(out).state_dict()
    assert capsys.readouterr().err == f"{out}: training has not finished; taking step 4 of 6, in stage all\n"
    files = out / "checkpoints/step-00000004"
    trained, averages = (safetensors.torch.load_file(files / f"{name}.safetensors") for name in ("model", "ema"))
    for name, weight in found.items():
        assert torch.equal(weight, averages.get(name, trained[name])), name
    assert not torch.equal(averages["encoder.moments.weight"], trained["encoder.moments.weight"])
    load_model(tmp_path / "a")
    assert capsys.readouterr().err == ""


def test_a_checkpoint_that_is_removed_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(**{**SETTINGS, "steps": 6, "keep_checkpoints": 0})
    train(small_vae(), Pictures(), config, tmp_path / "a")
    out = part_of(tmp_path / "a", tmp_path / "part", 4)
    original = Path.read_bytes

    def meanwhile(path: Path) -> bytes:
        """Training has written step 6 and removes step 4, between two files of it."""
        if path.name == "ema.safetensors" and path.parent.exists():
            path.parent.rename(path.parent.with_name(".tmp-old"))
            newer = "checkpoints/step-00000006"
            shutil.copytree(tmp_path / "a" / newer, out / newer)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", meanwhile)
    found, last = load_model(out).state_dict(), content(tmp_path / "a")
    assert all(torch.equal(found[name], last[name]) for name in last)


def test_a_run_without_a_checkpoint_and_a_damaged_one(tmp_path: Path) -> None:
    train(small_vae(), Pictures(), TrainConfig(**{**SETTINGS, "steps": 6}), tmp_path / "a")
    out = part_of(tmp_path / "a", tmp_path / "part", 4)
    file = out / "checkpoints/step-00000004/ema.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"ema\.safetensors: missing or damaged checkpoint"):
        load_model(out)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"ema\.safetensors: missing or damaged checkpoint"):
        load_model(out)
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(CheckpointError, match="the run has not finished, and has no checkpoint yet"):
        load_model(out)


def test_start_from_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(small_vae(), Pictures(), TrainConfig(**{**SETTINGS, "steps": 2}), tmp_path / "a")
    torch.manual_seed(1)
    other = VAE(8, 3, **{**VAE_SETTINGS, "latent": 5})
    fresh = {name: weight.clone() for name, weight in other.state_dict().items()}
    config = TrainConfig(**{**SETTINGS, "steps": 1, "keep_checkpoints": 0})
    train(other, Pictures(), config, tmp_path / "b", start=tmp_path / "a")
    first = safetensors.torch.load_file(tmp_path / "b/checkpoints/step-00000000/model.safetensors")
    trained = content(tmp_path / "a")
    for name, weight in first.items():
        fits = trained[name].shape == weight.shape
        assert torch.equal(weight, trained[name] if fits else fresh[name]), name
    count = sum(trained[name].shape == weight.shape for name, weight in first.items())
    assert f"{count} of {len(first)} tensors taken; {len(first) - count} did not fit" in capsys.readouterr().err
    with pytest.raises(ValueError, match="start: expected None for a run that is resumed"):
        train(other, Pictures(), config, tmp_path / "b", start=tmp_path / "a", resume=True)
    huge = VAE(8, 1, latent=3, widths=[3], decoder_widths=[3], hidden=7)
    with pytest.raises(CheckpointError, match="fits this model's"):
        train(huge, Pictures(), config, tmp_path / "c", start=tmp_path / "a")
    assert not (tmp_path / "c").exists()


def test_two_runs_that_begin_at_once(tmp_path: Path) -> None:
    """Both have found the folder free; the second gets there when the first has written its settings, or is done."""
    for state in ("begun", "done"):
        out = tmp_path / state

        class Late(Pictures):
            def __getitem__(self, index: int, out: Path = out, state: str = state) -> tuple[Tensor, int]:
                if not out.exists():
                    run(out, steps=[1, 1])
                    if state == "begun":
                        fcntl.flock(os.open(out / ".lock", os.O_RDWR), fcntl.LOCK_EX)
                return super().__getitem__(index)

        with pytest.raises(
            CheckpointError, match="another process is training" if state == "begun" else "already there"
        ):
            train(tiny(), Late(), TrainConfig(**{**SETTINGS, "seed": 7}), out)
        assert RunConfig.load(out / "config.yaml").train.seed == 5


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 4, "accumulate": 4}])
def test_parts_of_one_image_are_refused_before_anything_is_written(settings: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^batch_size: expected more than one image for each of processes x accumulate"
    ):
        train(small_vae(), Pictures(), TrainConfig(**{**SETTINGS, "steps": 2, **settings}), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    run(tmp_path / "b", model={"norm": False}, **settings)  # and others are not
