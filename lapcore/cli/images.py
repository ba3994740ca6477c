"""Images from the command line to a model and back, checked before anything is computed."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapcore.cli.labels import add_label, labels_of

if TYPE_CHECKING:
    from torch import Tensor

    from lapcore.data import ImageDataset


def add_reading(parser: ArgumentParser) -> None:
    """Adds the options that make pictures fit the model, and that give labels to those without."""
    meaning = "none (default): must have the model's size; crop: the central square, scaled; fit: the whole, on black"
    parser.add_argument("--resize", choices=("none", "crop", "fit"), default="none", help=meaning)
    add_convert(parser)
    add_label(parser)


def add_convert(parser: ArgumentParser) -> None:
    parser.add_argument("--convert", action="store_true", help="take grey as colour, colour as grey, alpha over black")


def add_sheet(parser: ArgumentParser, meaning: str) -> None:
    parser.add_argument("--sheet", type=_count, default=64, metavar="N", help=f"{meaning}; 0 for none (64)")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)


def open_data(path: Path, model: Any, options: Namespace, size: int | None) -> ImageDataset:
    """A picture or a set of them for `model`, labelled as that was trained; see `labels_of`."""
    from lapcore.data import open_images
    from lapcore.errors import DataError

    given = options.attributes is not None
    dataset = open_images(
        path,
        size=size,
        resize=options.resize,
        channels=model.channels,
        convert=options.convert,
        attributes=None if given else model.attributes or None,
    )
    if not given and dataset.attributes != model.attributes:
        expected, got = (", ".join(names) for names in (model.attributes, dataset.attributes))
        raise DataError(f"{path}: expected the model's attributes {expected}, got {got}")
    dataset.labels = labels_of(dataset, model, options, path)
    return dataset


def batches(images: Tensor, dataset: ImageDataset, model: Any, size: int) -> list[tuple[Tensor, Tensor | None]]:
    """uint8 images (N, C, H, W), the first of `dataset`, in parts of `size` with their labels, on the model's device."""
    starts = range(0, len(images), size)
    labels = dataset.labels[: len(images)].to(model.device) if model.num_classes or model.attributes else None
    return [
        (images[start : start + size], None if labels is None else labels[start : start + size]) for start in starts
    ]


def to_pictures(images: Tensor) -> Tensor:
    """A model's output as uint8 on the CPU."""
    import torch

    from lapcore.data import to_uint8
    from lapcore.errors import LapcoreError

    if not torch.isfinite(images).all():
        raise LapcoreError("the model gave NaN or infinity: its weights are damaged or its training diverged")
    return to_uint8(images).cpu()
