"""A training run from its folder's first file to its last."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lapcore.errors import LapcoreError, require
from lapcore.training.checkpoint import Progress, load_checkpoint, load_weights
from lapcore.training.config import TrainConfig
from lapcore.training.contract import Item, check_fits, check_held_out, image_shape, spec_of, trainable
from lapcore.training.feed import Feed
from lapcore.training.folder import CONFIG, check_free, newest_checkpoint, prepare
from lapcore.training.held_out import Data, HeldOut, held_out_of
from lapcore.training.lock import run_lock
from lapcore.training.log import RunLog, Terminal
from lapcore.training.pace import Pace, trial_seconds
from lapcore.training.run import RunConfig, resumed_legs
from lapcore.training.stage import Run, Stage
from lapcore.training.start import take_weights
from lapcore.training.stop import Stopping
from lapcore.training.talk import Legend, opening


def train(
    model: nn.Module,
    dataset: Dataset[Item],
    config: TrainConfig,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    stages: Sequence[str] | None = None,
    extend: bool = False,
    start: str | os.PathLike[str] | None = None,
    validation: Dataset[Item] | float | None = None,
) -> Path:
    """Trains `model`, in place, on `dataset` and writes the run to the folder `out`; returns `out/model`.

    In each of `stages`, in order, by default all of `model.training_stages()`, the players of `model.players(stage)` take turns,
    each with a fresh optimiser and schedule and on batches of its own, as many in a step as the players' turns together; the
    stage hands on the moving averages of their weights. `dataset` is map-style with items `(uint8 (C, H, W), int)`, or float32
    (A,) of attributes for the int, as `open_images` gives them.

        out/config.yaml                    model, its keyword arguments, data, stages, `config`
        out/log.jsonl, out/tensorboard/    one line per `log_every` steps; reconstructions and samples as pictures
        out/checkpoints/step-00001000/     weights, averages and optimisers as safetensors, state.json; appear whole
        out/model/                         at the end: `model.save_pretrained`
        out/best/                          with `validation`: the model at the lowest held-out loss of the last stage
        out/.lock                          held while a process trains here

    `resume=True` goes on from the newest checkpoint, and returns at once when the run is finished. With `extend=True` too, a
    finished run is trained further: `config.steps` of `stages` come after what it has, from its weights and with fresh
    optimisers and schedules. `start`, a run or a folder of a model of the same class, gives a new run the weights whose names
    and shapes fit.

    `validation`, a data set or the share of `dataset`'s images that is held out, chosen by seed, is measured every
    `validate_every` steps: the loss in evaluation mode, of the averages, with noise that stays the same. For likelihood models.

    Order, mirroring and noise are functions of (config.seed, place in the run), so on a CPU a run that was killed at any moment
    and resumed ends in the same bytes as one that was not. Under `torchrun` or `accelerate launch` n processes share each
    batch: the weights are those of one process up to rounding, with `lapcore.nn.batch_norm` too; dropout is each one's own.

    SIGINT and SIGTERM end training after the step in progress, in all processes, with a checkpoint, and raise Stopped, a
    KeyboardInterrupt that says how to go on; a second signal is not caught.

    torch's random state is as before when it returns. Raises ValueError for a `config`, stages or labels that do not fit;
    DataError, naming the image, for one that cannot be read or is of another size; CheckpointError when `out` is not empty or
    another process trains there, or, with `resume`, holds no run, one of other settings or a damaged checkpoint; LapcoreError
    when the loss stops being finite (naming the step) or the disk is full. Nothing is left half-written.
    """
    out = Path(out)
    if start is not None and resume:
        raise ValueError(f"start: expected None for a run that is resumed, got {os.fspath(start)!r}")
    stages = list(trainable(model).training_stages() if stages is None else stages)
    check_fits(model, dataset, stages, config)
    data = held_out_of(dataset, validation, config.seed)
    if data.held_out is not None:
        check_held_out(model, data.held_out, dataset, stages)
    run = RunConfig(
        model=getattr(model, "name", type(model).__name__.lower()),
        options=dict(trainable(model).config),
        data=dict(spec_of(dataset)),
        stages=stages,
        train=dataclasses.replace(config, steps=config.steps_of(stages)),
        validation=data.spec,
        start=None if start is None else os.path.abspath(start),
    )
    if not resume:
        check_free(out)
    accelerator = _accelerator(config)
    with torch.random.fork_rng(), _full_disk_explained(out), ExitStack() as locks:
        point = _resumed(run, out, extend, accelerator, locks) if resume else _Point(run, Progress(), {})
        return _train(model, data, point, out, accelerator, locks)


@dataclasses.dataclass
class _Point:
    """Says where a run begins or goes on: its settings, whether they are to be written, and a checkpoint's content."""

    run: RunConfig
    progress: Progress
    tensors: Mapping[str, Mapping[str, Tensor]]
    checkpoint: Path | None = None
    new: bool = True
    resumed: bool = False

    @property
    def total(self) -> int:
        return sum(leg.steps for leg in self.run.legs)


