"""`lapcore reconstruct`: encode images and decode them again."""

from __future__ import annotations

from pathlib import Path

from lapcore.cli import arguments as types
from lapcore.cli.console import progress
from lapcore.cli.images import add_reading, batches, open_data, to_pictures
from lapcore.cli.output import check_new_folder, new_folder


def run(arguments: list[str]) -> None:
    parser = types.command_parser("reconstruct", "Encode images and decode them again.")
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a training run or of a saved model")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a picture, or anything that train --data takes")
    parser.add_argument("--out", type=Path, required=True, help="folder for the reconstructions")
    parser.add_argument("--batch", type=types.positive, default=64, help="images at a time (64)")
    parser.add_argument("--seed", type=types.seed, help="draw codes, image i from seed + i (default: the mean codes)")
    add_reading(parser)
    types.add_overwrite(parser)
    types.add_device(parser)
    options = parser.parse_args(arguments)

    import torch

    from lapcore.data import to_model_range, write_png
    from lapcore.metrics import rmse

    check_new_folder(options.out, options.overwrite)
    model = types.open_model(options.model, options.device, "reconstruct")
    dataset = open_data(options.images, model, options, model.image_size)
    images = torch.stack([dataset[index][0] for index in range(len(dataset))])
    names = _names([dataset.name(index) for index in range(len(dataset))])
    seeds = None if options.seed is None else torch.arange(len(images), device=model.device) + options.seed
    errors: list[torch.Tensor] = []
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
            errors.append(rmse(result, batch))
            advance(len(batch))
    print(f"{options.out}: {len(images)} reconstructions, sqrt(MSE) {torch.cat(errors).mean():.2f} grey levels")


def _names(sources: list[str]) -> list[str]:
    """The names of the files the images came from, or numbers where those are not unique."""
    stems = [Path(source).stem for source in sources]
    return stems if len(set(stems)) == len(stems) else [f"{index:08d}" for index in range(len(stems))]
