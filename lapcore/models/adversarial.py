"""The generative adversarial networks share two players, their losses, and noise from seeds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lapcore.models.base import ImageModel, Player, inference
from lapcore.nn.adversarial import (
    LOSSES,
    Verdict,
    class_loss,
    critic_accuracy,
    critic_loss,
    generator_loss,
    gradient_penalty,
)
from lapcore.nn.blocks import full_precision
from lapcore.nn.condition import Condition
from lapcore.ops import random

PRIOR, MIX = 0, 1
"""Kinds of noise: what the generator draws from, and the places of the gradient penalty."""

PLAYERS = ("critic", "generator")

ADAM: Mapping[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999), "warmup": 0, "schedule": "constant", "grad_clip": 0.0}
"""Radford et al. 2016 train DCGAN with these settings."""

WASSERSTEIN_ADAM: Mapping[str, Any] = {**ADAM, "lr": 1e-4, "betas": (0.0, 0.9)}
"""Gulrajani et al. 2017 train networks under a gradient penalty with these settings."""

WASSERSTEIN_TURNS = 5
"""Under "wgan-gp" the critic takes so many steps for each of the generator's (Gulrajani et al. 2017)."""


class Round(NamedTuple):
    """One batch of the game: what is real, how the generator draws as much, and how the critic judges."""

    real: Tensor
    draw: Callable[[], Tensor]
    judge: Callable[[Tensor], Verdict]


