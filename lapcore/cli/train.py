"""`lapcore train`: train a model on a set of images.

A settings file holds names of the command line, `{data: photos, size: 64, steps: 9000, model: {levels: 3}}`, or is the
config.yaml of an earlier run. It goes first, so what is typed wins.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

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
    settings, extend = _arranged(chosen.model, chosen.settings)
    options = parser.parse_args(settings)
    try:
        _train(MODELS[chosen.model], options, extend)
    except KeyboardInterrupt as interruption:
        raise _explained(interruption, chosen.model, options.out) from None


def _train(model_class: Any, options: Any, extend: bool) -> None:
    import torch

    from lapcore.training import TrainConfig, train

    config = TrainConfig(**{field.name: options[field.name] for field in fields(TrainConfig)})
    model_options = _numbers(model_class, options.model.as_dict())
    dataset = _open(options, options.data, _attributes(options, model_class, model_options))
    if dataset.attributes:
        model_options["attributes"] = list(dataset.attributes)
    # The starting weights are torch's, drawn from its generator.
    torch.manual_seed(config.seed)
    model = model_class(image_size=options.size, channels=options.channels, **model_options)
    stages = None if options.stage is None else options.stage.split(",")
    folder = train(
        model,
        dataset,
        config,
        options.out,
        resume=options.resume,
        stages=stages,
        extend=extend,
        start=options.start,
        validation=_validation(options, list(dataset.attributes) or None),
    )
    if os.environ.get("RANK", "0") == "0":
        print(f"{folder}: trained; next: lapcore sample {_next_sample(model, options)}")


def _attributes(options: Any, model_class: Any, model_options: Mapping[str, Any]) -> Any:
    """The columns asked for, of the data's table."""
    if options.attributes is None:
        return model_options.get("attributes")
    if "attributes" not in model_options:
        raise LapcoreError(f"--attributes: {types.with_article(model_class.name)} takes none")
    return [name.strip() for name in options.attributes.split(",")]


def _open(options: Any, path: str, attributes: Any) -> Any:
    from lapcore.data import open_images

    return open_images(
        path,
        size=options.size,
        channels=options.channels,
        resize=options.resize,
        convert=options.convert,
        crops_per_image=options.crops_per_image,
        seed=options.data_seed,
        attributes=attributes,
        verify=options.verify,
    )


def _validation(options: Any, attributes: Sequence[str] | None) -> Any:
    """A share of the images, or a data set of its own; None without."""
    if options.validation is None:
        return None
    try:
        return float(options.validation)
    except ValueError:
        return _open(options, options.validation, attributes)


def _next_sample(model: Any, options: Any) -> str:
    labels = ""
    if model.num_classes is not None:
        labels = f" --labels 0-{model.num_classes - 1}"
    elif model.attributes:
        labels = f" --like {shlex.quote(options.data)}"
    return f"{shlex.quote(str(options.out))} --seeds 0-15{labels} --out samples"


def _explained(interruption: KeyboardInterrupt, model: str, out: Path) -> BaseException:
    """Tells the shell of an interruption; where training did not see to it, also how to go on, if anything is kept."""
    from lapcore.training import Stopped, resume_command

    if isinstance(interruption, Stopped):
        return interruption if os.environ.get("RANK", "0") == "0" else SystemExit(interruption.exit_code)
    if (out / "config.yaml").exists():
        command = resume_command(model, out)
        return KeyboardInterrupt(f"interrupted; the checkpoints in {out} are kept; go on with: {command}")
    return interruption


