"""One stage of a training run: its own optimiser, moving average and schedule."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lapcore.data.images import grid, to_model_range, to_uint8
from lapcore.errors import LapcoreError
from lapcore.training import order
from lapcore.training.checkpoint import Progress, load_optimizer, optimizer_tensors, save_checkpoint
from lapcore.training.config import TrainConfig
from lapcore.training.ema import EMA
from lapcore.training.feed import Batch, Feed
from lapcore.training.log import Record, RunLog, Terminal


class Trainable(Protocol):
    """What training asks of a model, besides being an nn.Module; `lapcore.models.ImageModel` is one."""

    image_size: int
    channels: int
    num_classes: int | None
    config: dict[str, Any]

    def training_stages(self) -> tuple[str, ...]: ...

    def set_stage(self, stage: str) -> list[nn.Parameter]: ...

    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]: ...

    def save_pretrained(self, folder: Path) -> Any: ...


def trainable(model: nn.Module) -> Trainable:
    return cast(Trainable, model)


@dataclass
class Run:
    """What all stages of a run share."""

    model: nn.Module
    dataset: Dataset[tuple[Tensor, int]]
    config: TrainConfig
    out: Path
    accelerator: Any
    progress: Progress
    log: RunLog | None  # of the main process only
    terminal: Terminal

    @property
    def main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def save(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Writes a checkpoint of where the run stands; for the main process."""
        filled = {name: content for name, content in tensors.items() if content}
        save_checkpoint(self.out / "checkpoints", self.progress, filled, self.config.keep_checkpoints)