class AdversarialModel(ImageModel):
    """A generator that draws and a critic that tells what is drawn from what is real, each against the other.

    The losses are those of `lapcore.nn.adversarial`. A subclass says in `_stage_modules` which (critic, generator) plays a stage,
    in `_round` how it plays a batch, and keeps in its config `loss`, `penalty_weight` and `class_head`.
    """

    terms: ClassVar[dict[str, str]] = {
        "loss": "what the player minimises against the other; neither falls for long, so look at the samples",
        "accuracy": "share of images that the critic tells rightly, real and drawn alike; 0.5 by chance",
        "penalty": "mean of (|gradient of the critic| - 1)^2, before its weight",
        "real_class_loss": "cross entropy of the class that the critic names for real images, nats",
        "fake_class_loss": "the same for drawn images",
    }

    optimizer: Mapping[str, Any] = ADAM
    """Both players are trained with these fields of `Player`, unless the user says otherwise."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.kind, self.penalty_weight = config["loss"], config["penalty_weight"]
        self.class_head = config["class_head"]
        if self.kind not in LOSSES:
            raise ValueError(f"loss: expected {', '.join(LOSSES)}, got {self.kind!r}")
        if isinstance(self.penalty_weight, bool) or not 0 <= self.penalty_weight < float("inf"):
            raise ValueError(f"penalty_weight: expected a number from 0, got {self.penalty_weight!r}")
        if self.class_head and self.num_classes is None:
            raise ValueError("class_head: expected num_classes beside it, as the critic names the class")

    @property
    def critic_condition(self) -> Condition:
        """Says what the critic is told of an image: with AC-GAN's head nothing, as it is to find that out."""
        return Condition() if self.class_head else self.condition

    @property
    def head_classes(self) -> int | None:
        """Classes that the critic names."""
        return self.num_classes if self.class_head else None

    def players(self, stage: str) -> tuple[Player, ...]:
        """The critic, whose steps with "wgan-gp" are five for one, and the generator, whose weights are averaged."""
        critic, generator = self.modules_of(stage)
        turns = WASSERSTEIN_TURNS if self.kind == "wgan-gp" else 1
        return (
            Player("critic", (critic,), turns=turns, averaged=False, **self.optimizer),
            Player("generator", (generator,), **self.optimizer),
        )

    def loss(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        stage: str | None = None,
        seeds: Tensor | None = None,
        player: str | None = None,
    ) -> dict[str, Tensor]:
        """Scalars of a batch. For player="generator" or "critic": "loss", which that player minimises, and what is worth logging.

        Of the critic "accuracy" (`critic_accuracy`), with "wgan-gp" "penalty", and with a class head "real_class_loss"; of
        the generator, with a class head, "fake_class_loss". player=None: all of these, "loss" the generator's and "critic" the
        critic's. The critic's loss has no gradient at the generator; the generator's does reach the critic, unless the critic's
        parameters are frozen, as training freezes them. stage and noise: see `ImageModel.loss`; as many images are drawn as are
        given.
        """
        self._check_batch(images, labels, seeds)
        if player is not None and player not in PLAYERS:
            raise ValueError(f"player: expected {' or '.join(PLAYERS)}, got {player!r}")
        stage = self._stage(stage)
        seeds = self._drawn_seeds(seeds, len(images))
        turn = self._round(stage, images, labels, seeds)
        if player == "generator":
            return self._generator_turn(turn, labels)
        critic = self._critic_turn(turn, labels, random.uniform((len(images),), seeds, stream=self._stream(stage, MIX)))
        if player == "critic":
            return critic
        return {**critic, **self._generator_turn(turn, labels), "critic": critic["loss"]}

    def _stream(self, stage: str, kind: int) -> int:
        """The stream of a kind of noise; a model of several stages gives each its own, so that one seed serves all."""
        return kind

    @abstractmethod
    def _round(self, stage: str, images: Tensor, labels: Tensor | None, seeds: Tensor) -> Round:
        """Says how `stage` plays a batch of images."""

    def _critic_turn(self, turn: Round, labels: Tensor | None, mix: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            drawn = turn.draw()
        real, fake = turn.judge(turn.real), turn.judge(drawn)  # in batches of their own, as DCGAN's batch norm has them
        real_scores, fake_scores = full_precision(real.scores), full_precision(fake.scores)
        loss = critic_loss(self.kind, real_scores, fake_scores)
        found = {"accuracy": critic_accuracy(self.kind, real_scores, fake_scores)}
        if self.kind == "wgan-gp":
            penalty = gradient_penalty(lambda x: turn.judge(x).scores, turn.real, drawn, mix.to(drawn.dtype))
            loss = loss + self.penalty_weight * penalty
            found["penalty"] = penalty.detach()
        if real.logits is not None and fake.logits is not None and labels is not None:
            real_class, fake_class = class_loss(real.logits, labels), class_loss(fake.logits, labels)
            loss = loss + real_class + fake_class
            found["real_class_loss"] = real_class.detach()
        return {"loss": loss, **found}

    def _generator_turn(self, turn: Round, labels: Tensor | None) -> dict[str, Tensor]:
        scores, logits = turn.judge(turn.draw())
        loss = generator_loss(self.kind, full_precision(scores))
        if logits is None or labels is None:
            return {"loss": loss}
        named = class_loss(logits, labels)
        return {"loss": loss + named, "fake_class_loss": named.detach()}


class VectorGAN(AdversarialModel):
    """A generator of whole images from one vector of noise, and their critic: generator(z, labels), critic(x, labels)."""

    generator: nn.Module
    critic: nn.Module
    latent: int
    noise = "uniform"

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"all": (self.critic, self.generator)}

    def _round(self, stage: str, images: Tensor, labels: Tensor | None, seeds: Tensor) -> Round:
        z = self._codes(seeds)
        return Round(images, lambda: self.generator(z, labels), lambda x: self.critic(x, labels))

    def _codes(self, seeds: Tensor) -> Tensor:
        return noise_of(self.noise, (len(seeds), self.latent), seeds, PRIOR, self.dtype)

    @inference
    def sample(self, seeds: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) drawn by the generator; image i depends on (weights, seeds[i], labels[i]) only.

        seeds: int64 (N,).
        """
        self._check_seeds(seeds)
        self._check_labels(labels, len(seeds))
        images: Tensor = self.generator(self._codes(seeds), labels)
        return images


def noise_of(kind: str, shape: Sequence[int], seeds: Tensor, stream: int, dtype: torch.dtype) -> Tensor:
    """Noise of mean 0, (N, ...) for seeds (N,): "uniform" in (-1, 1), or "normal" of variance 1."""
    if kind == "normal":
        return random.normal(shape, seeds, stream=stream, dtype=dtype)
    return 2 * random.uniform(shape, seeds, stream=stream, dtype=dtype) - 1
