"""How times are taken, so that they can be trusted.

Ours and its peers run in one process, in turn, round after round, on random data; the figure is the median over the rounds, with
the interquartile range. The ceiling is this machine's own large copy (bytes read plus bytes written), measured in the same run.
A result states the bytes the work must move at the least, and which part of the ceiling that is. Losses are printed like wins.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import lapcore
from lapcore import native

Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One piece of work: ours, the peers that do the same, and the least bytes it must move."""

    op: str
    name: str
    ours: Work
    bytes: int
    peers: dict[str, Work] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    op: str
    name: str
    who: str
    milliseconds: float
    quartiles: tuple[float, float]
    bytes: int
    ceiling_percent: float


def isa() -> str:
    """The instruction set of the C++ kernels, or what runs in their place."""
    module = native.load()
    return "reference only" if isinstance(module, Exception) else str(module.isa())


def timed(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(works: dict[str, Work], seconds: float) -> dict[str, list[float]]:
    """Times of each piece of work, taken in turn for about `seconds` each, after a warm-up."""
    repeats = {}
    for name, work in works.items():
        timed(work)
        once = max(min(timed(work), timed(work)), 1e-7)
        repeats[name] = max(1, int(2e-3 / once))
    times: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + seconds * len(works)
    while time.perf_counter() < end or len(next(iter(times.values()))) < 7:
        for name, work in works.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                work()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return times


def copy_ceiling() -> float:
    """Bytes a second of this machine's large copy, read plus written."""
    source = torch.rand(1 << 24)
    target = torch.empty_like(source)
    best = statistics.median(alternate({"copy": lambda: target.copy_(source)}, 0.5)["copy"])
    return 2 * source.numel() * source.element_size() / best


def run(cases: list[Case], seconds: float = 0.4) -> list[Result]:
    """Measures each case against its peers and prints a line for each as it comes."""
    ceiling = copy_ceiling()
    print(f"copy ceiling {ceiling / 1e9:.1f} GB/s, {torch.get_num_threads()} threads, {isa()}")
    results = []
    for case in cases:
        times = alternate({"lapcore": case.ours, **case.peers}, seconds)
        ours = statistics.median(times["lapcore"])
        for who, taken in times.items():
            median = statistics.median(taken)
            low, _, high = statistics.quantiles(taken, n=4)
            percent = 100 * case.bytes / median / ceiling
            quartiles = (1e3 * low, 1e3 * high)
            results.append(Result(case.op, case.name, who, 1e3 * median, quartiles, case.bytes, percent))
            ratio = "" if who == "lapcore" else f"  lapcore is {median / ours:.2f}x"
            print(
                f"{case.name:44s} {who:22s} {1e3 * median:9.3f} ms  ({1e3 * low:.3f}-{1e3 * high:.3f})"
                f"  {percent:5.1f}% of copy{ratio}"
            )
    return results


def versions() -> dict[str, str]:
    found = {"lapcore": lapcore.__version__, "torch": torch.__version__, "python": platform.python_version()}
    for module in ("cv2", "kornia", "skimage"):
        try:
            found[module] = __import__(module).__version__
        except ImportError:
            found[module] = "not installed"
    return found


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write_json(path: Path, results: list[Result]) -> None:
    """Results with versions and device, written atomically."""
    report: dict[str, Any] = {
        "versions": versions(),
        "device": cpu_name(),
        "isa": isa(),
        "threads": torch.get_num_threads(),
        "results": [asdict(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(report, file, indent=2)
    os.replace(file.name, path)


def main(cases: list[Case]) -> None:
    """The command line of a benchmark file: measures its cases and keeps them with --json FILE."""
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--seconds", type=float, default=0.4, help="time for each piece of work")
    arguments = parser.parse_args()
    results = run([case for case in cases if arguments.only in case.name], arguments.seconds)
    if arguments.json:
        write_json(arguments.json, results)
