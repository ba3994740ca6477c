"""A model and a data set of the trainer's contract, small enough to train in milliseconds."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lapcore.models import VAE
from lapcore.models.base import Player
from lapcore.nn.batch_norm import BatchNorm1d, BatchNorm2d
from lapcore.training import TrainConfig, train

SETTINGS: dict[str, Any] = {
    "steps": [9, 8],
    "batch_size": 8,
    "warmup": 2,
    "checkpoint_every": 4,
    "log_every": 3,
    "num_workers": 0,
    "flip": True,
    "weight_decay": 0.01,
    "seed": 5,
}


class Pictures(Dataset[tuple[Tensor, int]]):
    """`count` uint8 images of two classes."""

    classes = ("dark", "light")

    def __init__(self, count: int = 21, size: int = 8) -> None:
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], index % 2


class Tiny(nn.Module):
    """Two stages, each a small convolutional denoiser; with dropout, noise by seed and, if asked for, batch norm."""

    image_size, channels = 8, 3

    def __init__(self, width: int = 4, norm: bool = True, dropout: float = 0.3, num_classes: int | None = None) -> None:
        super().__init__()
        self.config = {"width": width, "norm": norm, "dropout": dropout, "num_classes": num_classes}
        self.num_classes = num_classes

        def block() -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(3, width, 3, padding=1, bias=not norm),
                BatchNorm2d(width) if norm else nn.Identity(),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Conv2d(width, 3, 3, padding=1),
            )

        self.coarse, self.fine = block(), block()

    def training_stages(self) -> tuple[str, ...]:
        return ("coarse", "fine")

    def players(self, stage: str) -> tuple[Player, ...]:
        return (Player("model", (getattr(self, stage),)),)

    def set_stage(self, stage: str) -> list[nn.Parameter]:
        for name in self.training_stages():
            block = getattr(self, name)
            block.train(name == stage).requires_grad_(name == stage)
        return list(getattr(self, stage).parameters())

    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        assert seeds is not None and seeds.dtype == torch.int64 and seeds.shape == images.shape[:1]
        assert (labels is None) == (self.num_classes is None)
        noise = (seeds % 1000).float() / 1000 - 0.5
        out = self.coarse(images + noise[:, None, None, None])
        if stage == "fine":
            out = out + self.fine(out)
        error = (out - images).square().mean()
        return {"loss": error, "noise": noise.mean()}

    def reconstruct(self, images: Tensor, seeds: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        assert (labels is None) == (self.num_classes is None)
        out = self.coarse(images)
        return torch.as_tensor(out + self.fine(out))

    def sample(self, seeds: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.reconstruct(seeds.float()[:, None, None, None].expand(-1, 3, 8, 8) / 8, labels=labels)

    def save_pretrained(self, folder: Path) -> None:
        Path(folder).mkdir(exist_ok=True)
        safetensors.torch.save_file(self.state_dict(), Path(folder) / "model.safetensors")
        (Path(folder) / "config.json").write_text(json.dumps(self.config))


class Duel(nn.Module):
    """One stage of two players: a generator, by SGD, that learns by its moving average, and a critic with two turns by AdamW.

    The generator sits out while the critic's last word on its images was above `patience`.
    """

    image_size, channels, num_classes = 8, 3, None

    def __init__(self, width: int = 4, norm: bool = True, patience: float = 2.0) -> None:
        super().__init__()
        self.config = {"width": width, "norm": norm, "patience": patience, "num_classes": None}
        self.patience = patience
        self.generator = nn.Sequential(
            nn.Linear(4, width, bias=False), BatchNorm1d(width) if norm else nn.Identity(), nn.Linear(width, 192)
        )
        self.critic = nn.Sequential(
            nn.Linear(192, width, bias=False),
            BatchNorm1d(width) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Linear(width, 1),
        )

    def training_stages(self) -> tuple[str, ...]:
        return ("duel",)

    def players(self, stage: str) -> tuple[Player, ...]:
        return (
            Player("critic", (self.critic,), lr=0.01, betas=(0.5, 0.9), turns=2, averaged=False, schedule="linear"),
            Player(
                "generator",
                (self.generator,),
                optimizer="sgd",
                lr=0.05,
                momentum=0.5,
                schedule="constant",
                plays=lambda means: means["fooled"] < self.patience,
            ),
        )

    def set_stage(self, stage: str) -> list[nn.Parameter]:
        self.train().requires_grad_(True)
        return list(self.parameters())

    def loss(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        stage: str | None = None,
        seeds: Tensor | None = None,
        player: str | None = None,
    ) -> dict[str, Tensor]:
        assert seeds is not None
        mine, others = (self.generator, self.critic) if player == "generator" else (self.critic, self.generator)
        assert all(p.requires_grad for p in mine.parameters())
        assert not any(p.requires_grad for p in others.parameters())
        drawn = self.generator(((seeds[:, None] >> torch.arange(0, 32, 8)) % 256).float() / 128 - 1)
        if player == "generator":
            fooled = self.critic(drawn).sigmoid().mean()
            return {"loss": 1 - fooled, "fooled": fooled.detach()}
        real, fake = self.critic(images.flatten(1)), self.critic(drawn)
        accuracy = torch.cat([real > 0, fake < 0]).float().mean()
        return {
            "loss": nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean(),
            "accuracy": accuracy,
        }

    def sample(self, seeds: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.as_tensor(self.generator(seeds[:, None].expand(-1, 4).float() / 8).view(-1, 3, 8, 8).tanh())

    def save_pretrained(self, folder: Path) -> None:
        Tiny.save_pretrained(self, folder)  # type: ignore[arg-type]


def vae() -> VAE:
    return VAE(8, 3, latent=4, widths=[4], decoder_widths=[4], hidden=8)


MODELS: dict[str, Callable[..., nn.Module]] = {"tiny": Tiny, "duel": Duel, "vae": vae}
LEGS: dict[str, Any] = {"tiny": [9, 8], "duel": 11, "vae": 6}


def made(kind: str, **options: Any) -> nn.Module:
    torch.manual_seed(3)
    return MODELS[kind](**options)


def tiny(**options: Any) -> Tiny:
    model = made("tiny", **options)
    assert isinstance(model, Tiny)
    return model


def run(
    out: Path, resume: bool = False, model: dict[str, Any] | None = None, kind: str = "tiny", **settings: Any
) -> Path:
    config = TrainConfig(**{**SETTINGS, "steps": LEGS[kind], **settings})
    return train(made(kind, **(model or {})), Pictures(), config, out, resume=resume)


def die_at(owner: object, name: str, count: int) -> None:
    """The `count`-th call of owner.name is the process's last."""
    original = getattr(owner, name)
    left = [count]

    def counted(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, name, counted)


def main(options: dict[str, Any]) -> None:
    """A run; rank 1 dies in the optimizer step numbered `die`."""
    torch.set_num_threads(1)
    last_turn = options.pop("die", None)
    if last_turn and os.environ["RANK"] == "1":
        die_at(torch.optim.AdamW, "step", last_turn)
    run(Path(options.pop("out")), **options)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
