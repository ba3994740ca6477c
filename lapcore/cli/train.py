"""`lapcore train`: train a model on a set of images.

A settings file holds names of the command line, `{data: photos, size: 64, steps: 9000, model: {levels: 3}}`, or is the
config.yaml of an earlier run. It goes first, so what is typed wins.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapcore.cli import arguments as types
from lapcore.errors import CheckpointError, LapcoreError, require

if TYPE_CHECKING:
    from lapcore.training import RunConfig

# What `train` calls the parts of a data set's spec.
DATA = {
    "path": "data",
    "size": "size",
    "channels": "channels",
    "resize": "resize",
    "convert": "convert",
    "crops_per_image": "crops_per_image",
    "seed": "data_seed",
}


def run(arguments: list[str]) -> None:
    from lapcore.models import MODELS

    chooser = types.command_parser("train", "Train a model. `lapcore train MODEL --help` lists all of its settings.")
    chooser.add_argument("model", choices=MODELS, metavar="MODEL", help=f"one of {', '.join(MODELS)}")
    chooser.add_argument(
        "settings", nargs=argparse.REMAINDER, metavar="...", help="--data PATH --size 64 --out RUN ..."
    )
    chosen = chooser.parse_args(arguments)
    parser = _parser(chosen.model, MODELS[chosen.model])
    options = parser.parse_args(_files_first(chosen.model, chosen.settings))
    _train(MODELS[chosen.model], options)


def _train(model_class: Any, options: Any) -> None:
    from lapcore.data import open_images
    from lapcore.training import TrainConfig, train

    config = TrainConfig(**{field.name: options[field.name] for field in fields(TrainConfig)})
    dataset = open_images(
        options.data,
        size=options.size,
        channels=options.channels,
        resize=options.resize,
        convert=options.convert,
        crops_per_image=options.crops_per_image,
        seed=options.data_seed,
        verify=options.verify,
    )
    # The starting weights are torch's, drawn from its generator.
    import torch

    torch.manual_seed(config.seed)
    model = model_class(image_size=options.size, channels=options.channels, **options.model.as_dict())
    folder = train(model, dataset, config, options.out, resume=options.resume)
    if os.environ.get("RANK", "0") == "0":
        print(f"{folder}: trained; next: lapcore sample {options.out} --seeds 0-15 --out samples")


def _parser(name: str, model_class: Any) -> Any:
    from lapcore.training import TrainConfig

    jsonargparse = require("jsonargparse", "train")
    description = f"Train a {model_class.__name__}. Under torchrun or accelerate launch, processes share each batch."
    parser = jsonargparse.ArgumentParser(prog=f"lapcore train {name}", description=description)
    parser.add_argument(
        "--config", action="config", help="YAML file of these settings, or an earlier run's config.yaml"
    )
    parser.add_argument(
        "--data", type=str, required=True, help="folder of images, zip, tar, npy, npz, IDX, CIFAR-10, parquet"
    )
    parser.add_argument("--size", type=int, required=True, help="pixels on a side that the model sees")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its settings")
    parser.add_argument("--channels", type=int, default=3, help="1 for grey, 3 for colour")
    ways = ("none", "crop", "fit", "random_crop")
    parser.add_argument("--resize", choices=ways, default="none", help="what to do with images of another size")
    parser.add_argument("--convert", action="store_true", help="take grey as colour and so on")
    parser.add_argument("--crops_per_image", type=int, default=1, help="with random_crop: crops of each image")
    parser.add_argument("--data_seed", type=int, default=0, help="of the random crops")
    parser.add_argument("--verify", action="store_true", help="read every image once before training")
    parser.add_class_arguments(TrainConfig)
    parser.add_class_arguments(model_class, "model", skip={"image_size", "channels"})
    return parser


def _files_first(model: str, settings: list[str]) -> list[str]:
    """The settings with the files' own, and on --resume the run's, before what was typed."""
    early = argparse.ArgumentParser(prog=f"lapcore train {model}", add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path, action="append", default=[])
    early.add_argument("--out", type=Path)
    early.add_argument("--resume", action="store_true")
    known, typed = early.parse_known_args(settings)
    files = list(known.config)
    if known.resume and known.out is not None:
        files.insert(0, known.out / "config.yaml")
    contents = [f"--config={json.dumps(_settings(path, model))}" for path in files]
    out = [] if known.out is None else [f"--out={known.out}"]
    return [*contents, *typed, *out, *["--resume"] * known.resume]


def _settings(path: Path, model: str) -> dict[str, Any]:
    yaml = require("yaml", "train")
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LapcoreError(f"{path}: not a readable settings file: {error}") from error
    if not isinstance(content, dict):
        raise LapcoreError(f"{path}: expected names and values, such as steps: 1000")
    return _settings_of_run(path, model) if {"options", "train"} <= content.keys() else content


def _settings_of_run(path: Path, model: str) -> dict[str, Any]:
    """The config.yaml of a run in the command line's words."""
    from lapcore.training import RunConfig

    run: RunConfig = RunConfig.load(path)
    if run.model != model:
        raise CheckpointError(f"{path}: settings of a {run.model}; expected those of a {model}")
    options = {name: value for name, value in run.options.items() if name not in ("image_size", "channels")}
    data = {DATA[name]: value for name, value in run.data.items() if name in DATA}
    return {"model": options, **data, **asdict(run.train)}
