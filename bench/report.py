"""What a run of the benchmarks found: as text, with its goals, and as JSON, with everything it depends on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import lapcore
from lapcore import native

from .harness import COPY, Failures, Goal, Measured, library

DISTRIBUTIONS = (
    "lapcore",
    "torch",
    "triton",
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "kornia",
    "kornia-rs",
    "scikit-image",
)


@dataclass(frozen=True)
class Line:
    """Who took how long. relative: its time over ours, above 1 where ours is faster. ceiling_percent: of the copy's rate, or of the
    matrix product's where the case counts operations. peak_bytes: by how much the process grew, where that was measured.
    images_per_second: where a case makes images."""

    who: str
    milliseconds: float
    quartiles: tuple[float, float]
    samples: int
    ceiling_percent: float | None
    relative: float | None
    peak_bytes: int | None = None
    images_per_second: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A goal and what was reached: None where it was not measured."""

    id: str
    against: str
    unit: str
    needed: float
    aim: float | None
    reached: float | None
    met: bool | None

    def __str__(self) -> str:
        unit = {"x": "x", "%": "%", "us": " us"}[self.unit]
        what = {"x": f" {self.against}", "%": f" of the {self.against}", "us": ""}[self.unit]
        aim = "" if self.aim is None else f" (aim {self.aim:g}{unit})"
        wanted = f"goal {self.id}: {'at most ' if self.unit == 'us' else ''}{self.needed:g}{unit}{what}{aim}"
        if self.reached is None:
            return f"{wanted} - not measured"
        return f"{wanted} - reached {self.reached:.3g}{unit}: {'met' if self.met else 'missed'}"


@dataclass(frozen=True)
class CaseReport:
    family: str
    op: str
    name: str
    bytes: int
    ours: str
    lines: list[Line]
    goals: list[Verdict]
    failed: Failures
    untimed: Failures
    operations: int = 0
    matrix_rate: float = 0.0
    """Operations a second of PyTorch's float32 matrix product, next to the case."""


@dataclass(frozen=True)
class Report:
    device: str
    isa: str
    threads: dict[str, int]
    versions: dict[str, str]
    missing_peers: Failures
    copy_ceilings: list[float]
    """Bytes a second before and after the cases; percentages are of the larger."""
    cases: list[CaseReport]


def summarise(measured: Sequence[Measured], ceilings: list[float], missing: Failures, device: str = "cpu") -> Report:
    cases = [_case(each, max(ceilings)) for each in measured]
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    return Report(name, isa(), threads(), versions(), missing, ceilings, cases)


def _case(measured: Measured, ceiling: float) -> CaseReport:
    base = statistics.median(measured.times[measured.ours]) if measured.ours in measured.times else None
    lines = []
    for who, taken in measured.times.items():
        median = statistics.median(taken)
        low, _, high = statistics.quantiles(taken, n=4)
        percent = 100 * measured.bytes / median / ceiling if measured.bytes else None
        if measured.operations:
            percent = 100 * measured.operations / median / measured.matrix_rate
        relative = median / base if base else None
        grown, rate = measured.peaks.get(who), measured.images / median if measured.images else None
        lines.append(Line(who, 1e3 * median, (1e3 * low, 1e3 * high), len(taken), percent, relative, grown, rate))
    verdicts = [_judge(goal, measured.ours, lines) for goal in measured.goals]
    return CaseReport(
        family=measured.family,
        op=measured.op,
        name=measured.name,
        bytes=measured.bytes,
        ours=measured.ours,
        lines=lines,
        goals=verdicts,
        failed=measured.failed,
        untimed=measured.untimed,
        operations=measured.operations,
        matrix_rate=measured.matrix_rate,
    )


