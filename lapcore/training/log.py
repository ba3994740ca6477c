"""What a run says: log.jsonl, TensorBoard, and the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from lapcore.data.files import atomic_file
from lapcore.errors import require


@dataclass(frozen=True)
class Record:
    """A line of log.jsonl: means over the steps since the last one. `step` counts from 1, `seconds` spent training.

    lr: of the stage's player; of each by name where there are several. validation: of held-out images, where they were measured;
    best: the step of the stage at which their loss was lowest, whose model is kept.
    """

    step: int
    stage: str
    losses: dict[str, float]
    images_per_second: float
    lr: float | dict[str, float]
    seconds: float
    validation: dict[str, float] | None = None
    best: int | None = None


class RunLog:
    """log.jsonl and tensorboard/ in `folder`, cut back to `step`: what was logged after it will be logged again."""

    def __init__(self, folder: Path, step: int) -> None:
        require("tensorboard", "train")
        writer = require("torch.utils.tensorboard", "train").SummaryWriter
        self._path = folder / "log.jsonl"
        _cut(self._path, step)
        self._board: Any = writer(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, record: Record) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps({key: value for key, value in asdict(record).items() if value is not None}) + "\n")
        scalars = {f"loss/{name}": value for name, value in record.losses.items()}
        scalars |= {f"validation/{name}": value for name, value in (record.validation or {}).items()}
        if isinstance(record.lr, dict):
            scalars |= {f"lr/{player}": lr for player, lr in record.lr.items()}
        else:
            scalars["lr"] = record.lr
        for name, value in {**scalars, "images_per_second": record.images_per_second}.items():
            self._board.add_scalar(f"{record.stage}/{name}", value, record.step)

    def picture(self, name: str, image: Tensor, step: int) -> None:
        """Shows a uint8 (C, H, W) picture in TensorBoard."""
        self._board.add_image(name, image, step)

    def flush(self) -> None:
        self._board.flush()

    def close(self) -> None:
        self._board.close()


def _cut(path: Path, step: int) -> None:
    """Keeps the whole lines up to `step`."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if _step_of(line) <= step]
    with atomic_file(path) as file:
        file.write("".join(kept).encode())


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")


class Terminal:
    """A progress bar with throughput and time left on a terminal, plain lines elsewhere, nothing unless `show`."""

    def __init__(self, total: int, done: int, show: bool, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total, self._show = total, show
        self._bar: Any = None
        if show and self._stream.isatty():
            progress, console = require("rich.progress", "train"), require("rich.console", "train")
            columns: Iterable[Any] = (
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[text]}"),
            )
            self._bar = progress.Progress(*columns, console=console.Console(file=self._stream))
            self._task = self._bar.add_task("training", total=total, completed=done, text="")

    def __enter__(self) -> Terminal:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def record(self, record: Record, seconds_left: float) -> None:
        if not self._show:
            return
        held_out = ""
        if record.validation:
            held_out = f"  held-out loss {record.validation['loss']:.4g} (lowest at step {record.best})"
        left = round(seconds_left)
        clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
        text = f"{record.stage}  {describe(record.losses)}{held_out}  {record.images_per_second:,.0f} images/s  {clock}"
        if self._bar is not None:
            self._bar.update(self._task, completed=record.step, text=text)
        else:
            self.line(f"step {record.step}/{self._total}  {text}")

    def line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        elif self._show:
            print(text, file=self._stream, flush=True)


def describe(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
