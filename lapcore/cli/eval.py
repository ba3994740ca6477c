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
from lapcore.errors import LapcoreError

if TYPE_CHECKING:
    from torch import Tensor

    from lapcore.data import ImageDataset

METRICS = {"rmse": "reconstruct", "parzen": "sample", "bpd": "log_likelihood"}
"""What each asks of a model."""

Results = dict[str, dict[str, float]]


def run(arguments: list[str]) -> None:
    parser = types.command_parser("eval", "Measure a trained model on held-out images.")
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a training run or of a saved model")
    parser.add_argument("--data", type=Path, required=True, help="held-out images: anything that train --data takes")
    meaning = (
        "comma-separated: rmse of reconstructions, grey levels; parzen, log-likelihood of images in [0, 1], nats; bpd, exact "
        "log-likelihood in bits per dimension. Default: rmse, or bpd for a model that does not reconstruct"
    )
    parser.add_argument("--metrics", type=metrics, help=meaning)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    parser.add_argument("--batch", type=types.positive, default=64, help="images at a time (64)")
    parser.add_argument("--limit", type=types.positive, help="the first so many images of a set only")
    parser.add_argument(
        "--seed", type=types.seed, default=0, help="image i, or sample i, draws its code from seed + i (0)"
    )
    parser.add_argument("--samples", type=types.positive, default=10_000, help="parzen: drawn from the model (10000)")
    meaning = (
        "parzen: images to choose sigma on; without them every tenth of --data, which is then left out of the test"
    )
    parser.add_argument("--validation", type=Path, metavar="PATH", help=meaning)
    meaning = "bpd: training images, to print beside it the bits per dimension of independent pixels, a histogram for each place"
    parser.add_argument("--baseline", type=Path, metavar="PATH", help=meaning)
    add_reading(parser)
    meaning = "celeba: the LapCVAE paper's crop, blur and bicubic resize of aligned 178x218 pictures"
    parser.add_argument("--preprocess", choices=("none", "celeba"), default="none", help=meaning)
    types.add_overwrite(parser)
    types.add_device(parser)
    options = parser.parse_args(arguments)
    if options.preprocess == "celeba" and options.resize != "none":
        parser.error("--resize: celeba's preparation has a resize of its own; leave one of the two out")
    asked = options.metrics or ()
    if options.validation is not None and "parzen" not in asked:
        parser.error("--validation: only parzen chooses something on validation images; add it to --metrics")

    if options.json is not None:
        check_new_file(options.json, "--json", options.overwrite)
    model = types.open_model(options.model, options.device, *[METRICS[name] for name in asked])
    asked = asked or ["rmse" if hasattr(model, "reconstruct") else "bpd"]
    if options.baseline is not None and "bpd" not in asked:
        raise LapcoreError("--baseline: only bpd has a baseline; add it to --metrics")
    dataset, images = _read(options.data, options, model)
    parts = _parts(images, options, model) if "parzen" in asked else None
    baseline = _baseline(images, options, model) if "bpd" in asked else {}
    results: Results = {}
    if "rmse" in asked:
        results |= _rmse(model, dataset, images, options)
    if "bpd" in asked:
        results |= _bpd(model, dataset, images, options) | baseline
    if parts is not None:
        results |= _parzen(model, *parts, options)
    if options.json is not None:
        write_text(options.json, json.dumps(_made(options) | {"metrics": results}, indent=2) + "\n")
    print(f"{len(images)} images of {options.data}\n{table([_row(*item) for item in results.items()])}")


def _rmse(model: Any, dataset: ImageDataset, images: Tensor, options: Namespace) -> Results:
    from lapcore.metrics import evaluate_rmse

    with progress("eval", len(images), "images") as advance:
        parts = batches(images, dataset, model, options.batch)
        return evaluate_rmse(model, _to_device(parts, model, advance), options.seed)


def _bpd(model: Any, dataset: ImageDataset, images: Tensor, options: Namespace) -> Results:
    from lapcore.metrics import evaluate_bpd

    with progress("eval", len(images), "images") as advance:
        parts = batches(images, dataset, model, options.batch)
        return evaluate_bpd(model, _to_device(parts, model, advance))


def _baseline(images: Tensor, options: Namespace, model: Any) -> Results:
    from lapcore.metrics import independent_bpd

    if options.baseline is None:
        return {}
    return independent_bpd(_read(options.baseline, options, model)[1], images, model.levels)


def _parzen(model: Any, test: Tensor, validation: Tensor, options: Namespace) -> Results:
    from lapcore.metrics import evaluate_parzen

    settings = {"samples": options.samples, "seed": options.seed, "batch": options.batch}
    with progress("sample", options.samples, "images") as advance:
        return evaluate_parzen(model, test, validation, **settings, on_images=advance)


def _parts(images: Tensor, options: Namespace, model: Any) -> tuple[Tensor, Tensor]:
    """Test and validation images: the latter of --validation, or every tenth of the former."""
    import torch

    from lapcore.errors import DataError

    if options.validation is not None:
        return images, _read(options.validation, options, model)[1]
    if len(images) < 2:
        raise DataError(f"{options.data}: expected at least 2 images, one to choose sigma on, or --validation; got 1")
    return images[torch.arange(len(images)) % 10 > 0], images[::10]


def _made(options: Namespace) -> dict[str, Any]:
    """What the results depend on."""
    names = ["model", "data", "preprocess", "resize"]
    names += [name for name in ("validation", "baseline") if getattr(options, name) is not None]
    return {name: str(getattr(options, name)) for name in names} | {"seed": options.seed, "batch": options.batch}


def _row(name: str, result: dict[str, float]) -> tuple[str, str, str]:
    value = f"{result['mean']:.3f} +- {result['std']:.3f}"
    if name != "parzen":
        return name, value, "bits per dimension" if name.startswith("bpd") else "grey levels"
    return name, value, f"nats, {result['images']} images, {result['samples']} samples, sigma {result['sigma']:.3f}"


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


def _read(path: Path, options: Namespace, model: Any) -> tuple[ImageDataset, Tensor]:
    """A set, and its images, all read and prepared before the model sees the first: uint8 (N, C, H, W)."""
    size = None if options.preprocess == "celeba" else model.image_size
    dataset = open_data(path, model, options, size)
    return dataset, _images(dataset, options, model)


def _images(dataset: ImageDataset, options: Namespace, model: Any) -> Tensor:
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
