"""A player at work: its optimiser, learning rate, moving average and turns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lapcore.models.base import Player
from lapcore.training.checkpoint import load_optimizer, optimizer_tensors
from lapcore.training.config import TrainConfig
from lapcore.training.contract import takes_labels, trainable
from lapcore.training.ema import EMA
from lapcore.training.feed import Batch


class Learner:
    """A player of a stage of `model`, with this run's settings.

    parameters: of the whole stage, of which only the player's own require gradients in its turn. alone: whether it is the
    stage's only player, whose loss is asked for without its name, and logged so. A player without parameters, such as PCA's,
    learns from what its loss sees; nothing is moved.
    """

    def __init__(
        self,
        player: Player,
        model: nn.Module,
        stage: str,
        parameters: Sequence[nn.Parameter],
        config: TrainConfig,
        accelerator: Any,
        *,
        alone: bool,
    ) -> None:
        self.player, self.accelerator = player, accelerator
        self._model, self._stage, self._alone = model, stage, alone
        own = {parameter for module in player.modules for parameter in module.parameters()}
        self.parameters = {key: p for key, p in model.named_parameters() if p in own}
        self._others = [parameter for parameter in parameters if parameter not in own]
        self._names: dict[Tensor, str] = {p: key for key, p in self.parameters.items()}
        self.optimizer = _optimizer(player, self.parameters, config.weight_decay)
        self.ema = EMA(self.parameters, config.ema if player.averaged else 0.0)
        half = config.mixed_precision == "fp16"
        self._scaler = torch.amp.GradScaler(accelerator.device.type, enabled=half)

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def logged(self, name: str) -> str:
        """Returns the log's name for a scalar of the player's loss."""
        return name if self._alone else f"{self.player.name}_{name}"

    def turn(self, parts: Sequence[Batch], step: int, steps: int) -> dict[str, Tensor]:
        """One step of the optimiser, in step `step` (from 0) of the stage's `steps`; returns scalars for the log."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(self.player, step, steps)
            if self.player.optimizer == "sgd":
                group["momentum"] = momentum_at(self.player, step, steps)
        means = self.gradients(parts)
        self._share_gradients()
        plays = self.player.plays is None or self.player.plays(self._everywhere(means))
        if plays:
            self._move()
            self.ema.update(step + 1)
        self.optimizer.zero_grad()
        if self.player.plays is not None:
            means["plays"] = torch.tensor(float(plays), device=self.accelerator.device)
        return {self.logged(name): mean for name, mean in means.items()}

    def gradients(self, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """Adds up the gradients of a batch's parts, its own parameters' alone; returns the means of what the loss reports."""
        for parameter in self._others:
            parameter.requires_grad_(False)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        means: dict[str, Tensor] = {}
        for part in parts:
            with self.accelerator.autocast():
                losses = self._loss(part)
            if self.parameters:
                self._scaler.scale(losses["loss"].float() / len(parts)).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach().float() / len(parts)
        return means

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        labels = batch.labels if takes_labels(self._model) else None
        named = {} if self._alone else {"player": self.player.name}
        return trainable(self._model).loss(batch.images, labels, stage=self._stage, seeds=batch.seeds, **named)

    def _share_gradients(self) -> None:
        """Gradients become their means over processes, each of which has the same share of the batch."""
        if self.accelerator.num_processes == 1 or not self.parameters:
            return
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        whole = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduction="mean")
        for gradient, part in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _everywhere(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """Means over processes, on which all of them decide alike."""
        values = self.accelerator.reduce(torch.stack(list(means.values())), reduction="mean")
        return dict(zip(means, values.tolist(), strict=True))

    def _move(self) -> None:
        if not self.parameters:
            return
        self._scaler.unscale_(self.optimizer)
        if self.player.grad_clip:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.player.grad_clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The optimiser's tensors, by player, parameter and entry; and the scaler's state."""
        tensors = optimizer_tensors(self.optimizer, self._names)
        return {f"{self.player.name}/{key}": value for key, value in tensors.items()}, self._scaler.state_dict()

    def restore(self, optimizers: Mapping[str, Tensor], averages: Mapping[str, Tensor], scaler: dict[str, Any]) -> None:
        """Takes its own out of what all players' `state` and `ema.average` gave."""
        prefix = f"{self.player.name}/"
        own = {key.removeprefix(prefix): value for key, value in optimizers.items() if key.startswith(prefix)}
        load_optimizer(self.optimizer, self._names, own)
        self._scaler.load_state_dict(scaler)
        for key, average in self.ema.average.items():
            average.copy_(averages[key])


def learners_of(model: nn.Module, stage: str, config: TrainConfig, accelerator: Any) -> list[Learner]:
    """The players of a stage, which the model is made ready for."""
    parameters = trainable(model).set_stage(stage)
    players = [config.player(player) for player in trainable(model).players(stage)]
    alone = len(players) == 1
    return [Learner(player, model, stage, parameters, config, accelerator, alone=alone) for player in players]


def lr_at(player: Player, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of a stage of `steps`."""
    rise = min(1.0, (step + 1) / player.warmup) if player.warmup else 1.0
    done = step / steps
    fall = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[player.schedule]
    return player.lr * rise * fall / (1 + player.lr_decay * step)


def momentum_at(player: Player, step: int, steps: int) -> float:
    """The momentum of step `step` (from 0) of a stage of `steps`."""
    last = player.momentum if player.final_momentum is None else player.final_momentum
    return player.momentum + (last - player.momentum) * step / max(steps - 1, 1)


def _optimizer(player: Player, parameters: Mapping[str, Tensor], weight_decay: float) -> torch.optim.Optimizer:
    """It decays matrices and kernels, and leaves biases and norms alone."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]] or groups[:1]
    if player.optimizer == "sgd":
        return torch.optim.SGD(filled, player.lr, player.momentum, fused=True)
    return torch.optim.AdamW(filled, player.lr, player.betas, fused=True)
