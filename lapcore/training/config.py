"""The settings say how a run is trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lapcore.models.base import Player

Schedule = Literal["constant", "cosine", "linear"]
Precision = Literal["no", "fp16", "bf16"]

OPERATIONAL = ("num_workers", "keep_checkpoints", "in_memory")
"""Settings that leave the weights and the log as they are: a resumed run may change them."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Two runs with equal settings, data and starting weights end, on one CPU, in the same bytes.

    Attributes:
        steps: optimiser steps: in all, split evenly over the model's stages, or one number per stage.
        batch_size: images per optimiser step, over all processes and accumulated parts together.
        lr: peak learning rate of every player of a stage (`lapcore.models.base.Player`); None for each player's own, 1e-3
            unless the model says otherwise. So it is with the next four.
        betas: of AdamW.
        warmup: steps of each stage over which the learning rate rises linearly.
        schedule: what it does then: "constant", or "cosine" or "linear" down to 0 at the stage's end.
        grad_clip: largest norm of the gradient; 0 for no limit.
        players: settings of single players by name, which go before those for all: {critic: {lr: 0.0004, turns: 2}}. Any of
            optimizer, lr, betas, momentum, final_momentum, warmup, schedule, lr_decay, grad_clip, turns and averaged.
        weight_decay: of the optimisers, on tensors of two or more dimensions.
        ema: decay of the exponential moving average of the weights, which is what a stage hands on; 0 for none. It is
            min(ema, (1 + t) / (10 + t)) at step t of a stage. Buffers (batch-norm statistics) are taken as they are.
        mixed_precision: "no", "fp16" (GPU only, with loss scaling) or "bf16" autocast; weights stay float32.
        accumulate: parts that each process computes its share of a batch in, one after the other.
        flip: mirror half of the images, left to right.
        seed: of order, flips and noise; image p of the run has the same ones however many processes there are.
        validate_every: steps between measurements of held-out images, if the run has some; 0 for at each checkpoint.
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
    lr: float | None = None
    betas: tuple[float, float] | None = None
    warmup: int | None = None
    schedule: Schedule | None = None
    grad_clip: float | None = None
    players: dict[str, dict[str, Any]] = field(default_factory=dict)
    weight_decay: float = 0.0
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
    validate_every: int = 0
    device: Literal["auto", "cpu"] = "auto"

    def __post_init__(self) -> None:
        least = {
            "batch_size": 1, "accumulate": 1, "seed": 0, "num_workers": 0, "log_every": 1, "checkpoint_every": 1,
            "keep_checkpoints": 0, "sample_every": 0, "validate_every": 0,
        }  # fmt: skip
        for name, bound in least.items():
            self._check(name, _is_int(getattr(self, name)) and getattr(self, name) >= bound, f"an integer from {bound}")
        self._check("seed", self.seed < 2**63, "an integer below 2**63")
        self._check("weight_decay", _is_number(self.weight_decay) and self.weight_decay >= 0, "a number from 0")
        self._check("ema", _is_number(self.ema) and 0 <= self.ema < 1, "a number from 0 to below 1")
        self._check("mixed_precision", self.mixed_precision in get_args(Precision), ", ".join(get_args(Precision)))
        self._check("device", self.device in ("auto", "cpu"), "auto or cpu")
        self._check("flip", isinstance(self.flip, bool), "true or false")
        self._check("in_memory", self.in_memory is None or isinstance(self.in_memory, bool), "true, false or null")
        steps = self.steps if isinstance(self.steps, Sequence) else [self.steps]
        good = len(steps) > 0 and all(_is_int(count) and count >= 0 for count in steps) and sum(steps) > 0
        self._check("steps", good, "a positive integer, or a list of one per stage")
        self._check_players()

    def _check_players(self) -> None:
        shared = {name: getattr(self, name) for name in FOR_ALL if getattr(self, name) is not None}
        check_player("", shared)
        if self.betas is not None:
            object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))
        by_name = isinstance(self.players, Mapping) and all(isinstance(own, Mapping) for own in self.players.values())
        self._check("players", by_name, "settings by player, such as {critic: {lr: 0.0004}}")
        for name, own in self.players.items():
            check_player(f"players.{name}", own)

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

    def player(self, player: Player) -> Player:
        """A model's player as this run has it.

        A momentum stays what the run says, and another optimiser starts without the decay that the model meant for its own.
        """
        shared = {name: getattr(self, name) for name in FOR_ALL if getattr(self, name) is not None}
        own = self.players.get(player.name, {})
        steady: dict[str, Any] = {"final_momentum": None} if own.keys() & {"momentum", "optimizer"} else {}
        if "optimizer" in own:
            steady["lr_decay"] = 0.0
        return dataclasses.replace(player, **{**steady, **shared, **own})

    def check_player_names(self, names: Collection[str]) -> None:
        """ValueError unless `players` speaks of these alone."""
        unknown = [name for name in self.players if name not in names]
        if unknown:
            raise ValueError(f"players: expected names among {', '.join(names)}, got {', '.join(unknown)}")


FOR_ALL = ("lr", "betas", "warmup", "schedule", "grad_clip")
"""Settings of players that a run may give for all of them at once."""


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_betas(value: object) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(_is_number(b) and 0 <= b < 1 for b in value)


def _is_momentum(value: Any) -> bool:
    return _is_number(value) and bool(0 <= value < 1)


_PLAYER: dict[str, tuple[Callable[[Any], bool], str]] = {
    "optimizer": (lambda value: value in ("adamw", "sgd"), "adamw or sgd"),
    "lr": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "betas": (_are_betas, "two numbers in [0, 1)"),
    "momentum": (_is_momentum, "a number from 0 to below 1"),
    "final_momentum": (lambda value: value is None or _is_momentum(value), "a number from 0 to below 1, or null"),
    "warmup": (lambda value: _is_int(value) and value >= 0, "an integer from 0"),
    "schedule": (lambda value: value in get_args(Schedule), " or ".join(get_args(Schedule))),
    "lr_decay": (lambda value: _is_number(value) and value >= 0, "a number from 0"),
    "grad_clip": (lambda value: _is_number(value) and value >= 0, "a number from 0"),
    "turns": (lambda value: _is_int(value) and value >= 1, "an integer from 1"),
    "averaged": (lambda value: isinstance(value, bool), "true or false"),
}
"""A player's settings: which values are right, and how to say so."""


def check_player(path: str, settings: Mapping[str, Any]) -> None:
    """ValueError, naming the setting after `path`, unless all are a player's and in range."""
    for name, value in settings.items():
        if name not in _PLAYER:
            raise ValueError(f"{path}: expected settings among {', '.join(_PLAYER)}, got {name!r}")
        good, expected = _PLAYER[name]
        if not good(value):
            raise ValueError(f"{path + '.' if path else ''}{name}: expected {expected}, got {value!r}")
