"""A model and a data set of the trainer's contract, small enough to train in milliseconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

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
                nn.Conv2d(3, width, 3, padding=1),
                nn.BatchNorm2d(width) if norm else nn.Identity(),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Conv2d(width, 3, 3, padding=1),
            )

        self.coarse, self.fine = block(), block()

    def training_stages(self) -> tuple[str, ...]:
        return ("coarse", "fine")

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
        Path(folder).mkdir()
        safetensors.torch.save_file(self.state_dict(), Path(folder) / "model.safetensors")
        (Path(folder) / "config.json").write_text(json.dumps(self.config))


def tiny(**options: Any) -> Tiny:
    torch.manual_seed(3)
    return Tiny(**options)


def run(out: Path, resume: bool = False, model: dict[str, Any] | None = None, **settings: Any) -> Path:
    return train(tiny(**(model or {})), Pictures(), TrainConfig(**{**SETTINGS, **settings}), out, resume=resume)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    run(Path(options.pop("out")), **options)
