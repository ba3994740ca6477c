"""A run says this of itself before its first step."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from lapcore.training.contract import Item, attributes_of, image_shape, takes_labels, trainable
from lapcore.training.held_out import Data
from lapcore.training.run import RunConfig

PRECISION = {"no": "float32", "fp16": "float16 with float32 weights", "bf16": "bfloat16 with float32 weights"}


def opening(model: nn.Module, data: Data, run: RunConfig, out: Path, accelerator: Any) -> Iterator[str]:
    """Lines on the data, the model, the stages, the machine and where the curves are."""
    channels, height, width = image_shape(model)
    apart = "" if data.held_out is None else f", {_count(data.held_out)} more held out"
    labels = _labels(model, data.training)
    yield f"data: {_count(data.training)} images of {height}x{width}x{channels}{apart}; {labels}"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    yield f"model: {run.model}, {parameters:,} parameters; precision: {PRECISION[run.train.mixed_precision]}"
    stages = ", ".join(f"{leg.stage} {leg.steps:,}" for leg in run.legs)
    yield f"steps of each stage: {stages}; {run.train.batch_size} images a batch; device: {_device(accelerator)}"
    yield f"curves and pictures: tensorboard --logdir {shlex.quote(str(out / 'tensorboard'))}"


class Legend:
    """Tells what the names in the log mean when they first come up, in the words of the model's `terms`."""

    def __init__(self, model: nn.Module) -> None:
        common = {
            "loss": "what the stage minimises",
            "plays": "share of its turns that the player took",
        }
        self._terms: dict[str, str] = {**common, **getattr(model, "terms", {})}
        self._told: set[str] = set()

    def lines(self, names: Iterable[str], players: Iterable[str]) -> Iterator[str]:
        """Finds the words for a name that begins with its player's, where there are several, or ends in a level's number."""
        for name in names:
            plain = next((name.removeprefix(f"{player}_") for player in players if name.startswith(f"{player}_")), name)
            term = plain if plain in self._terms else plain.rstrip("0123456789")
            if term in self._terms and term not in self._told:
                self._told.add(term)
                yield f"{name}: {self._terms[term]}"


def _count(dataset: Dataset[Item]) -> str:
    return f"{len(dataset):,}"  # type: ignore[arg-type]


def _labels(model: nn.Module, dataset: Dataset[Item]) -> str:
    if not takes_labels(model):
        return "labels are not used"
    attributes = attributes_of(model)
    if attributes:
        return f"attributes: {', '.join(attributes)}"
    classes = list(getattr(dataset, "classes", ()))
    names = f" ({', '.join(classes[:10])}{', ...' * (len(classes) > 10)})" if classes else ""
    return f"{trainable(model).num_classes} classes{names}"


def _device(accelerator: Any) -> str:
    processes = f"{accelerator.num_processes} processes, " if accelerator.num_processes > 1 else ""
    if accelerator.device.type == "cpu":
        return f"{processes}cpu, {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name(accelerator.device) if accelerator.device.type == "cuda" else accelerator.device
    return f"{processes}{name}"
