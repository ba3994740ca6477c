"""What a busy machine does to a call: the same work on an idle machine, after PyTorch's own threads, and beside other processes.

A mean says what a user waits for, a 95th percentile what a slow call costs; medians hide both. Every call is timed by itself.
Within a state all who do a case take turns in blocks of BLOCK seconds, so that a machine that changes changes for all.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from lapcore.errors import LapcoreError
from lapcore.models.pixelcnn import PixelCNN

from . import masked_conv, pyramid, report, sampling
from .harness import Build, Case, Failures, Peers, Work, library, wrong_results

BLOCK = 0.1
WARM = 2
"""Calls that open a block and are not timed: threads start, and caches fill."""
FEWEST = 20
"""Calls at the least: those who are slower than that within the time get no 95th percentile that says much."""
MOST_OF_ONE_THREAD, MOST_OF_OPENCV, MOST_OF_TORCH = 1.1, 0.7, 0.5
OURS, ALONE = "lapcore", "lapcore: one thread"
RIVALS = ("opencv", "torch eager")
SLOWER = ("torch eager: conv", "torch cropped: rows to the centre's")
"""Ways of PyTorch that are left out, since another of its ways is faster."""


@dataclass(frozen=True)
class State:
    """What the machine does beside the call: processes that never rest, and whether PyTorch has just used its threads."""

    name: str
    busy: int = 0
    after_torch: bool = False


STATES = (
    State("idle"),
    State("after a convolution", after_torch=True),
    State("1 busy process", busy=1),
    State("2 busy processes", busy=2),
)


@dataclass(frozen=True)
class Line:
    who: str
    mean_ms: float
    median_ms: float
    percentile_95_ms: float
    calls: int


@dataclass(frozen=True)
class Verdict:
    """A goal: our mean is at most `most` times theirs."""

    against: str
    most: float
    reached: float
    met: bool


@dataclass(frozen=True)
class Result:
    case: str
    state: str
    lines: list[Line]
    goals: list[Verdict]


def cases(found: Peers) -> dict[str, Build]:
    shapes = {"1x3x256x256": (1, 3, 256, 256), "64x3x64x64": (64, 3, 64, 64), "1x3x1080x1920": (1, 3, 1080, 1920)}
    built: dict[str, Build] = {}
    for name, shape in shapes.items():
        built[f"laplacian_pyramid {name}"] = partial(pyramid.laplacian, found, shape)
        built[f"collapse {name}"] = partial(pyramid.collapse, found, shape)
    built["masked_conv2d 3x3 16x128x32x32"] = partial(masked_conv.convolution, found, (16, 128, 32, 32), 128, 3, "B")
    network = partial(PixelCNN, 28, 1, hidden=64, layers=7, head=128, levels=2)
    built["cached PixelCNN 28x28, 16 images"] = partial(sampling.sampling, Peers(()), network, 16)
    return built


def measure(found: Peers, seconds: float, only: str = "") -> Iterator[Result]:
    """Measures every case in every state, each who does it for `seconds`."""
    built = {name: build for name, build in cases(found).items() if only in name}
    if not built:
        raise LapcoreError(f"--only {only!r}: no case of contention has this in its name")
    for name, build in built.items():
        works = works_of(name, build())
        for state in STATES:
            with beside(state.busy):
                times = take_turns(works, seconds, before(state))
            lines = [summary(who, each) for who, each in times.items()]
            yield Result(name, state.name, lines, judge(lines, state))


def works_of(name: str, case: Case) -> dict[str, Work]:
    """Lists who does the case, if what we compute is right."""
    for who, why in wrong_results(case).items():
        raise LapcoreError(f"{name}: {who}: {why}")
    first, *_ = case.ours.values()
    return {OURS: first, ALONE: first} | {who: work for who, work in case.peers.items() if who not in SLOWER}


@contextmanager
def beside(count: int) -> Iterator[None]:
    """Keeps so many processes running that each use a processor up."""
    code = "print(flush=True)\nwhile True: pass"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


def before(state: State) -> Work:
    """Gives what is done before each call, untimed."""
    if not state.after_torch:
        return lambda: None
    x, weight = torch.randn(8, 32, 32, 32), torch.randn(32, 32, 3, 3)
    return lambda: F.conv2d(x, weight)


def take_turns(works: Mapping[str, Work], seconds: float, before: Work) -> dict[str, list[float]]:
    """Takes the times of each call, in seconds."""
    times: dict[str, list[float]] = {who: [] for who in works}
    threads = torch.get_num_threads()
    while behind := [who for who, each in times.items() if sum(each) < seconds or len(each) < FEWEST]:
        for who in behind:
            torch.set_num_threads(1 if who == ALONE else threads)
            times[who] += block(works[who], before)
    torch.set_num_threads(threads)
    return times


def block(work: Work, before: Work) -> list[float]:
    taken: list[float] = []
    for _ in range(WARM):
        before()
        work()
    while sum(taken) < BLOCK:
        before()
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def summary(who: str, times: list[float]) -> Line:
    percentile_95 = statistics.quantiles(times, n=20)[-1]
    return Line(who, *(1e3 * t for t in (statistics.mean(times), statistics.median(times), percentile_95)), len(times))


def judge(lines: list[Line], state: State) -> list[Verdict]:
    mean = {line.who: line.mean_ms for line in lines}
    goals = {ALONE: MOST_OF_ONE_THREAD, "opencv": MOST_OF_OPENCV}
    if state.busy and "opencv" not in map(library, mean):
        goals["torch eager"] = MOST_OF_TORCH
    verdicts = []
    for against, most in goals.items():
        rivals = [mean[who] for who in mean if against in (who, library(who)) and who != OURS]
        if rivals:
            reached = mean[OURS] / min(rivals)
            verdicts.append(Verdict(against, most, reached, reached <= most))
    return verdicts


def text(result: Result) -> str:
    width = max(len(line.who) for line in result.lines) + 2
    rows = [f"{result.case}, {result.state}"]
    for line in result.lines:
        rows.append(
            f"  {line.who:{width}}mean {line.mean_ms:9.3f} ms  median {line.median_ms:9.3f}"
            f"  95% {line.percentile_95_ms:9.3f}  ({line.calls} calls)"
        )
    for goal in result.goals:
        verdict = "met" if goal.met else "missed"
        rows.append(f"  goal: at most {goal.most:g} of {goal.against} - reached {goal.reached:.2f}: {verdict}")
    return "\n".join(rows)


def run(seconds: float, only: str, json: Path | None) -> None:
    """Prints each result as it comes, and keeps what there is in `json`."""
    results: list[Result] = []
    found = Peers(RIVALS)
    for result in measure(found, seconds, only):
        print(text(result), flush=True)
        results.append(result)
        if json:
            report.write_json(json, describe(results, found.missing))
    for who, why in found.missing.items():
        print(f"not measured against {who}: {why}")


def describe(results: list[Result], missing: Failures) -> dict[str, Any]:
    machine = {"device": report.cpu_name(), "isa": report.isa(), "threads": report.threads()}
    return {
        **machine,
        "versions": report.versions(),
        "missing_peers": missing,
        "results": [asdict(result) for result in results],
    }
