from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import lapcore.training.checkpoint
from lapcore.data import open_images, write_png
from lapcore.errors import CheckpointError, DataError, LapcoreError
from lapcore.models.running import checkpoints
from lapcore.training import RunConfig, TrainConfig, train
from lapcore.training.log import Terminal
from tests.training.killed import losses
from tests.training.tiny import SETTINGS, Pictures, Tiny, run, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def weights(out: Path) -> bytes:
    return (out / "model/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(out)
    return out


def part_of(whole: Path, out: Path, step: int) -> Path:
    """The run as it would have been left after the checkpoint of `step`."""
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("model"))
    for checkpoint in checkpoints(out / "checkpoints"):
        if int(checkpoint.name.removeprefix("step-")) > step:
            shutil.rmtree(checkpoint)
    return out


def test_run_folder(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        ".lock",
        "config.yaml",
        "log.jsonl",
        "tensorboard",
        "checkpoints",
        "model",
    }
    assert [path.name for path in checkpoints(whole / "checkpoints")] == [f"step-{n:08}" for n in (12, 16, 17)]
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["stage"]) for line in lines] == [
        *((step, "coarse") for step in (3, 4, 6, 8, 9)),
        *((step, "fine") for step in (12, 15, 16, 17)),
    ]
    assert all(line["images_per_second"] > 0 and set(line["losses"]) == {"loss", "noise"} for line in lines)
    saved = RunConfig.load(whole / "config.yaml")
    assert saved.train == TrainConfig(**SETTINGS) and saved.model == "tiny" and saved.options["width"] == 4


def test_weights_move_only_in_their_stage_and_learn(whole: Path) -> None:
    start, end = tiny().state_dict(), safetensors.torch.load_file(whole / "model/model.safetensors")
    first = safetensors.torch.load_file(whole / "checkpoints/step-00000012/model.safetensors")
    for name in end:
        assert not torch.equal(start[name], end[name]), name
        if name.startswith("coarse"):  # frozen, batch norm's averages included, since step 9
            assert torch.equal(first[name], end[name]), name


def test_random_state_and_model_are_left_in_order(tmp_path: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    model = tiny()
    torch.manual_seed(11)
    train(model, Pictures(), TrainConfig(**{**SETTINGS, "steps": 2}), tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before) and not model.training


def test_resume_in_either_stage_and_at_their_border(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "all", keep_checkpoints=0)
    for step in (0, 4, 9, 12, 17):
        out = part_of(tmp_path / "all", tmp_path / f"from-{step}", step)
        (out / "log.jsonl").write_text((out / "log.jsonl").read_text() + '{"step": 18, "sta')
        run(out, resume=True)
        assert weights(out) == weights(whole), step
        assert losses(out) == losses(whole), step


def test_the_way_images_are_read_does_not_matter(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "a", in_memory=False, num_workers=2)
    assert weights(tmp_path / "a") == weights(whole)


def test_seed_matters_and_accumulation_does_not(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"norm": False, "dropout": 0.0}
    results = {}
    for name, settings in {"a": {}, "b": {"accumulate": 4}, "c": {"seed": 6}}.items():
        run(tmp_path / name, model=plain, **settings)
        results[name] = safetensors.torch.load_file(tmp_path / name / "model/model.safetensors")
    # Adam's step is lr * m / sqrt(v): a gradient near 0 turns rounding into steps of up to lr, 17 times.
    for name, weight in results["a"].items():
        torch.testing.assert_close(results["b"][name], weight, rtol=0, atol=1e-4)
    assert any((results["c"][name] - weight).abs().max() > 1e-3 for name, weight in results["a"].items())


def test_finished_run_says_so(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in whole.rglob("*"))
    assert run(whole, resume=True) == whole / "model"
    assert "already finished, 17 steps" in capfd.readouterr().err
    assert sorted((path, path.stat().st_mtime_ns) for path in whole.rglob("*")) == before


def test_existing_folder_is_refused(whole: Path, tmp_path: Path) -> None:
    before = weights(whole)
    with pytest.raises(CheckpointError, match="already there"):
        run(whole)
    assert weights(whole) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="already there"):
        run(tmp_path / "file")


def test_resume_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.yaml: no such file"):
        run(tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


def test_resume_with_other_settings(whole: Path, tmp_path: Path) -> None:
    out = part_of(whole, tmp_path / "a", 12)
    with pytest.raises(CheckpointError, match=r"train\.lr: None in the run, 0\.5 now"):
        run(out, resume=True, lr=0.5)
    with pytest.raises(CheckpointError, match=r"model\.width: 4 in the run, 5 now"):
        run(out, resume=True, model={"width": 5})
    run(out, resume=True, num_workers=1, keep_checkpoints=1)
    assert weights(out) == weights(whole) and len(checkpoints(out / "checkpoints")) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json"])
@pytest.mark.parametrize("missing", [False, True])
def test_damaged_checkpoint(name: str, missing: bool, whole: Path, tmp_path: Path) -> None:
    out = part_of(whole, tmp_path / "a", 16)
    file = out / "checkpoints/step-00000016" / name
    data = file.read_bytes()
    file.unlink() if missing else file.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        CheckpointError, match=rf"{re.escape(str(file))}: missing or damaged .* resume from step-00000012"
    ):
        run(out, resume=True)
    shutil.rmtree(file.parent)
    run(out, resume=True)
    assert weights(out) == weights(whole)