def _judge(goal: Goal, ours: str, lines: list[Line]) -> Verdict:
    mine = next((line for line in lines if line.who == ours), None)
    reached: float | None = None
    if mine is not None and goal.unit == "x":
        rivals = (line.relative for line in lines if library(line.who) == goal.against and line.relative is not None)
        reached = min(rivals, default=None)
    elif mine is not None:
        reached = mine.ceiling_percent if goal.unit == "%" else 1e3 * mine.milliseconds
    met = None
    if reached is not None:
        met = reached <= goal.needed if goal.unit == "us" else reached >= goal.needed
    return Verdict(goal.id, goal.against, goal.unit, goal.needed, goal.aim, reached, met)


def text(report: Report) -> str:
    """The whole report for people: every case with its lines and goals, then the goals together, then what was lost."""
    threads = ", ".join(f"{name} {count}" for name, count in report.threads.items())
    before, *after = (f"{ceiling / 1e9:.1f}" for ceiling in report.copy_ceilings)
    rows = [
        f"{report.device}, {report.isa}; threads: {threads}",
        ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        f"copy ceiling {before} GB/s before, {''.join(after) or 'not measured'} after; percentages are of the larger",
    ]
    rows += [f"not measured against {name}: {reason}" for name, reason in report.missing_peers.items()]
    for case in report.cases:
        rows += ["", *_text_of_case(case)]
    goals = [(case, goal) for case in report.cases for goal in case.goals]
    if goals:
        rows += ["", "goals", *(f"  {case.name}: {goal}" for case, goal in goals)]
    lost = [
        f"  {case.name}: {line.who} takes {line.relative:.2f} of our time"
        for case in report.cases
        for line in case.lines
        if line.relative is not None and line.relative < 1 and line.who not in (case.ours, COPY)
    ]
    rows += ["", "slower than a peer", *(lost or ["  nowhere"])]
    failed = [f"  {case.name}: {who}: {why}" for case in report.cases for who, why in case.failed.items()]
    return "\n".join([*rows, *(["", "failed", *failed] if failed else [])])


def _text_of_case(case: CaseReport) -> list[str]:
    width = max([len(line.who) for line in case.lines], default=0) + 2
    rows = [f"{case.name}    {case.bytes / 1e6:.3g} MB" if case.bytes else case.name]
    ceiling = "the ceiling"
    if case.operations:
        ceiling = "the matrix rate"
        rows = [
            f"{case.name}    {case.operations / 1e9:.4g} G operations; matrix rate {case.matrix_rate / 1e9:.4g} G/s"
        ]
    for line in case.lines:
        low, high = line.quartiles
        percent = "" if line.ceiling_percent is None else f"  {line.ceiling_percent:6.1f}% of {ceiling}"
        ratio = "" if line.who == case.ours or line.relative is None else f"  {line.relative:8.2f}x our time"
        rate = "" if line.images_per_second is None else f"  {line.images_per_second:.4g} images/s"
        memory = "" if line.peak_bytes is None else f"  peak {line.peak_bytes / 1e6:.4g} MB"
        rows.append(
            f"  {line.who:{width}}{line.milliseconds:10.4f} ms  ({low:.4f} - {high:.4f}, {line.samples:4d} times)"
            f"{percent}{ratio}{rate}{memory}"
        )
    rows += [f"  {who}: {why}" for who, why in {**case.untimed, **case.failed}.items()]
    return [*rows, *(f"  {goal}" for goal in case.goals)]


def isa() -> str:
    """The instruction set of the C++ kernels, or what runs in their place."""
    module = native.load()
    return "no C++ kernels" if isinstance(module, Exception) else str(module.isa())


def threads() -> dict[str, int]:
    """Of PyTorch, and of OpenCV where it was measured."""
    found = {"torch": torch.get_num_threads()}
    return found | {"opencv": sys.modules["cv2"].getNumThreads()} if "cv2" in sys.modules else found


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"lapcore": lapcore.__version__, "torch": torch.__version__}


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write_json(path: Path, content: Report | dict[str, Any]) -> None:
    """Written atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(asdict(content) if isinstance(content, Report) else content, file, indent=2)
        file.write("\n")
    os.replace(file.name, path)
