"""One leg of a training run: a stage, its players taking turns step by step."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lapcore.errors import LapcoreError
from lapcore.training import order
from lapcore.training.checkpoint import Progress, save_checkpoint
from lapcore.training.config import TrainConfig
from lapcore.training.contract import Item, trainable
from lapcore.training.feed import Batch, Feed
from lapcore.training.held_out import HeldOut
from lapcore.training.learner import Learner, learners_of
from lapcore.training.log import Record, RunLog, Terminal
from lapcore.training.pace import Pace
from lapcore.training.pictures import pictures
from lapcore.training.run import Leg, RunConfig, resume_command
from lapcore.training.stop import Stopped, Stopping
from lapcore.training.talk import Legend


@dataclass
class Run:
    """All legs of a run share this."""

    model: nn.Module
    dataset: Dataset[Item]
    settings: RunConfig
    out: Path
    accelerator: Any
    progress: Progress
    log: RunLog | None  # of the main process only
    terminal: Terminal
    stopping: Stopping
    pace: Pace
    legend: Legend
    held_out: HeldOut | None

    @property
    def config(self) -> TrainConfig:
        return self.settings.train

    @property
    def main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def save(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Writes a checkpoint of where the run stands; for the main process."""
        filled = {name: content for name, content in tensors.items() if content}
        known = self.settings.known_to_models()
        save_checkpoint(self.out / "checkpoints", self.progress, known, filled, self.config.keep_checkpoints)

    @property
    def steps(self) -> int:
        return sum(leg.steps for leg in self.settings.legs)


