"""`lapcore sample`: draw images from a trained model, one per seed."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapcore.cli import arguments as types
from lapcore.cli.console import progress
from lapcore.cli.images import add_convert, add_sheet, open_data
from lapcore.cli.labels import attribute_vector, names_of
from lapcore.errors import DataError, LapcoreError

if TYPE_CHECKING:
    from torch import Tensor


def run(arguments: list[str]) -> None:
    parser = types.command_parser(
        "sample", "Draw images from a trained model, one file (or row) per seed. Run again to go on."
    )
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a training run or of a saved model")
    parser.add_argument("--seeds", type=types.ranges, required=True, help="0-49999 or 1,5,7-9")
    parser.add_argument("--out", type=Path, required=True, help="folder for the samples")
    parser.add_argument(
        "--batch", type=types.positive, default=64, help="images at a time; part of what a sample is (64)"
    )
    parser.add_argument("--format", choices=("png", "npy", "tar", "parquet"), default="png")
    parser.add_argument("--labels", type=types.labels, help="3,5-7: seed s takes the (s mod n)-th of these n classes")
    meaning = "glasses=1,hair_color=blonde: what all samples have, of a model of attributes; 0 for those not named"
    parser.add_argument("--attributes", metavar="NAME=VALUE,...", help=meaning)
    meaning = "images with classes or attributes: seed s takes those of the (s mod n)-th of n images"
    parser.add_argument("--like", type=Path, metavar="DATA", help=meaning)
    meaning = "scales the noise of a model that takes it: one number, or one a level from the finest on; 0 draws none"
    parser.add_argument("--temperature", type=types.temperatures, metavar="T[,T...]", help=meaning)
    meaning = "a picture whose coarse part all samples keep: of the model's size, or of that of level --from-level"
    parser.add_argument("--coarse", type=Path, metavar="IMAGE", help=meaning)
    meaning = "with --coarse: the level that is kept, 1 for half the size; finer detail is drawn"
    parser.add_argument("--from-level", type=types.positive, metavar="K", help=meaning)
    add_convert(parser)
    add_sheet(parser, "sheet.png shows the first N of all samples in the folder")
    parser.add_argument("--overwrite", action="store_true", help="remove samples that were made with other settings")
    types.add_device(parser)
    options = parser.parse_args(arguments)
    if (options.coarse is None) != (options.from_level is None):
        parser.error("--coarse, --from-level: expected both or neither, got one")
    if sum(given is not None for given in (options.labels, options.attributes, options.like)) > 1:
        parser.error("--labels, --attributes, --like: expected one of them at most")

    from lapcore.sampling import sample_to_folder, write_sheet

    model = types.open_model(options.model, options.device, "sample")
    labels = _labels(options, model)
    given = _options(options, model)
    total = sum(len(part) for part in options.seeds)
    with progress("sample", total, "images") as advance:
        computed = sample_to_folder(
            model,
            options.seeds,
            options.out,
            labels=labels,
            batch=options.batch,
            format=options.format,
            options=given,
            overwrite=options.overwrite,
            on_images=advance,
        )
    if options.sheet:
        write_sheet(options.out, options.sheet, model.channels)
    print(f"{options.out}: {total} samples, {computed} of them new")


def _labels(options: Namespace, model: Any) -> list[int] | list[list[float]] | Tensor | None:
    """Returns the labels that seeds choose from; refuses what the model does not take, and the lack of what it needs."""
    if options.like is not None:
        return _labels_of(options, model)
    if options.attributes is not None:
        return [attribute_vector(options.attributes, model)]
    if model.attributes:
        raise LapcoreError(
            f"--attributes: say which of {names_of(model)} the samples have (--attributes none for none), or use --like"
        )
    if options.labels is None and model.num_classes is not None:
        raise LapcoreError(f"--labels: choose some of the model's classes, such as --labels 0-{model.num_classes - 1}")
    labels: list[int] | None = options.labels
    return labels


def _labels_of(options: Namespace, model: Any) -> Tensor:
    """Returns the labels of the images of --like; the images themselves are not read."""
    if not model.attributes and model.num_classes is None:
        raise LapcoreError("--like: this model was trained without classes and attributes; leave it out")
    reading = Namespace(model=options.model, resize="none", convert=False, label=None, attributes=None)
    return open_data(options.like, model, reading, size=None).labels


def _options(options: Namespace, model: Any) -> dict[str, Any]:
    """Returns the arguments that the model's `sample` gets beside seeds and labels."""
    import inspect

    given = {name: getattr(options, name) for name in ("temperature", "coarse", "from_level")}
    given = {name: value for name, value in given.items() if value is not None}
    takes = inspect.signature(model.sample).parameters
    for name in given:
        if name not in takes:
            raise LapcoreError(f"--{name.replace('_', '-')}: {types.with_article(model.name)} does not sample with it")
    return given | ({"coarse": _coarse(options, model)} if "coarse" in given else {})


def _coarse(options: Namespace, model: Any) -> Tensor:
    """The level of the picture that samples keep, (1, C, h, w) in [-1, 1]."""
    import torch

    from lapcore.data import read_image, to_model_range

    level = options.from_level
    if level > model.top:
        raise LapcoreError(f"--from-level {level}: expected 1 to {model.top}, the levels of this model")
    picture = to_model_range(read_image(options.coarse, model.channels, convert=options.convert))[None]
    whole = torch.zeros(1, model.channels, model.image_size, model.image_size)
    size = model.decompose(whole.to(model.device)).images[level].shape
    if picture.shape == size:
        return picture
    if picture.shape != whole.shape:
        rows, columns = picture.shape[2:]
        expected = f"{size[2]}x{size[3]} or {model.image_size}x{model.image_size}"
        raise DataError(f"{options.coarse}: expected {expected}, got {rows}x{columns} (rows x columns)")
    level_of: Tensor = model.decompose(picture.to(model.device)).images[level].detach()
    return level_of
