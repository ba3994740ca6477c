"""Classes and attributes from the command line to a model: what its labels mean, and whether those of a set do too."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapcore.cli import arguments as types
from lapcore.errors import DataError, LapcoreError

if TYPE_CHECKING:
    from torch import Tensor

    from lapcore.data import ImageDataset


def add_label(parser: ArgumentParser, whose: str = "all images", table: str = "a table") -> None:
    """Adds the options that label images which come without labels."""
    meaning = f"the class of {whose}, for a model with classes, where no folder says it"
    parser.add_argument("--label", type=int, metavar="CLASS", help=meaning)
    meaning = (
        f"glasses=1,hair_color=blonde: what {whose} shows, for a model with attributes, where {table} does not say it"
    )
    parser.add_argument("--attributes", metavar="NAME=VALUE,...", help=f"{meaning}; 0 for those not named")


def labels_of(dataset: ImageDataset, model: Any, options: Namespace, path: Path) -> Tensor:
    """The labels of `dataset`, which was read from `path`, as `model` takes them: int64 (N,) or float32 (N, A).

    That is --label or --attributes for all, if one was given, or else what the set says.
    """
    import torch

    if options.attributes is not None:
        return torch.tensor([attribute_vector(options.attributes, model)]).expand(len(dataset), -1)
    if options.label is not None:
        if model.num_classes is None or not 0 <= options.label < model.num_classes:
            has = f"{model.num_classes} classes, from 0" if model.num_classes else "no classes"
            raise LapcoreError(f"--label {options.label}: the model has {has}")
        return torch.full((len(dataset),), options.label)
    return dataset.labels if model.num_classes is None else _numbered(dataset, model, options.model, path)


def _numbered(dataset: ImageDataset, model: Any, run: Path, path: Path) -> Tensor:
    """The classes of `dataset` by the model's numbers: by name if the run knows its names, else names that are numbers."""
    import torch

    count, names = model.num_classes, class_names(run)
    if names is None and all(name.isdecimal() for name in dataset.classes):
        numbers = [int(name) for name in dataset.classes]
        if max(numbers) >= count:
            raise DataError(f"{path}: expected classes below the model's {count}, got {max(numbers)}")
    elif names is None:
        if len(dataset.classes) != count:
            raise DataError(f"{path}: expected the model's {count} classes, got {len(dataset.classes)}")
        numbers = list(range(count))
    else:
        unknown = next((name for name in dataset.classes if name not in names), None)
        if unknown is not None:
            known = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
            raise DataError(f"{path}: expected classes of the model, {known}; got {unknown}")
        numbers = [names.index(name) for name in dataset.classes]
    return torch.tensor(numbers)[dataset.labels]


def class_names(run: Path) -> Sequence[str] | None:
    """Returns the class names of the data that a run was trained on; None if they were numbers or `run` is a model alone."""
    from lapcore.training import RunConfig

    if not (run / "config.yaml").exists():
        return None
    names = RunConfig.load(run / "config.yaml").data.get("classes")
    return names if isinstance(names, list) else None


def attribute_vector(text: str, model: Any) -> list[float]:
    """`glasses=1,hair_color=blonde` or `none` in the order of the model's attributes."""
    if not model.attributes:
        raise LapcoreError("--attributes: this model was trained without attributes; leave them out")
    values = dict.fromkeys(model.attributes, 0.0)
    for item in [] if text == "none" else text.split(","):
        item = item.strip()
        name, _, value = item.rpartition("=")
        if item in values:
            values[item] = 1.0
        elif name in values and types.is_number(value):
            values[name] = float(value)
        else:
            raise LapcoreError(f"--attributes: expected NAME=VALUE of {names_of(model)}; got {item!r}")
    return list(values.values())


def names_of(model: Any) -> str:
    return ", ".join(model.attributes)
