"""Tables, and a progress bar that becomes plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

Advance = Callable[[int], None]


def table(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Left-aligned columns; the last one is free."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return "\n".join(
        indent + "".join(f"{cell:<{width + 2}}" for cell, width in zip(row, widths, strict=False)) + row[-1]
        for row in rows
    )


@contextmanager
def progress(task: str, total: int, unit: str) -> Iterator[Advance]:
    """Yields advance(n). On stderr: on a terminal, and with rich, a bar; otherwise a line now and then."""
    if sys.stderr.isatty() and find_spec("rich") is not None:
        with _bar(task, total, unit) as advance:
            yield advance
    else:
        yield _Lines(task, total, unit).advance


@contextmanager
def _bar(task: str, total: int, unit: str) -> Iterator[Advance]:
    from rich import progress as rich_progress
    from rich.console import Console

    class Throughput(rich_progress.ProgressColumn):
        def render(self, task: rich_progress.Task) -> str:
            return f"{task.speed or 0:.1f} {unit}/s"

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        Throughput(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as bar:
        handle = bar.add_task(task, total=total)
        yield lambda n: bar.advance(handle, n)


class _Lines:
    """Plain progress: a line at most every ten seconds, and the last one."""

    def __init__(self, task: str, total: int, unit: str) -> None:
        self.task, self.total, self.unit = task, total, unit
        self.done = 0
        self.started = self.printed = time.monotonic()

    def advance(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.printed < 10 and self.done < self.total:
            return
        self.printed = now
        rate = self.done / max(now - self.started, 1e-9)
        left = (self.total - self.done) / rate
        line = f"{self.task}: {self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s, {left:.0f} s left"
        print(line, file=sys.stderr, flush=True)
