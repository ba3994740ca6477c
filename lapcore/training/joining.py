"""Runs that trained different stages of one model, made one run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from lapcore.data.files import atomic_folder
from lapcore.errors import CheckpointError
from lapcore.models import ImageModel, load_model
from lapcore.training.checkpoint import Progress, save_checkpoint
from lapcore.training.folder import CONFIG, check_free
from lapcore.training.run import RunConfig, differences


def join(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Writes a finished run to the folder `out`, whose stages have the weights of the runs that trained them; returns `out/model`.

    The runs are of one model with the same settings, but for the stages, their steps and where the data lies. Weights of no stage
    that was trained are the first run's. Raises CheckpointError, naming the run, for one that has not finished, has other
    settings, or trained weights that an earlier one did too, and when `out` is not empty.
    """
    folders, out = [Path(run) for run in runs], Path(out)
    if not folders:
        raise ValueError("runs: expected at least one, got none")
    check_free(out)
    configs = [RunConfig.load(folder / CONFIG) for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        _check(folder, config, folders[0], configs[0])
    models = [_finished(folder) for folder in folders]
    model = models[0]
    owners: dict[str, Path] = {}
    for folder, config, other in zip(folders, configs, models, strict=True):
        for stage in dict.fromkeys(config.stages):
            _take(model, other, stage, folder, owners)
    order = model.training_stages()
    legs = sorted((leg for config in configs for leg in config.legs), key=lambda leg: order.index(leg.stage))
    run = dataclasses.replace(configs[0], start=None).with_legs(legs)
    _write(model, run, out)
    return out / "model"


def _check(folder: Path, config: RunConfig, first: Path, settings: RunConfig) -> None:
    differ = differences(settings, config, f"in {first}", f"in {folder}")
    if differ:
        raise CheckpointError(f"{folder}: cannot be joined, as settings differ ({differ})")


def _finished(folder: Path) -> ImageModel:
    if not (folder / "model").is_dir():
        raise CheckpointError(f"{folder}: the run has not finished; only finished runs can be joined")
    return load_model(folder / "model")


@torch.no_grad()
def _take(model: ImageModel, other: ImageModel, stage: str, folder: Path, owners: dict[str, Path]) -> None:
    """Copies what `other`, of the run in `folder`, learned in a stage; owners: by name, the runs of what was copied before."""
    own, theirs = model.state_dict(), other.state_dict()
    for name in _tensors_of(other, stage):
        if owners.setdefault(name, folder) != folder:
            raise CheckpointError(
                f"{folder}: trained stage {stage}, weights of which {owners[name]} trained too; leave one of them out"
            )
        own[name].copy_(theirs[name])


def _tensors_of(model: ImageModel, stage: str) -> Iterator[str]:
    """Names of the parameters and buffers that a stage trains."""
    modules = set(model.modules_of(stage))
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if module in modules)
    return (name for name in model.state_dict() if name.startswith(prefixes))


def _write(model: ImageModel, run: RunConfig, out: Path) -> None:
    players = [(leg.steps, run.train.player(player)) for leg in run.legs for player in model.players(leg.stage)]
    progress = Progress(
        step=sum(leg.steps for leg in run.legs),
        leg=len(run.legs),
        batches=sum(steps * player.turns for steps, player in players),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out) as folder:
        run.save(folder / CONFIG)
        save_checkpoint(folder / "checkpoints", progress, run.known_to_models(), {"model": model.state_dict()})
        model.save_pretrained(folder / "model")
