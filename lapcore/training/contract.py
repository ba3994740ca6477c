"""What training asks of a model and of a data set, and whether the two fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from torch import Tensor, nn
from torch.utils.data import Dataset

from lapcore.models.base import Player

Item = tuple[Tensor, int | Tensor]
"""An image, uint8 (C, H, W), with the number of its class or its attributes, float32 (A,)."""


class Trainable(Protocol):
    """What training asks of a model, besides being an nn.Module; `lapcore.models.ImageModel` is one."""

    image_size: int
    channels: int
    num_classes: int | None
    config: dict[str, Any]

    def training_stages(self) -> tuple[str, ...]: ...

    def players(self, stage: str) -> tuple[Player, ...]: ...

    def set_stage(self, stage: str) -> list[nn.Parameter]: ...

    def loss(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        stage: str | None = None,
        seeds: Tensor | None = None,
        **player: str,
    ) -> dict[str, Tensor]:
        """`player=`, a name, is given where the stage has several players, and only there."""
        ...

    def save_pretrained(self, folder: Path) -> Any: ...


def trainable(model: nn.Module) -> Trainable:
    return cast(Trainable, model)


def takes_labels(model: nn.Module) -> bool:
    return trainable(model).num_classes is not None


def spec_of(dataset: Dataset[Item]) -> Mapping[str, Any]:
    """What a data set was opened with, for the run's file."""
    spec: Mapping[str, Any] = getattr(dataset, "spec", {"images": len(dataset)})  # type: ignore[arg-type]
    return spec


def check_labels(model: nn.Module, dataset: Dataset[Item]) -> None:
    count, classes = trainable(model).num_classes, getattr(dataset, "classes", ())
    if count is not None and len(classes) > count:
        raise ValueError(f"dataset: expected at most {count} classes, as the model has, got {len(classes)}")