class Stage:
    """A leg of a run; `restored`: tensors of a checkpoint taken inside it."""

    def __init__(self, run: Run, leg: Leg, restored: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.whole, (self.name, self.steps) = run, leg
        self.config, self.progress, self.accelerator = run.config, run.progress, run.accelerator
        self.learners = learners_of(run.model, self.name, self.config, self.accelerator)
        self._restore(restored)
        self.pending: list[dict[str, Tensor]] = []
        self.since = time.monotonic()

    def train(self, feed: Feed) -> None:
        left = self.steps - self.progress.leg_step
        taken = self.progress.batches
        batches = feed.batches(taken, taken + left * sum(learner.player.turns for learner in self.learners))
        for _ in range(left):
            self._step(batches)
            step, last = self.progress.step, self.progress.leg_step == self.steps
            stopped = self.whole.stopping.number(self.accelerator)
            checkpoint = last or stopped or step % self.config.checkpoint_every == 0
            measure = self.whole.held_out is not None and (last or step % self._measure_every == 0)
            self.whole.terminal.advance(step)
            if checkpoint or measure or step % self.config.log_every == 0:
                self._report(measure)
            if last:
                self._end()
            elif checkpoint:
                self._checkpoint()
            if stopped and step < self.whole.steps:
                raise self._stopped(stopped)
            if last or (self.config.sample_every and step % self.config.sample_every == 0):
                self._show()
            if checkpoint:
                self.since = time.monotonic()

    @property
    def _measure_every(self) -> int:
        return self.config.validate_every or self.config.checkpoint_every

    def _step(self, batches: Iterator[list[Batch]]) -> None:
        """Every player's turns, each on a batch of its own."""
        scalars: dict[str, Tensor] = {}
        for learner in self.learners:
            turns = [self._turn(learner, next(batches)) for _ in range(learner.player.turns)]
            scalars |= {name: torch.stack([turn[name] for turn in turns]).mean() for name in turns[0]}
        self.progress.step += 1
        self.progress.leg_step += 1
        self.pending.append(scalars)

    def _turn(self, learner: Learner, parts: Sequence[Batch]) -> dict[str, Tensor]:
        self._seed()
        self.progress.batches += 1
        return learner.turn(parts, self.progress.leg_step, self.steps)

    def _seed(self) -> None:
        """Seeds what dropout draws from. torch.manual_seed would take a stack trace per missing device: milliseconds."""
        seed = order.turn_seed(self.config.seed, self.progress.batches, self.accelerator.process_index)
        torch.default_generator.manual_seed(seed)
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _report(self, measure: bool) -> None:
        """Logs the means since the last report, once they are known to be finite: the one wait for the device.

        measure: with the losses on images that are held out.
        """
        names = list(self.pending[0])
        stacked = torch.stack([torch.stack([step[name] for name in names]) for step in self.pending])
        values = self.accelerator.reduce(stacked, reduction="mean").double().cpu()
        for learner in self.learners:
            name = learner.logged("loss")
            self._check_finite(name, values[:, names.index(name)])
        seconds = time.monotonic() - self.since
        self.progress.seconds += seconds
        validation = self._measured() if measure else None
        images = len(self.pending) * self.config.batch_size * sum(learner.player.turns for learner in self.learners)
        rates = {learner.player.name: learner.lr for learner in self.learners}
        record = Record(
            step=self.progress.step,
            stage=self.name,
            losses=dict(zip(names, values.mean(0).tolist(), strict=True)),
            images_per_second=round(images / max(seconds, 1e-9), 1),
            lr=rates if len(rates) > 1 else self.learners[0].lr,
            seconds=round(self.progress.seconds, 3),
            validation=validation,
            best=self.progress.best["step"] if validation else None,
        )
        if self.whole.log:
            self.whole.log.write(record)
        for line in self.whole.legend.lines(names, rates):
            self.whole.terminal.line(line)
        left = self.whole.pace.left(self.progress.leg, self.progress.leg_step, seconds / len(self.pending))
        self.whole.terminal.record(record, left)
        self.pending, self.since = [], time.monotonic()

    def _measured(self) -> dict[str, float]:
        """Losses of the averages on held-out images; the best of the stage so far is kept in `best/`."""
        assert self.whole.held_out is not None
        with self._averaged():
            losses = self.whole.held_out.losses(self.whole.model, self.name)
            best = self.progress.best
            if best.get("stage") != self.name or losses["loss"] < best["loss"]:
                self.progress.best = {"stage": self.name, "step": self.progress.step, "loss": losses["loss"]}
                if self.whole.main:
                    trainable(self.whole.model).save_pretrained(self.whole.out / "best")
        return losses

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model in evaluation mode with the averages for weights; afterwards it is ready for the stage again."""
        with ExitStack() as averages:
            for learner in self.learners:
                averages.enter_context(learner.ema.applied())
            self.whole.model.eval()
            yield
        trainable(self.whole.model).set_stage(self.name)

    def _check_finite(self, name: str, losses: Tensor) -> None:
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            first = int(bad[0])
            raise LapcoreError(
                f"step {self.progress.step - len(losses) + first + 1} (stage {self.name}): the {name} is "
                f"{losses[first].item()}; try a lower lr, a longer warmup or a smaller grad_clip. The checkpoints in "
                f"{self.whole.out} are of earlier steps"
            )

    def _checkpoint(self) -> None:
        if not self.whole.main:
            return
        averages: dict[str, Tensor] = {}
        optimizers: dict[str, Tensor] = {}
        for learner in self.learners:
            tensors, self.progress.scalers[learner.player.name] = learner.state()
            optimizers |= tensors
            averages |= learner.ema.average
        self.whole.save({"model": self.whole.model.state_dict(), "ema": averages, "optimizer": optimizers})
        if self.whole.log:
            self.whole.log.flush()

    def _stopped(self, number: int) -> Stopped:
        """Says what is kept of a run that a signal ended, and how to go on."""
        kept = f"step {self.progress.step} of {self.whole.steps} (stage {self.name}) is kept in {self.whole.out}"
        command = resume_command(self.whole.settings.model, self.whole.out)
        return Stopped(f"stopped by {signal.Signals(number).name}: {kept}; go on with: {command}", number)

    def _end(self) -> None:
        """Hands on the averages, and says on disk that the leg is done."""
        for learner in self.learners:
            learner.ema.copy_to_model()
        self.progress.leg, self.progress.leg_step, self.progress.scalers = self.progress.leg + 1, 0, {}
        if self.whole.main:
            self.whole.save({"model": self.whole.model.state_dict()})

    def _restore(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        if self.progress.leg_step:
            for learner in self.learners:
                scaler = self.progress.scalers.get(learner.player.name, {})
                learner.restore(tensors.get("optimizer", {}), tensors.get("ema", {}), scaler)

    def _show(self) -> None:
        """Reconstructions and samples, to TensorBoard."""
        if self.whole.log is None:
            return
        with self._averaged(), torch.no_grad():
            for name, picture in pictures(self.whole.model, self.whole.dataset, self.accelerator.device):
                self.whole.log.picture(f"{self.name}/{name}", picture, self.progress.step)
        self.since = time.monotonic()
