"""`lapcore reconstruct`: encode images and decode them again."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

from lapcore.cli import arguments as types
from lapcore.cli.console import progress
from lapcore.cli.images import add_reading, add_sheet, batches, open_data, to_pictures
from lapcore.cli.output import check_new_folder, new_folder, write_text
from lapcore.data.files import RECONSTRUCTION, SHEET


def run(arguments: list[str]) -> None:
    parser = types.command_parser("reconstruct", "Encode images and decode them again.")
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a training run or of a saved model")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a picture, or anything that train --data takes")
    parser.add_argument("--out", type=Path, required=True, help="folder for the reconstructions")
    parser.add_argument("--batch", type=types.positive, default=64, help="images at a time (64)")
    parser.add_argument("--seed", type=types.seed, help="draw codes, image i from seed + i (default: the mean codes)")
    add_sheet(parser, "sheet.png shows the first N images, each beside its reconstruction")
    add_reading(parser)
    types.add_overwrite(parser)
    types.add_device(parser)
    options = parser.parse_args(arguments)

    import torch

    from lapcore.data import grid, to_model_range, write_png
    from lapcore.metrics import rmse

    check_new_folder(options.out, options.overwrite)
    model = types.open_model(options.model, options.device, "reconstruct")
    dataset = open_data(options.images, model, options, model.image_size)
    images = torch.stack([dataset[index][0] for index in range(len(dataset))])
    names = _names([dataset.name(index) for index in range(len(dataset))])
    seeds = None if options.seed is None else torch.arange(len(images), device=model.device) + options.seed
    errors: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    with (
        new_folder(options.out, options.overwrite) as folder,
        progress("reconstruct", len(images), "images") as advance,
    ):
        for batch, labels in batches(images, dataset, model, options.batch):
            start = sum(map(len, errors))
            part = None if seeds is None else seeds[start : start + len(batch)]
            with torch.no_grad():
                decoded = model.reconstruct(to_model_range(batch).to(model.device), seeds=part, labels=labels)
            result = to_pictures(decoded)
            for name, image in zip(names[start:], result, strict=False):
                write_png(folder / f"{name}.png", image)
            shown += [torch.stack(pair) for pair in zip(batch, result, strict=True)][: options.sheet - len(shown)]
            errors.append(rmse(result, batch))
            advance(len(batch))
        error = torch.cat(errors).mean().item()
        write_text(folder / RECONSTRUCTION, json.dumps(_made(options) | {"rmse": error}, indent=2) + "\n")
        if shown:
            write_png(folder / SHEET, grid(torch.cat(shown), 2 * math.ceil(math.sqrt(len(shown)))))
    print(f"{options.out}: {len(images)} reconstructions, sqrt(MSE) {error:.2f} grey levels")


def _made(options: Namespace) -> dict[str, Any]:
    """Returns the settings that the pictures depend on."""
    made = {name: str(getattr(options, name)) for name in ("model", "images", "resize")}
    return made | {"convert": options.convert, "seed": options.seed, "batch": options.batch}


def _names(sources: list[str]) -> list[str]:
    """The names of the files the images came from, or numbers where those are not unique, or the contact sheet's."""
    stems = [Path(source).stem for source in sources]
    return (
        stems if len({*stems, Path(SHEET).stem}) == len(stems) + 1 else [f"{index:08d}" for index in range(len(stems))]
    )