def _numbers(model_class: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that take a word or a number, and were typed as a number, as that number."""
    hints = get_type_hints(model_class.__init__)
    found = dict(options)
    for name, value in options.items():
        kinds = get_args(hints.get(name))
        if isinstance(value, str) and str in kinds and (float in kinds or int in kinds):
            with suppress(ValueError):
                found[name] = float(value) if float in kinds else int(value)
    return found


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
    meaning = "go on with the run in --out, with its settings; with --steps, train a finished one for so many more"
    parser.add_argument("--resume", action="store_true", help=meaning)
    meaning = "train these stages of the model alone, a,b; without --data: a finished run's next ones"
    parser.add_argument("--stage", type=str, default=None, metavar="NAME[,NAME]", help=meaning)
    meaning = "images to measure the loss on, a path as --data, or a share of the images that is held out: 0.1"
    parser.add_argument("--validation", type=str, default=None, metavar="DATA|SHARE", help=meaning)
    meaning = "a run or model of the same kind, whose weights are taken where name and shape fit"
    parser.add_argument("--start", type=Path, default=None, metavar="FOLDER", help=meaning)
    parser.add_argument("--channels", type=int, default=3, help="1 for grey, 3 for colour")
    ways = ("none", "crop", "fit", "random_crop")
    parser.add_argument("--resize", choices=ways, default="none", help="what to do with images of another size")
    parser.add_argument("--convert", action="store_true", help="take grey as colour and so on")
    parser.add_argument("--crops_per_image", type=int, default=1, help="with random_crop: crops of each image")
    parser.add_argument("--data_seed", type=int, default=0, help="of the random crops")
    meaning = "glasses,hair_color: columns of the attributes.csv beside the images, for a model that takes attributes"
    parser.add_argument("--attributes", type=str, default=None, metavar="NAME,...", help=meaning)
    parser.add_argument("--verify", action="store_true", help="read every image once before training")
    parser.add_class_arguments(TrainConfig)
    parser.add_class_arguments(model_class, "model", skip={"image_size", "channels"})
    return parser


def _arranged(model: str, settings: list[str]) -> tuple[list[str], bool]:
    """The settings with the files' own, and those of a run that goes on, before what was typed; and whether to extend it."""
    early = argparse.ArgumentParser(prog=f"lapcore train {model}", add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path, action="append", default=[])
    early.add_argument("--out", type=Path)
    early.add_argument("--resume", action="store_true")
    for name in ("--data", "--steps", "--stage"):
        early.add_argument(name)
    known, typed = early.parse_known_args(settings)
    file = None if known.out is None else known.out / "config.yaml"
    # A command that names no data can only be about a run that is there.
    goes_on = known.resume or (known.stage is not None and known.data is None and file is not None and file.exists())
    extend = goes_on and (known.steps is not None or known.stage is not None)
    files = [*([file] if goes_on and file else []), *known.config]
    own = {"data": known.data, "stage": known.stage, "steps": known.steps, "out": known.out}
    if extend and file:
        own |= _further(model, file, known.stage, known.steps)
    again = [f"--{name}={value}" for name, value in own.items() if value is not None]
    contents = [_settings(path, model) for path in files]
    if goes_on and contents:
        contents[0].pop("start", None)  # it began there already
    return [
        *(f"--config={json.dumps(content)}" for content in contents),
        *typed,
        *again,
        *["--resume"] * goes_on,
    ], extend


def _further(model: str, path: Path, stage: str | None, steps: str | None) -> dict[str, Any]:
    """The stages and steps that a run is trained further for: by default those it has had."""
    run = _run(path, model)
    stages = list(dict.fromkeys(run.stages)) if stage is None else stage.split(",")
    return {"stage": ",".join(stages), "steps": steps or json.dumps(run.steps_again(stages))}


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
    run = _run(path, model)
    options = {name: value for name, value in run.options.items() if name not in ("image_size", "channels")}
    data = {DATA[name]: value for name, value in run.data.items() if name in DATA}
    stage = ",".join(run.stages) or None
    held_out = run.validation or {}
    share = held_out.get("path") or (str(held_out["fraction"]) if held_out else None)
    where = {"stage": stage, "validation": share, "start": run.start}
    return {"model": options, **data, **where, **asdict(run.train)}


def _run(path: Path, model: str) -> RunConfig:
    from lapcore.training import RunConfig

    run: RunConfig = RunConfig.load(path)
    if run.model != model:
        raise CheckpointError(f"{path}: settings of a {run.model}; expected those of a {model}")
    return run
