"""A training run is made of legs and settings, which its file keeps."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lapcore.data.files import atomic_file
from lapcore.errors import CheckpointError, require
from lapcore.models import MODELS
from lapcore.training.config import OPERATIONAL, TrainConfig


class Leg(NamedTuple):
    """A stage trained for a number of steps."""

    stage: str
    steps: int


@dataclass(frozen=True)
class RunConfig:
    """A run's `config.yaml`: the model by name, its keyword arguments, the data, and how it is trained.

    A run is a line of legs: `stages`, trained one after the other for the steps that the list `train.steps` has in the same
    place. A run that is trained further has more of them, maybe of the same names. validation: {"fraction": of the images
    that is held out}, or what the data that is held out was opened with. start: the folder that the first weights came from.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)
    stages: list[str] = field(default_factory=list)
    validation: dict[str, Any] | None = None
    start: str | None = None

    @property
    def legs(self) -> list[Leg]:
        return [Leg(*pair) for pair in zip(self.stages, self.train.steps_of(self.stages), strict=True)]

    def known_to_models(self) -> dict[str, Any]:
        """Returns what a checkpoint tells `lapcore.models.load_model` of the run."""
        return {"model": self.model, "options": self.options, "legs": self.legs}

    def with_legs(self, legs: Sequence[Leg]) -> RunConfig:
        train = dataclasses.replace(self.train, steps=[leg.steps for leg in legs])
        return dataclasses.replace(self, stages=[leg.stage for leg in legs], train=train)

    def steps_again(self, stages: Sequence[str]) -> list[int]:
        """Returns for each stage as many steps as its last leg has, or for one without, as the run's last leg."""
        last = {leg.stage: leg.steps for leg in self.legs}
        return [last.get(stage, self.legs[-1].steps) for stage in stages]

    def save(self, path: Path) -> None:
        text = require("yaml", "train").safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False)
        with atomic_file(path) as file:
            file.write(text.encode())

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Raises CheckpointError, naming the file, when it is missing or is not such a file."""
        yaml = require("yaml", "train")
        try:
            content = yaml.safe_load(path.read_text())
            content["train"] = TrainConfig(**content["train"])
            return cls(**content)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such file; is this a training run's folder?") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: not a run's configuration: {error}") from error

    def check_resumes(self, saved: RunConfig, path: Path) -> None:
        """CheckpointError, naming what differs, unless going on from `saved` with these settings is the same run.

        The data may have moved; what is asked of it and the number of images may not have changed.
        Legs are `resumed_legs`' to compare.
        """
        differ = differences(saved, self, "in the run", "now")
        if differ:
            raise CheckpointError(f"{path}: cannot resume with other settings ({differ}); start a new run instead")


def differences(first: RunConfig, second: RunConfig, here: str, there: str) -> str:
    """Lists the settings that make a run what it is where they differ; stages, steps and the place of the data do not count."""
    one, other = _flat(first), _flat(second)
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return "; ".join(f"{name}: {one.get(name)!r} {here}, {other.get(name)!r} {there}" for name in names)


def _plain(value: Any) -> Any:
    """The same in the types that YAML keeps."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _flat(config: RunConfig) -> dict[str, Any]:
    """The settings that make a run what it is, by their names in the file."""
    content = _plain(dataclasses.asdict(config))
    groups = {"options": "model.", "data": "data.", "train": "train.", "validation": "validation."}
    flat = {prefix + key: value for name, prefix in groups.items() for key, value in (content[name] or {}).items()}
    ignored = {"data.path", "validation.path", "train.steps", *(f"train.{name}" for name in OPERATIONAL)}
    return {"model": config.model, **{key: value for key, value in flat.items() if key not in ignored}}


def resumed_legs(saved: RunConfig, asked: RunConfig, finished: bool, extend: bool, path: Path) -> list[Leg]:
    """The legs of a run that goes on as `asked`: those it has, or with `extend`, once these are finished, the asked ones too.

    CheckpointError, naming the file at `path`, unless the asked legs are the run's first or last ones.
    """
    kept, wanted = saved.legs, asked.legs
    if finished and extend:
        return kept + wanted
    if wanted in (kept[: len(wanted)], kept[-len(wanted) :]):
        return kept
    if extend:
        command = resume_command(asked.model, path.parent)
        raise CheckpointError(f"{path}: the run has steps to go; finish them first with: {command}")
    differ = f"{_words(kept)} in the run, {_words(wanted)} now"
    raise CheckpointError(f"{path}: cannot resume with other stages or steps ({differ}); leave them out to go on")


def _words(legs: Sequence[Leg]) -> str:
    return ", ".join(f"{leg.stage} {leg.steps}" for leg in legs)


def resume_command(model: str, out: Path) -> str:
    """Returns what to type to go on with a run."""
    if model not in MODELS:
        return "train(..., resume=True)"
    folder = str(out) if not str(out).startswith("-") else f"./{out}"
    return f"lapcore train {model} --out {shlex.quote(folder)} --resume"