class Stage:
    """Stage `name` of a run, `steps` long; `restored`: tensors of a checkpoint taken inside the stage."""

    def __init__(self, run: Run, name: str, steps: int, restored: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.whole, self.name, self.steps = run, name, steps
        self.config, self.progress, self.accelerator = run.config, run.progress, run.accelerator
        chosen = set(trainable(run.model).set_stage(name))
        self.parameters = {key: p for key, p in run.model.named_parameters() if p in chosen}
        self.names: dict[Tensor, str] = {p: key for key, p in self.parameters.items()}
        self.adamw = _adamw(self.parameters, self.config)
        self.ema = EMA(self.parameters, self.config.ema)
        self.accelerator.free_memory()
        self.module, self.optimizer = self.accelerator.prepare(_StageLoss(run.model, name), self.adamw)
        self._restore(restored)
        self.pending: list[dict[str, Tensor]] = []
        self.since = time.monotonic()

    def train(self, feed: Feed) -> None:
        start = self.progress.step
        for parts in feed.batches(start, start + self.steps - self.progress.stage_step):
            self._step(parts)
            step, last = self.progress.step, self.progress.stage_step == self.steps
            checkpoint = last or step % self.config.checkpoint_every == 0
            self.whole.terminal.advance(step)
            if checkpoint or step % self.config.log_every == 0:
                self._report()
            if last:
                self._end()
            elif checkpoint:
                self._checkpoint()
            if last or (self.config.sample_every and step % self.config.sample_every == 0):
                self._show()
            if checkpoint:
                self.since = time.monotonic()

    def _step(self, parts: list[Batch]) -> None:
        lr = self.config.lr_at(self.progress.stage_step, self.steps)
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self._seed()
        total: dict[str, Tensor] = {}
        for index, part in enumerate(parts):
            last = index + 1 == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                labels = None if trainable(self.whole.model).num_classes is None else part.labels
                losses = self.module(part.images, labels, part.seeds)
                self.accelerator.backward(losses["loss"] / len(parts))
            for key, value in losses.items():
                total[key] = total.get(key, 0) + value.detach().float() / len(parts)
        if self.config.grad_clip:
            self.accelerator.clip_grad_norm_(list(self.parameters.values()), self.config.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.progress.step += 1
        self.progress.stage_step += 1
        self.ema.update(self.progress.stage_step)
        self.pending.append(total)

    def _seed(self) -> None:
        """Seeds what dropout draws from. torch.manual_seed would take a stack trace per missing device: milliseconds."""
        seed = order.step_seed(self.config.seed, self.progress.step, self.accelerator.process_index)
        torch.default_generator.manual_seed(seed)
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _report(self) -> None:
        """Logs the means since the last report, once they are known to be finite: the one wait for the device."""
        names = list(self.pending[0])
        stacked = torch.stack([torch.stack([step[name] for name in names]) for step in self.pending])
        values = self.accelerator.reduce(stacked, reduction="mean").double().cpu()
        self._check_finite(values[:, names.index("loss")])
        now = time.monotonic()
        seconds = now - self.since
        self.progress.seconds += seconds
        record = Record(
            step=self.progress.step,
            stage=self.name,
            losses=dict(zip(names, values.mean(0).tolist(), strict=True)),
            images_per_second=round(len(self.pending) * self.config.batch_size / max(seconds, 1e-9), 1),
            lr=self.adamw.param_groups[0]["lr"],
            seconds=round(self.progress.seconds, 3),
        )
        if self.whole.log:
            self.whole.log.write(record)
        self.whole.terminal.record(record, self.config.batch_size)
        self.pending, self.since = [], now

    def _check_finite(self, losses: Tensor) -> None:
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            first = int(bad[0])
            raise LapcoreError(
                f"step {self.progress.step - len(losses) + first + 1} (stage {self.name}): the loss is "
                f"{losses[first].item()}; try a lower lr, a longer warmup or a smaller grad_clip. The checkpoints in "
                f"{self.whole.out} are of earlier steps"
            )

    def _checkpoint(self) -> None:
        if not self.whole.main:
            return
        if self.accelerator.scaler is not None:
            self.progress.scaler = self.accelerator.scaler.state_dict()
        state = optimizer_tensors(self.adamw, self.names)
        self.whole.save({"model": self.whole.model.state_dict(), "ema": self.ema.average, "optimizer": state})
        if self.whole.log:
            self.whole.log.flush()

    def _end(self) -> None:
        """Hands on the average, and says on disk that the stage is done."""
        self.ema.copy_to_model()
        self.progress.stage, self.progress.stage_step = self.progress.stage + 1, 0
        if self.whole.main:
            self.whole.save({"model": self.whole.model.state_dict()})

    def _restore(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        if self.accelerator.scaler is not None and self.progress.scaler:
            self.accelerator.scaler.load_state_dict(self.progress.scaler)
        if self.progress.stage_step:
            load_optimizer(self.adamw, self.names, tensors["optimizer"])
            for key, average in self.ema.average.items():
                average.copy_(tensors["ema"][key])

    def _show(self) -> None:
        """Reconstructions under their originals, and samples, to TensorBoard."""
        if self.whole.log is None:
            return
        with self.ema.applied(), torch.no_grad():
            self.whole.model.eval()
            for name, picture in _pictures(self.whole.model, self.whole.dataset, self.accelerator.device):
                self.whole.log.picture(f"{self.name}/{name}", picture, self.progress.step)
        trainable(self.whole.model).set_stage(self.name)
        self.since = time.monotonic()


class _StageLoss(nn.Module):
    """The loss as a forward pass, which is what autocast and DistributedDataParallel wrap."""

    def __init__(self, model: nn.Module, stage: str) -> None:
        super().__init__()
        self.model, self.stage = model, stage

    def forward(self, images: Tensor, labels: Tensor | None, seeds: Tensor) -> dict[str, Tensor]:
        return trainable(self.model).loss(images, labels, stage=self.stage, seeds=seeds)


def _adamw(parameters: Mapping[str, Tensor], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels, and leaves biases and norms alone."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], config.lr, config.betas, fused=True)


def _pictures(model: Any, dataset: Any, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    count = min(8, len(dataset))
    items = [dataset[index] for index in range(count)]
    images = torch.stack([image for image, _ in items])
    labels = None if model.num_classes is None else torch.tensor([label for _, label in items], device=device)
    if hasattr(model, "reconstruct"):
        again = to_uint8(model.reconstruct(to_model_range(images.to(device)), labels=labels)).cpu()
        yield "reconstructions", grid(torch.cat([images, again]), columns=count)
    if hasattr(model, "sample"):
        yield "samples", grid(to_uint8(model.sample(torch.arange(count, device=device), labels)).cpu(), columns=count)
