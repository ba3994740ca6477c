"""`lapcore eval`: measure a trained model on held-out images."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapcore.cli import arguments as types
from lapcore.cli.console import Advance, progress, table
from lapcore.cli.images import add_reading, batches, open_data
from lapcore.cli.output import check_new_file, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from lapcore.data import ImageDataset

METRICS = ("rmse",)


def run(arguments: list[str]) -> None:
    parser = types.command_parser("eval", "Measure a trained model on held-out images.")
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a training run or of a saved model")
    parser.add_argument("--data", type=Path, required=True, help="held-out images: anything that train --data takes")
    parser.add_argument("--metrics", type=metrics, default=list(METRICS), help=f"comma-separated: {', '.join(METRICS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    parser.add_argument("--batch", type=types.positive, default=64, help="images at a time (64)")
    parser.add_argument("--limit", type=types.positive, help="the first so many images only")
    parser.add_argument("--seed", type=types.seed, default=0, help="image i draws its code from seed + i (0)")
    add_reading(parser)
    meaning = "celeba: the LapCVAE paper's crop, blur and bicubic resize of aligned 178x218 pictures"
    parser.add_argument("--preprocess", choices=("none", "celeba"), default="none", help=meaning)
    types.add_overwrite(parser)
    types.add_device(parser)
    options = parser.parse_args(arguments)
    if options.preprocess == "celeba" and options.resize != "none":
        parser.error("--resize: celeba's preparation has a resize of its own; leave one of the two out")

    from lapcore.metrics import evaluate_rmse

    if options.json is not None:
        check_new_file(options.json, "--json", options.overwrite)
    model = types.open_model(options.model, options.device, "reconstruct")
    size = None if options.preprocess == "celeba" else model.image_size
    dataset = open_data(options.data, model, options, size)
    images = _images(dataset, options, model)
    with progress("eval", len(images), "images") as advance:
        parts = batches(images, dataset, model, options.batch)
        results = evaluate_rmse(model, _to_device(parts, model, advance), options.seed)
    if options.json is not None:
        made = {name: str(getattr(options, name)) for name in ("model", "data", "preprocess", "resize")} | {
            "seed": options.seed
        }
        write_text(options.json, json.dumps(made | {"metrics": results}, indent=2) + "\n")
    rows = [(name, f"{result['mean']:.3f} +- {result['std']:.3f}", "grey levels") for name, result in results.items()]
    print(f"{len(images)} images of {options.data}\n{table(rows)}")


def metrics(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ArgumentTypeError(f"expected some of {', '.join(METRICS)}, got {unknown[0]!r}")
    return names


def _to_device(
    parts: list[tuple[Tensor, Tensor | None]], model: Any, advance: Advance
) -> Iterator[tuple[Tensor, Tensor | None]]:
    from lapcore.data import to_model_range

    for images, labels in parts:
        yield to_model_range(images).to(model.device), labels
        advance(len(images))


def _images(dataset: ImageDataset, options: Namespace, model: Any) -> Tensor:
    """All images, read and prepared before the model sees the first: uint8 (N, C, H, W)."""
    import torch

    from lapcore.errors import DataError
    from lapcore.metrics import celeba_crop

    celeba = options.preprocess == "celeba"
    images = []
    for index in range(min(len(dataset), options.limit or len(dataset))):
        image = dataset[index][0]
        if celeba and tuple(image.shape[1:]) != (218, 178):
            rows, columns = image.shape[1:]
            raise DataError(f"{dataset.name(index)}: expected CelebA's 218x178, got {rows}x{columns} (rows x columns)")
        images.append(celeba_crop(image, model.image_size) if celeba else image)
    return torch.stack(images)