def test_missing_checkpoints(whole: Path, tmp_path: Path) -> None:
    out = part_of(whole, tmp_path / "a", -1)
    with pytest.raises(CheckpointError, match="expected a checkpoint to resume from, found none"):
        run(out, resume=True)


class Diverging(Tiny):
    calls = 0

    def loss(self, *arguments: Any, **options: Any) -> dict[str, Tensor]:
        self.calls += 1
        losses = super().loss(*arguments, **options)
        return {**losses, "loss": losses["loss"] * (float("nan") if self.calls == 7 else 1)}


def test_nan_loss_names_its_step_and_is_never_saved(tmp_path: Path) -> None:
    with pytest.raises(LapcoreError, match=r"step 7 \(stage coarse\): the loss is nan"):
        train(Diverging(), Pictures(), TrainConfig(**SETTINGS), tmp_path / "a")
    for checkpoint in checkpoints(tmp_path / "a/checkpoints"):
        content = safetensors.torch.load_file(checkpoint / "model.safetensors")
        assert all(torch.isfinite(tensor.float()).all() for tensor in content.values())
    assert checkpoint.name == "step-00000004"


@pytest.mark.parametrize("count", [0, 9, 25, 33])
def test_full_disk(count: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up at some sync: one clear error, no half-written file, and the run can go on."""
    original, left = os.fsync, [count]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(LapcoreError, match="the disk is full; free some space and resume"):
            run(tmp_path / "a")
    assert not list(tmp_path.rglob(".tmp-*"))
    for checkpoint in checkpoints(tmp_path / "a/checkpoints"):
        lapcore.training.checkpoint.load_checkpoint(checkpoint)
    run(tmp_path / "a", resume=(tmp_path / "a/config.yaml").exists())
    assert weights(tmp_path / "a") == weights(whole)


def folder_of(path: Path, count: int, size: int = 8) -> Path:
    path.mkdir()
    for index in range(count):
        write_png(path / f"{index:02}.png", torch.randint(0, 256, (3, size, size), dtype=torch.uint8))
    return path


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("in_memory", [False, True])
def test_bad_image_is_one_clear_line(workers: int, in_memory: bool, tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", 12)
    (data / "07.png").write_bytes(b"garbage")
    config = TrainConfig(**{**SETTINGS, "num_workers": workers, "in_memory": in_memory})
    with pytest.raises(DataError, match=r"^\S*07\.png: not a readable image: [^\n]*$"):
        train(tiny(), open_images(data, size=8), config, tmp_path / "out")
    assert in_memory != (tmp_path / "out").exists()  # read before the run begins, or on the way


def test_wrong_size_is_found_before_anything_is_written(tmp_path: Path) -> None:
    data = open_images(folder_of(tmp_path / "data", 3, size=9))
    with pytest.raises(
        DataError, match=r"00\.png: expected uint8 \(3, 8, 8\) \(C, H, W\), got torch\.uint8 \(3, 9, 9\)"
    ):
        train(tiny(), data, TrainConfig(**SETTINGS), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels(tmp_path: Path) -> None:
    run(tmp_path / "a", model={"num_classes": 2}, sample_every=3)
    with pytest.raises(ValueError, match="expected at most 1 classes"):
        run(tmp_path / "b", model={"num_classes": 1})


def test_bf16_and_no_average(tmp_path: Path) -> None:
    run(tmp_path / "a", mixed_precision="bf16", ema=0)
    content = safetensors.torch.load_file(tmp_path / "a/model/model.safetensors")
    assert all(torch.isfinite(tensor.float()).all() for tensor in content.values())
    assert not (tmp_path / "a/checkpoints/step-00000016/ema.safetensors").exists()
    part = part_of(tmp_path / "a", tmp_path / "b", 12)
    run(part, resume=True, mixed_precision="bf16", ema=0)
    assert weights(part) == weights(tmp_path / "a")


def test_config_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps: expected 2, one per stage"):
        run(tmp_path / "a", steps=[1, 2, 3])
    with pytest.raises(ValueError, match="batch_size: expected a multiple"):
        run(tmp_path / "a", accumulate=3)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="fp16 needs a GPU"):
            run(tmp_path / "a", mixed_precision="fp16")
    assert not (tmp_path / "a").exists()


def test_stages_without_steps_are_passed_over(tmp_path: Path) -> None:
    run(tmp_path / "a", steps=[0, 5])
    run(tmp_path / "b", steps=[5, 0])
    a, b = (safetensors.torch.load_file(tmp_path / name / "model/model.safetensors") for name in "ab")
    start = tiny().state_dict()
    for name in start:
        assert torch.equal(a[name], start[name]) == name.startswith("coarse")
        assert torch.equal(b[name], start[name]) == name.startswith("fine")
    assert run(tmp_path / "b", resume=True, steps=[5, 0]) == tmp_path / "b/model"


def test_pictures_reach_tensorboard(whole: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole / "tensorboard"), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    assert {"coarse/reconstructions", "fine/reconstructions", "coarse/samples", "fine/samples"} <= set(tags["images"])
    assert [event.step for event in events.Scalars("fine/loss/loss")] == [12, 15, 16, 17]


def test_progress_bar_on_a_terminal() -> None:
    import io

    from lapcore.training.log import Record

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    with Terminal(20, 0, show=True, stream=screen) as terminal:
        terminal.advance(5)
        terminal.record(Record(10, "coarse", {"loss": 1.5}, 1234.0, 1e-3, 1.0), 8.0)
    assert "10/20" in screen.getvalue() and "1,234 images/s" in screen.getvalue()
