"""Estimates how long a run has to go, each stage at its own pace."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lapcore.training.config import TrainConfig
from lapcore.training.feed import Batch
from lapcore.training.learner import Learner, learners_of
from lapcore.training.run import Leg


class Pace:
    """Seconds left of `legs`. A stage that has not begun is taken to be slower than the one in progress as its trial was.

    trials: seconds of a step of each stage by `trial_seconds`; only their ratios count.
    """

    def __init__(self, legs: Sequence[Leg], trials: dict[str, float]) -> None:
        self._legs, self._trials = list(legs), trials
        self._seen: dict[str, float] = {}

    def left(self, leg: int, leg_step: int, seconds_per_step: float) -> float:
        """Returns the seconds left after step `leg_step` of leg number `leg`, of which the last ones took so long each."""
        here = self._legs[leg]
        self._seen[here.stage] = seconds_per_step
        to_come = sum(later.steps * self._of(later.stage, here.stage) for later in self._legs[leg + 1 :])
        return (here.steps - leg_step) * seconds_per_step + to_come

    def _of(self, stage: str, now: str) -> float:
        if stage in self._seen:
            return self._seen[stage]
        return self._seen[now] * self._trials.get(stage, 1.0) / self._trials.get(now, 1.0)


def trial_seconds(model: nn.Module, stage: str, batch: Sequence[Batch], config: TrainConfig, accelerator: Any) -> float:
    """Seconds of the losses and gradients of a step of `stage`, tried on a copy of the model with a batch, given in its parts."""
    twin = copy.deepcopy(model)
    learners = learners_of(twin, stage, config, accelerator)
    _pass(learners, batch[:1], accelerator)  # the first pass also allocates and chooses algorithms
    return _pass(learners, batch[:1], accelerator) * len(batch)


def _pass(learners: Sequence[Learner], parts: Sequence[Batch], accelerator: Any) -> float:
    _wait(accelerator)
    start = time.monotonic()
    for learner in learners:
        for _ in range(learner.player.turns):
            learner.gradients(parts)
            learner.optimizer.zero_grad()
    _wait(accelerator)
    return max(time.monotonic() - start, 1e-9)


def _wait(accelerator: Any) -> None:
    if accelerator.device.type != "cpu":
        torch.accelerator.synchronize()
