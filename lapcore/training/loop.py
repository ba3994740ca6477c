"""A training run from its folder's first file to its last."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from lapcore.data.files import TEMPORARY
from lapcore.errors import CheckpointError, LapcoreError, require
from lapcore.training.checkpoint import Progress, checkpoints, load_checkpoint, load_weights, remove_leftovers
from lapcore.training.config import RunConfig, TrainConfig
from lapcore.training.contract import Item, check_labels, spec_of, trainable
from lapcore.training.feed import Feed
from lapcore.training.log import RunLog, Terminal
from lapcore.training.stage import Run, Stage


def train(
    model: nn.Module,
    dataset: Dataset[Item],
    config: TrainConfig,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
) -> Path:
    """Trains `model`, in place, on `dataset` and writes the run to the folder `out`; returns `out/model`.

    In each of `model.training_stages()`, in order, the players of `model.players(stage)` take turns, each with a fresh
    optimiser and schedule and on batches of its own, as many in a step as the players' turns together; the stage hands on
    the moving averages of their weights. `dataset` is map-style with items `(uint8 (C, H, W), int)`, or float32 (A,) of
    attributes for the int, as `open_images` gives them.

        out/config.yaml                    model, its keyword arguments, data, `config`
        out/log.jsonl, out/tensorboard/    one line per `log_every` steps; reconstructions and samples as pictures
        out/checkpoints/step-00001000/     weights, average and optimiser as safetensors, state.json; appear whole
        out/model/                         at the end: `model.save_pretrained`

    `resume=True` goes on from the newest checkpoint, and returns at once when the run is finished. Order, mirroring and
    noise are functions of (config.seed, place in the run), so on a CPU a run that was killed at any moment and resumed
    ends in the same bytes as one that was not. Under `torchrun` or `accelerate launch` n processes share each batch:
    the gradients are those of one process up to rounding, except through batch norm, whose statistics are of a share.

    torch's random state is as before when it returns. Raises ValueError for a `config` that does not fit; DataError,
    naming the image, for one that cannot be read or is of another size; CheckpointError when `out` is not empty, or,
    with `resume`, holds no run, one of other settings or a damaged checkpoint; LapcoreError when the loss stops being
    finite (naming the step) or the disk is full. Nothing is left half-written.
    """
    out = Path(out)
    name = getattr(model, "name", type(model).__name__.lower())
    run = RunConfig(name, dict(trainable(model).config), dict(spec_of(dataset)), config)
    with torch.random.fork_rng(), _full_disk_explained(out):
        return _train(model, dataset, run, out, resume)


def _train(model: nn.Module, dataset: Dataset[Item], run: RunConfig, out: Path, resume: bool) -> Path:
    config, stages = run.train, trainable(model).training_stages()
    steps = config.steps_of(stages)
    check_labels(model, dataset)
    players = {stage: [config.player(player) for player in trainable(model).players(stage)] for stage in stages}
    config.check_player_names({player.name: None for group in players.values() for player in group})
    if not resume:
        _check_free(out)
    newest = _newest_checkpoint(run, out) if resume else None
    progress, tensors = load_checkpoint(newest) if newest else (Progress(), {})
    if newest:
        load_weights(model, tensors.pop("model", {}), newest)

    accelerator = _accelerator(config)
    terminal = Terminal(sum(steps), progress.step, show=accelerator.is_main_process)
    if progress.step == sum(steps) and (out / "model").exists():
        terminal.line(f"{out}: already finished, {progress.step} steps; nothing to do")
        return out / "model"
    shape = (trainable(model).channels, trainable(model).image_size, trainable(model).image_size)
    rank, world = accelerator.process_index, accelerator.num_processes
    turns = [sum(player.turns for player in players[stage]) for stage in stages]
    batches = sum(count * taken for count, taken in zip(steps, turns, strict=True))
    feed = Feed(dataset, shape, config, batches, accelerator.device, rank, world)
    accelerator.wait_for_everyone()  # every process has looked at `out` before one changes it
    if accelerator.is_main_process:
        _prepare(out, None if newest else run)
    model.to(accelerator.device)
    _share_weights(model, accelerator)
    log = RunLog(out, progress.step) if accelerator.is_main_process else None
    whole = Run(model, dataset, config, out, accelerator, progress, log, terminal)
    try:
        with terminal:
            if newest is None and whole.main:
                whole.save({"model": model.state_dict()})
            for index in range(progress.leg, len(stages)):
                if steps[index] and progress.step < sum(steps):
                    Stage(whole, stages[index], steps[index], tensors).train(feed)
                progress.leg = index + 1
            model.eval()
            if whole.main:
                trainable(model).save_pretrained(out / "model")
            accelerator.wait_for_everyone()
    finally:
        if log:
            log.close()
    return out / "model"


def _accelerator(config: TrainConfig) -> Any:
    accelerate = require("accelerate", "train")
    cpu = config.device == "cpu" or not torch.accelerator.is_available()
    if config.mixed_precision == "fp16" and cpu:
        raise ValueError("mixed_precision: fp16 needs a GPU; use bf16 or no on a CPU")
    # accelerate keeps its settings for the whole process; those of an earlier run must not reach this one.
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=alone)
    accelerator = accelerate.Accelerator(mixed_precision=config.mixed_precision, cpu=cpu)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != world:  # else each would take itself for the only one, and write over the others
        raise LapcoreError(f"the launcher started {world} processes, but accelerate found {accelerator.num_processes}")
    if config.batch_size % (accelerator.num_processes * config.accumulate):
        raise ValueError(
            f"batch_size: expected a multiple of processes x accumulate = {accelerator.num_processes} x "
            f"{config.accumulate}, got {config.batch_size}"
        )
    return accelerator


def _share_weights(model: nn.Module, accelerator: Any) -> None:
    """All processes start from the weights of the first."""
    if accelerator.num_processes > 1:
        for tensor in model.state_dict().values():
            tensor.copy_(require("accelerate.utils", "train").broadcast(tensor))


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(not entry.name.startswith(TEMPORARY) for entry in out.iterdir())):
        raise CheckpointError(f"{out}: already there; resume that run, or choose another folder")


def _newest_checkpoint(run: RunConfig, out: Path) -> Path | None:
    """None when the run was killed before its first checkpoint, that of step 0."""
    run.check_resumes(RunConfig.load(out / "config.yaml"), out / "config.yaml")
    found = checkpoints(out / "checkpoints")
    log = out / "log.jsonl"
    if not found and log.exists() and log.stat().st_size:
        raise CheckpointError(f"{out / 'checkpoints'}: expected a checkpoint to resume from, found none")
    return found[-1] if found else None


def _prepare(out: Path, run: RunConfig | None) -> None:
    """Makes the folder of a new run, and clears away what a killed one was in the middle of writing."""
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    remove_leftovers(out / "checkpoints")
    if run:
        run.save(out / "config.yaml")


@contextmanager
def _full_disk_explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or out
        advice = f"free some space and resume; the checkpoints in {out} are whole"
        raise LapcoreError(f"{where}: the disk is full; {advice}") from error
