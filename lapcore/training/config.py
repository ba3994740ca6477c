"""What a training run is made of, and its file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from lapcore.data.files import atomic_file
from lapcore.errors import CheckpointError, require

Schedule = Literal["constant", "cosine"]
Precision = Literal["no", "fp16", "bf16"]

OPERATIONAL = ("num_workers", "keep_checkpoints", "in_memory")
"""Settings that leave the weights and the log as they are: a resumed run may change them."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Two runs with equal settings, data and starting weights end, on one CPU, in the same bytes.

    Attributes:
        steps: optimiser steps: in all, split evenly over the model's stages, or one number per stage.
        batch_size: images per optimiser step, over all processes and accumulated parts together.
        lr: peak learning rate of AdamW, with `betas` and, on tensors of two or more dimensions, `weight_decay`.
        warmup: steps of each stage over which the learning rate rises linearly.
        schedule: what it does then: "constant", or "cosine" down to 0 at the stage's end.
        grad_clip: largest norm of the gradient; 0 for no limit.
        ema: decay of the exponential moving average of the weights, which is what a stage hands on; 0 for none. It is
            min(ema, (1 + t) / (10 + t)) at step t of a stage. Buffers (batch-norm statistics) are taken as they are.
        mixed_precision: "no", "fp16" (GPU only, with loss scaling) or "bf16" autocast; weights stay float32.
        accumulate: parts that each process computes its share of a batch in, one after the other.
        flip: mirror half of the images, left to right.
        seed: of order, flips and noise; image p of the run has the same ones however many processes there are.
        num_workers: worker processes that read images; 0 reads in the training process.
        in_memory: hold all images as one uint8 tensor; None does so below 2 GiB when every image is used at least once.
        log_every, checkpoint_every: in steps; the end of a stage is always logged and checkpointed.
        keep_checkpoints: how many of the newest to keep; 0 for all.
        sample_every: steps between pictures of samples and reconstructions in TensorBoard; 0 for ends of stages only.
        device: "auto" (a GPU if there is one) or "cpu".

    Raises ValueError, naming the field, for a value out of range; TypeError for one of another type.
    """

    steps: int | list[int] = 10_000
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 100
    schedule: Schedule = "cosine"
    grad_clip: float = 1.0
    ema: float = 0.999
    mixed_precision: Precision = "no"
    accumulate: int = 1
    flip: bool = False
    seed: int = 0
    num_workers: int = 2
    in_memory: bool | None = None
    log_every: int = 50
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    sample_every: int = 0
    device: Literal["auto", "cpu"] = "auto"

    def __post_init__(self) -> None:
        least = {
            "batch_size": 1, "warmup": 0, "accumulate": 1, "seed": 0, "num_workers": 0, "log_every": 1,
            "checkpoint_every": 1, "keep_checkpoints": 0, "sample_every": 0,
        }  # fmt: skip
        for name, bound in least.items():
            self._check(name, _is_int(getattr(self, name)) and getattr(self, name) >= bound, f"an integer from {bound}")
        self._check("seed", self.seed < 2**63, "an integer below 2**63")
        for name in ("lr", "weight_decay", "grad_clip"):
            self._check(name, _is_number(getattr(self, name)) and getattr(self, name) >= 0, "a number from 0")
        self._check("lr", self.lr > 0, "a number above 0")
        self._check("ema", _is_number(self.ema) and 0 <= self.ema < 1, "a number from 0 to below 1")
        betas = self.betas if isinstance(self.betas, Sequence) else ()
        self._check(
            "betas", len(betas) == 2 and all(_is_number(b) and 0 <= b < 1 for b in betas), "two numbers in [0, 1)"
        )
        object.__setattr__(self, "betas", tuple(float(b) for b in betas))
        self._check("schedule", self.schedule in get_args(Schedule), " or ".join(get_args(Schedule)))
        self._check("mixed_precision", self.mixed_precision in get_args(Precision), ", ".join(get_args(Precision)))
        self._check("device", self.device in ("auto", "cpu"), "auto or cpu")
        self._check("flip", isinstance(self.flip, bool), "true or false")
        self._check("in_memory", self.in_memory is None or isinstance(self.in_memory, bool), "true, false or null")
        steps = self.steps if isinstance(self.steps, Sequence) else [self.steps]
        good = len(steps) > 0 and all(_is_int(count) and count >= 0 for count in steps) and sum(steps) > 0
        self._check("steps", good, "a positive integer, or a list of one per stage")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

    def steps_of(self, stages: Sequence[str]) -> list[int]:
        """Steps of each stage. An even split gives what is left over to the last ones."""
        if isinstance(self.steps, Sequence):
            if len(self.steps) != len(stages):
                raise ValueError(
                    f"steps: expected {len(stages)}, one per stage ({', '.join(stages)}), got {self.steps}"
                )
            return list(self.steps)
        share, rest = divmod(self.steps, len(stages))
        return [share + (index >= len(stages) - rest) for index in range(len(stages))]

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) of a stage of `steps`."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * step / steps)) if self.schedule == "cosine" else 1.0
        return self.lr * rise * fall


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class RunConfig:
    """A run's `config.yaml`: the model by name, its keyword arguments, the data, and how it is trained."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)

    def save(self, path: Path) -> None:
        text = require("yaml", "train").safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False)
        with atomic_file(path) as file:
            file.write(text.encode())

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Raises CheckpointError, naming the file, when it is missing or is not such a file."""
        yaml = require("yaml", "train")
        try:
            content = yaml.safe_load(path.read_text())
            content["train"] = TrainConfig(**content["train"])
            return cls(**content)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such file; is this a training run's folder?") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: not a run's configuration: {error}") from error

    def check_resumes(self, saved: RunConfig, path: Path) -> None:
        """CheckpointError, naming what differs, unless going on from `saved` with these settings is the same run.

        The data may have moved; what is asked of it and the number of images may not have changed.
        """
        mine, theirs = _flat(self), _flat(saved)
        names = [name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)]
        if names:
            changes = "; ".join(f"{name}: {theirs.get(name)!r} in the run, {mine.get(name)!r} now" for name in names)
            raise CheckpointError(f"{path}: cannot resume with other settings ({changes}); start a new run instead")


def _plain(value: Any) -> Any:
    """The same in the types that YAML keeps."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _flat(config: RunConfig) -> dict[str, Any]:
    content = _plain(dataclasses.asdict(config))
    groups = {"options": "model.", "data": "data.", "train": "train."}
    flat = {prefix + key: value for name, prefix in groups.items() for key, value in content[name].items()}
    ignored = {"data.path", *(f"train.{name}" for name in OPERATIONAL)}
    return {"model": config.model, **{key: value for key, value in flat.items() if key not in ignored}}
