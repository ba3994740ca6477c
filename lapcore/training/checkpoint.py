"""The state of a run on disk: folders that appear whole, tensors as safetensors, the rest as JSON; never a pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lapcore.data.files import TEMPORARY, atomic_folder, temporary_sibling
from lapcore.errors import CheckpointError, require
from lapcore.models.running import STATE, checkpoints

_FORMAT = 2


@dataclass
class Progress:
    """Says where a run stands in its line of legs, each a stage trained for a number of steps.

    step: of the whole run. leg: how many are finished; leg_step: steps into the next one. batches: taken from the run's line
    of images. seconds: spent training. scalers: of each player, under fp16. best: the "stage", "step" and held-out
    "loss" of the model in best/, if any.
    """

    step: int = 0
    leg: int = 0
    leg_step: int = 0
    batches: int = 0
    seconds: float = 0.0
    scalers: dict[str, dict[str, Any]] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    run: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    keep: int = 0,
) -> Path:
    """Writes `folder/step-XXXXXXXX/` with a `NAME.safetensors` per entry of `tensors`; all of it or nothing.

    run: what `lapcore.models.load_model` needs to know of it: "model", "options" and "legs".

    Then removes all but the newest `keep` (0: none). Raises OSError when the disk is full or cannot be written.
    """
    encode = require("safetensors.torch", "train").save
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{progress.step:08d}"
    with atomic_folder(path) as temporary:
        for name, content in tensors.items():
            own = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in content.items()}
            (temporary / f"{name}.safetensors").write_bytes(encode(own))
        state = {"format": _FORMAT, "run": run, "tensors": list(tensors), **asdict(progress)}
        (temporary / STATE).write_text(json.dumps(state, indent=1))
    if keep:
        for old in checkpoints(folder)[:-keep]:
            discard(old)
    return path


def discard(folder: Path) -> None:
    """Removes a folder, which vanishes whole: nobody finds it half empty."""
    doomed = temporary_sibling(folder)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def load_checkpoint(path: Path) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """Raises CheckpointError, naming the file, when it is missing, cut short or of another format."""
    safetensors = require("safetensors", "train")
    load = require("safetensors.torch", "train").load_file
    try:
        state = json.loads((path / STATE).read_text())
        if state.pop("format") != _FORMAT:
            raise CheckpointError(f"{path / STATE}: written by another version of lapcore")
        names, _ = state.pop("tensors"), state.pop("run")
        progress = Progress(**state)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _damaged(path / STATE, error) from error
    tensors = {}
    for name in names:
        file = path / f"{name}.safetensors"
        try:
            tensors[name] = load(file)
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise _damaged(file, error) from error
    return progress, tensors


def _damaged(file: Path, error: Exception) -> CheckpointError:
    older = checkpoints(file.parent.parent)[:-1]
    advice = f"; delete {file.parent} to resume from {older[-1].name}" if older else ""
    return CheckpointError(f"{file}: missing or damaged checkpoint: {error}{advice}")


def remove_leftovers(folder: Path) -> None:
    """Deletes what a killed run was in the middle of writing."""
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copies `tensors` into a module's parameters and buffers; CheckpointError unless names and shapes are the same."""
    own = module.state_dict()
    wrong = [name for name in {**own, **tensors} if name not in own or name not in tensors]
    wrong += [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if wrong:
        raise CheckpointError(f"{path}: not of this model: {', '.join(wrong[:4])} missing, unknown or of another shape")
    module.load_state_dict(tensors)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """An optimiser's state by `parameter/entry`."""
    return {
        f"{names[parameter]}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for parameter, entries in optimizer.state.items()
        for key, value in entries.items()
        if value is not None
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        parameter = parameters[name]
        device = value.device if entry == "step" and not optimizer.defaults.get("fused") else parameter.device
        optimizer.state[parameter][entry] = value.to(device)
