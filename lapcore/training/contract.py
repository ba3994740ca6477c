"""Training asks this of a model and of a data set, and checks here whether the two fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from torch import Tensor, nn
from torch.utils.data import Dataset

from lapcore.models.base import Player
from lapcore.training.config import TrainConfig

Item = tuple[Tensor, int | Tensor]
"""An image, uint8 (C, H, W), with the number of its class or its attributes, float32 (A,)."""


class Trainable(Protocol):
    """Training asks this of a model, besides being an nn.Module; `lapcore.models.ImageModel` is one."""

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


def attributes_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the values of the vectors that are the model's labels; none for a model of classes, or without labels."""
    return tuple(getattr(model, "attributes", ()))


def takes_labels(model: nn.Module) -> bool:
    return trainable(model).num_classes is not None or bool(attributes_of(model))


def image_shape(model: nn.Module) -> tuple[int, int, int]:
    """(C, H, W) of the images that the model takes."""
    size = trainable(model).image_size
    return trainable(model).channels, size, size


def spec_of(dataset: Dataset[Item]) -> Mapping[str, Any]:
    """Returns what a data set was opened with, for the run's file."""
    spec: Mapping[str, Any] = getattr(dataset, "spec", {"images": len(dataset)})  # type: ignore[arg-type]
    return spec


def check_fits(model: nn.Module, dataset: Dataset[Item], stages: Sequence[str], config: TrainConfig) -> None:
    """ValueError, naming what is wrong, unless the model has such stages and players, and the data such labels."""
    known = trainable(model).training_stages()
    unknown = [stage for stage in stages if stage not in known]
    if unknown or not stages:
        raise ValueError(f"stages: expected some of {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    config.check_player_names({player.name: None for stage in stages for player in trainable(model).players(stage)})
    _check_attributes(attributes_of(model), tuple(getattr(dataset, "attributes", ())))
    classes = trainable(model).num_classes
    if classes is not None and hasattr(dataset, "classes"):
        _check_classes(classes, tuple(dataset.classes))


def _check_attributes(model: Sequence[str], data: Sequence[str]) -> None:
    if model and tuple(model) != tuple(data):
        raise ValueError(
            f"dataset: expected the attributes {', '.join(model)} of the model, got {', '.join(data) or 'none'}"
        )


def _check_classes(count: int, classes: Sequence[str]) -> None:
    """Folders without classes, or with fewer than the model, are refused; numbers that someone gave may leave some out."""
    names = ", ".join(classes[:8]) + " ..." * (len(classes) > 8)
    if len(classes) > count:
        raise ValueError(f"dataset: expected at most {count} classes, as the model has, got {len(classes)} ({names})")
    if len(classes) == 1 < count:
        raise ValueError(f"num_classes: expected none, as the data has no classes, got {count}")
    numbered = list(classes) == [str(number) for number in range(len(classes))]
    if len(classes) < count and not numbered:
        raise ValueError(f"num_classes: expected {len(classes)}, as the data has ({names}), got {count}")


def check_held_out(model: nn.Module, held_out: Dataset[Item], dataset: Dataset[Item], stages: Sequence[str]) -> None:
    """ValueError, naming what is wrong, unless held-out images can be measured: by a likelihood, and with the same labels."""
    for stage in stages:
        players = [player.name for player in trainable(model).players(stage)]
        if len(players) > 1:
            raise ValueError(
                f"validation: expected None for stage {stage}, whose players ({', '.join(players)}) are judged by each other: "
                "their losses on held-out images say nothing about the model"
            )
    for name in ("attributes", "classes") if takes_labels(model) else ():
        theirs, own = (tuple(getattr(data, name, ())) for data in (held_out, dataset))
        if theirs != own:
            raise ValueError(
                f"validation: expected the {name} of the training data, {', '.join(own)}, got {', '.join(theirs)}"
            )
