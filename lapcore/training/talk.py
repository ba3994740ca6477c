"""What a run says of itself before its first step."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
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
    """Lines on the data, the model, the stages, the machine, and what the log's names mean."""
    channels, height, width = image_shape(model)
    apart = "" if data.held_out is None else f", {_count(data.held_out)} more held out"
    labels = _labels(model, data.training)
    yield f"data: {_count(data.training)} images of {height}x{width}x{channels}{apart}; {labels}"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    yield f"model: {run.model}, {parameters:,} parameters; precision: {PRECISION[run.train.mixed_precision]}"
    stages = ", ".join(f"{leg.stage} {leg.steps:,}" for leg in run.legs)
    yield f"steps of each stage: {stages}; {run.train.batch_size} images a batch; device: {_device(accelerator)}"
    yield f"curves and pictures: tensorboard --logdir {shlex.quote(str(out / 'tensorboard'))}"
    yield from legend(model, run.stages)


def legend(model: nn.Module, stages: list[str]) -> Iterator[str]:
    """What the names in the log mean, by the model's own `terms`."""
    terms: dict[str, str] = getattr(model, "terms", {})
    yield f"loss: {terms.get('loss', 'what the stage minimises')}"
    for name, meaning in terms.items():
        if name != "loss":
            yield f"{name}: {meaning}"
    if any(len(trainable(model).players(stage)) > 1 for stage in stages):
        yield "names begin with their player's; plays: the share of its turns that the player took"


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
