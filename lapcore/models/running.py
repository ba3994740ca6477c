"""The model of a run that has not finished: its newest checkpoint, read while training goes on."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lapcore.errors import CheckpointError, require
from lapcore.models import saving
from lapcore.models.base import ImageModel

STATE = "state.json"
_NAME = re.compile(r"step-(\d{8,})")
_TRIES = 20


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def load_running(run: Path, models: Mapping[str, type[ImageModel]]) -> ImageModel:
    """The model as the newest checkpoint in the folder `run` has it, with the averages for weights; says on stderr which.

    Training may meanwhile remove the checkpoint, which vanishes whole: then there is a newer one.
    """
    for _ in range(_TRIES):
        newest = checkpoints(run / "checkpoints")[-1:]
        if not newest:
            begun = (run / "config.yaml").exists()
            why = " (the run has not finished, and has no checkpoint yet)" if begun else ""
            raise CheckpointError(f"{run}: holds neither {saving.CONFIG} nor model/{why}")
        try:
            model, said = _loaded(newest[0], models)
        except FileNotFoundError as error:
            if newest[0].exists():
                raise CheckpointError(f"{error.filename}: missing or damaged checkpoint") from error
            continue
        print(f"{run}: {said}", file=sys.stderr)
        return model
    raise CheckpointError(f"{run / 'checkpoints'}: checkpoints are removed faster than they can be read; try again")


def _loaded(path: Path, models: Mapping[str, type[ImageModel]]) -> tuple[ImageModel, str]:
    try:
        state = json.loads((path / STATE).read_text())
        run, step, leg = state["run"], state["step"], state["leg"]
        total = sum(steps for _, steps in run["legs"])
        stage = run["legs"][min(leg, len(run["legs"]) - 1)][0]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(f"{path / STATE}: missing or damaged checkpoint: {error}") from error
    tensors = _tensors(path / saving.WEIGHTS)
    if "ema" in state["tensors"]:
        tensors |= _tensors(path / "ema.safetensors")
    if run["model"] not in models:
        raise CheckpointError(f"{path / STATE}: expected a model {' or '.join(models)}, got {run['model']!r}")
    model = saving.built(models[run["model"]], run["options"], tensors, path)
    return model, f"training has not finished; taking step {step} of {total}, in stage {stage}"


def _tensors(path: Path) -> dict[str, Tensor]:
    safetensors = require("safetensors", "hub")
    try:
        content: dict[str, Tensor] = require("safetensors.torch", "hub").load(path.read_bytes())
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: missing or damaged checkpoint: {error}") from error
    return content