def _resumed(asked: RunConfig, out: Path, extend: bool, accelerator: Any, locks: ExitStack) -> _Point:
    path = out / CONFIG
    if accelerator.is_main_process and path.exists():
        locks.enter_context(run_lock(out))
    saved = RunConfig.load(path)
    asked.check_resumes(saved, path)
    newest = newest_checkpoint(out)
    progress, tensors = load_checkpoint(newest) if newest else (Progress(), {})
    trained = progress.step == sum(leg.steps for leg in saved.legs)
    if trained:
        progress.leg = len(saved.legs)
    legs = resumed_legs(saved, asked, trained and (out / "model").exists(), extend, path)
    run = dataclasses.replace(asked, start=saved.start).with_legs(legs)
    return _Point(run, progress, tensors, newest, new=newest is None or legs != saved.legs, resumed=True)


def _train(model: nn.Module, data: Data, point: _Point, out: Path, accelerator: Any, locks: ExitStack) -> Path:
    run, progress, main = point.run, point.progress, bool(accelerator.is_main_process)
    terminal = Terminal(point.total, progress.step, show=main)
    if point.checkpoint:
        load_weights(model, point.tensors["model"], point.checkpoint)
    if progress.step == point.total and (out / "model").exists():
        terminal.line(f"{out}: already finished, {progress.step} steps; nothing to do")
        return out / "model"
    if run.start and not point.checkpoint:
        terminal.line(take_weights(model, Path(run.start)))
    feed = _feed(model, data.training, run, accelerator)
    held_out = None if data.held_out is None else HeldOut(data.held_out, model, run.train, accelerator)
    model.to(accelerator.device)
    _share_weights(model, accelerator)
    pace = Pace(run.legs, _trials(model, feed, run, progress, accelerator))
    accelerator.wait_for_everyone()  # every process has looked at `out` before one changes it
    if main:
        if not point.resumed:
            out.mkdir(parents=True, exist_ok=True)
            locks.enter_context(run_lock(out))
            check_free(out)
        prepare(out, run if point.new else None)
    for line in opening(model, data, run, out, accelerator):
        terminal.line(line)
    log = RunLog(out, progress.step) if main else None
    whole = Run(
        model, data.training, run, out, accelerator, progress, log, terminal, Stopping(), pace, Legend(model), held_out
    )
    try:
        with terminal, whole.stopping:
            _finish(whole, feed, point)
    finally:
        if log:
            log.close()
    return out / "model"


def _finish(whole: Run, feed: Feed, point: _Point) -> None:
    """Trains the legs that are left, and writes the model."""
    model, progress, legs = whole.model, whole.progress, whole.settings.legs
    if point.checkpoint is None and whole.main:
        whole.save({"model": model.state_dict()})
    for index in range(progress.leg, len(legs)):
        if legs[index].steps and progress.step < point.total:
            Stage(whole, legs[index], point.tensors).train(feed)
        progress.leg = index + 1
    model.eval()
    if whole.main:
        trainable(model).save_pretrained(whole.out / "model")
    whole.accelerator.wait_for_everyone()


def _feed(model: nn.Module, dataset: Dataset[Item], run: RunConfig, accelerator: Any) -> Feed:
    """It reads one image or all, so that what is wrong with the data is known before anything is written."""
    players = [
        (leg.steps, run.train.player(player)) for leg in run.legs for player in trainable(model).players(leg.stage)
    ]
    batches = sum(steps * player.turns for steps, player in players)
    rank, world = accelerator.process_index, accelerator.num_processes
    return Feed(dataset, image_shape(model), run.train, batches, accelerator.device, rank, world)


def _trials(model: nn.Module, feed: Feed, run: RunConfig, progress: Progress, accelerator: Any) -> dict[str, float]:
    """Measures how long steps of the stages to come take, if there is more than one to compare.

    It also finds out whether the model takes parts of one image, which few can learn from.
    """
    stages = list(dict.fromkeys(leg.stage for leg in run.legs[progress.leg :] if leg.steps))
    single = run.train.batch_size == accelerator.num_processes * run.train.accumulate
    if len(stages) < 2 and not single:
        return {}
    batch = feed.first()
    try:
        return {stage: trial_seconds(model, stage, batch, run.train, accelerator) for stage in stages}
    except ValueError as error:
        if not single:
            raise
        raise ValueError(
            f"batch_size: expected more than one image for each of processes x accumulate = {accelerator.num_processes} x "
            f"{run.train.accumulate}, got batch_size {run.train.batch_size} ({error})"
        ) from error


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
