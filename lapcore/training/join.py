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
    settings, or trained a stage that an earlier one did too, and when `out` is not empty.
    """
    folders, out = [Path(run) for run in runs], Path(out)
    if not folders:
        raise ValueError("runs: expected at least one, got none")
    check_free(out)
    configs = [RunConfig.load(folder / CONFIG) for folder in folders]
    _check(folders, configs)
    models = [_finished(folder) for folder in folders]
    model = models[0]
    for other, config in zip(models[1:], configs[1:], strict=True):
        _take(model, other, config.stages)
    order = model.training_stages()
    legs = sorted((leg for config in configs for leg in config.legs), key=lambda leg: order.index(leg.stage))
    run = dataclasses.replace(configs[0], start=None).with_legs(legs)
    _write(model, run, out)
    return out / "model"


def _check(folders: Sequence[Path], configs: Sequence[RunConfig]) -> None:
    owners: dict[str, Path] = {}
    for folder, config in zip(folders, configs, strict=True):
        differ = differences(configs[0], config, str(folders[0]), str(folder))
        if differ:
            raise CheckpointError(f"{folder}: cannot be joined, as settings differ ({differ})")
        for stage in dict.fromkeys(config.stages):
            if stage in owners:
                raise CheckpointError(f"{folder}: trained stage {stage}, as {owners[stage]} did; leave one of them out")
            owners[stage] = folder


def _finished(folder: Path) -> ImageModel:
    if not (folder / "model").is_dir():
        raise CheckpointError(f"{folder}: the run has not finished; only finished runs can be joined")
    return load_model(folder / "model")


@torch.no_grad()
def _take(model: ImageModel, other: ImageModel, stages: Sequence[str]) -> None:
    own = model.state_dict()
    for stage in stages:
        for name in _tensors_of(other, stage):
            own[name].copy_(other.state_dict()[name])


def _tensors_of(model: ImageModel, stage: str) -> Iterator[str]:
    """Names of the parameters and buffers that a stage trains."""
    modules = set(model._modules_of(stage))
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
