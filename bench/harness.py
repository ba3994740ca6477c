"""How times are taken, so that they can be trusted.

Ours and its peers run in one process, in turn, on random data; the figure is the median, with the interquartile range. The
ceiling is this machine's own large copy (bytes read plus bytes written), measured before and after the cases; the larger counts.
A result states the bytes the work must move at the least, and which part of the ceiling that is. Work that is bound by its
arithmetic states its operations, and its ceiling is PyTorch's own float32 matrix product, measured before and after the case.
Where memory is a goal, each does the work once more, and by how much the process grew at most stands beside the times. Where a
backend of ours computes something else than the reference does, it fails the case and gets no times. Losses are printed like wins.
"""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import lapcore
from lapcore import backends, native

Work = Callable[[], object]
Times = dict[str, list[float]]
Failures = dict[str, str]

COPY = "copy of as many bytes"
MATRIX = "matrix product"
LEAST_SAMPLES = 5
SETTLING = 10e-3
LONG = 0.05
"""Seconds of a call above which it neither needs another to warm up nor is repeated within a measurement."""
PATIENCE = 0.5
"""Seconds a call above which our own reference is checked against, but not timed."""


@dataclass(frozen=True)
class Goal:
    """What a case is to reach against a library ("x" times), the copy ceiling or the matrix
    product's rate ("%"), or the clock ("us", at most)."""

    id: str
    unit: str
    needed: float
    aim: float | None
    against: str


def times(id: str, library: str, needed: float, aim: float | None = None) -> Goal:
    """So many times as fast as the fastest way to do it with a library."""
    return Goal(id, "x", needed, aim, library)


def of_ceiling(id: str, needed: float, aim: float | None = None) -> Goal:
    return Goal(id, "%", needed, aim, "copy ceiling")


def of_matrix_rate(id: str, needed: float, aim: float | None = None) -> Goal:
    return Goal(id, "%", needed, aim, MATRIX)


def at_most(id: str, microseconds: float) -> Goal:
    return Goal(id, "us", microseconds, None, "the clock")


@dataclass(frozen=True)
class Case:
    """One piece of work.

    bytes: the least it must move, or 0 where the host's time or the operations count. ours: by backend; the first is what a plain
    call takes, and what the goals are about. expected: what all of ours must give, by default the result of the last of them, the
    reference. peers: who does the same, by "library" or "library: way to do it". difference: of two results, at most `tolerance`.
    operations: additions and multiplications that it takes at the least. images: how many a call makes, if that is what counts.
    peaks: whether memory is stated. least_samples: fewer than usual where a call takes seconds. repeats: of those whose work is the
    same thing again and again, and who do it but once, how often it is done: their times are multiplied by that, and their names
    say so.
    """

    op: str
    bytes: int
    ours: dict[str, Work]
    peers: dict[str, Work] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    expected: Work | None = None
    difference: Callable[[object, object], float] = field(default_factory=lambda: largest_difference)
    tolerance: float = 1e-5
    operations: int = 0
    images: int = 0
    peaks: bool = False
    least_samples: int = LEAST_SAMPLES
    repeats: Mapping[str, int] = field(default_factory=dict)


Build = Callable[[], Case]


class Measured(NamedTuple):
    """What a case was and asked for, the times of each who did it, in seconds, why others could not, and who was too slow."""

    family: str
    name: str
    op: str
    bytes: int
    goals: tuple[Goal, ...]
    ours: str
    times: Times
    failed: Failures
    untimed: Failures
    operations: int = 0
    matrix_rate: float = 0.0
    peaks: Mapping[str, int] = MappingProxyType({})
    images: int = 0


def library(who: str) -> str:
    """ "opencv: planes" -> "opencv" """
    return who.partition(":")[0]


# What peers are called, and the module that an optional one is imported from.
LIBRARIES: dict[str, str | None] = {
    "opencv": "cv2",
    "kornia": "kornia.geometry.transform",
    "kornia-rs": "kornia_rs.imgproc",
    "scikit-image": "skimage.transform",
    "torch eager": None,
    "torch cropped": None,
    "torch.compile": None,
    "RIFE's loss": None,
}


class Peers:
    """The libraries to measure against, all by default; those that cannot be had are remembered, with the reason."""

    def __init__(self, wanted: Iterable[str] = LIBRARIES) -> None:
        self.wanted = frozenset(wanted)
        self.missing: Failures = {}

    def module(self, who: str) -> ModuleType | None:
        """The module of a library, with as many threads as PyTorch, or None if it is not wanted or cannot be imported."""
        name = LIBRARIES[library(who)]
        if name is None or not self.wants(who):
            return None
        try:
            module = import_module(name)
        except ImportError as error:
            self.missing[library(who)] = describe(error)
            return None
        if name == "cv2":
            module.setNumThreads(torch.get_num_threads())
        return module

    def wants(self, who: str) -> bool:
        return library(who) in self.wanted

    def only_wanted(self, works: dict[str, Work]) -> dict[str, Work]:
        return {who: work for who, work in works.items() if self.wants(who)}


class Clock(NamedTuple):
    """measure(work, repeats): seconds a call. sample: about how long one measurement is to be."""

    measure: Callable[[Work, int], float]
    sample: float
    device: str


def _wall(work: Work, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def _events(work: Work, repeats: int) -> float:
    event: Any = torch.cuda.Event
    start, end = (event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / repeats


CPU = Clock(_wall, 20e-3, "cpu")
CUDA = Clock(_events, 10e-3, "cuda")


def describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def interleave(
    works: dict[str, Work], seconds: float, clock: Clock, least_samples: int = LEAST_SAMPLES
) -> tuple[Times, Failures]:
    """About `seconds` of times of each piece of work, all spread over the same stretch, and what failed, with the reason.

    The next to run is always the one that is furthest behind. Untimed calls before each measurement, at least one and for
    SETTLING seconds, warm the caches and let the threads of whatever ran before go to sleep.
    """
    times: Times = {}
    failed: Failures = {}
    repeats: dict[str, int] = {}
    for name, work in works.items():
        try:
            work()
            once = clock.measure(work, 1)
        except Exception as error:  # a peer that cannot do it is reported, whatever it raises
            failed[name] = describe(error)
            continue
        times[name] = [once] if once > LONG else []
        repeats[name] = 1 if once > LONG else max(1, round(clock.sample / max(clock.measure(work, 1), 1e-7)))

    def done(name: str) -> float:
        taken = times[name]
        return min(sum(taken) * repeats[name] / seconds, len(taken) / least_samples)

    while times and done(name := min(times, key=done)) < 1:
        settled = time.perf_counter() + SETTLING
        while not times[name] or times[name][-1] < LONG:
            works[name]()
            if time.perf_counter() > settled:
                break
        times[name].append(clock.measure(works[name], repeats[name]))
    return times, failed


def copy_ceiling(clock: Clock) -> float:
    """Bytes a second of this machine's large copy, read plus written."""
    numel = 1 << (24 if clock.device == "cpu" else 28)
    taken, _ = interleave({COPY: copy_of(torch.rand(numel, device=clock.device))}, 0.5, clock)
    return 2 * 4 * numel / statistics.median(taken[COPY])


def matrix_rate(clock: Clock) -> float:
    """Operations a second of PyTorch's float32 matrix product."""
    side = 2048
    a, b = torch.rand(2, side, side, device=clock.device).unbind()
    out = torch.empty_like(a)
    taken, _ = interleave({MATRIX: lambda: torch.mm(a, b, out=out)}, 0.2, clock)
    return 2 * side**3 / statistics.median(taken[MATRIX])


def copy_of(source: Tensor) -> Work:
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def under(backend: str, work: Work) -> Work:
    def run() -> object:
        with lapcore.backend(backend):
            return work()

    return run


def able(op: str, *tensors: object) -> list[str]:
    """The backends that can run a call here, that of a plain call first; not Triton's interpreter, which is for tests."""
    found = [name for name, reason in lapcore.explain(op, *tensors).items() if reason is None]
    return [name for name in found if name != "triton" or not backends.interpreting()]


def by_backend(work: Work, op: str, *tensors: object) -> dict[str, Work]:
    """`work` on the backend that a plain call takes, and on every other that can run it here."""
    first, *others = able(op, *tensors)
    return {f"lapcore {first}": work, **{f"lapcore {name}": under(name, work) for name in others}}


def rotated(function: Callable[[Any], object], inputs: Sequence[Any]) -> Work:
    """Calls in turn on inputs that together are larger than the caches, keeping as many results alive."""
    turn = 0
    kept: list[object] = [None] * len(inputs)

    def run() -> object:
        nonlocal turn
        turn = (turn + 1) % len(inputs)
        kept[turn] = None  # gives its memory back first
        kept[turn] = function(inputs[turn])
        return kept[turn]

    return run


def largest_difference(a: object, b: object) -> float:
    """Of two results of one structure, relative to the largest value."""
    return _difference(a, b, torch.amax)


def mean_difference(a: object, b: object) -> float:
    """The same, of mean magnitudes: for gradients that jump where a value rounds to the other side of zero."""
    return _difference(a, b, torch.mean)


def _difference(a: object, b: object, of: Callable[[Tensor], Tensor]) -> float:
    differences, sizes = [0.0], [1e-30]
    for x, y in zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True):
        if x.shape != y.shape or x.dtype != y.dtype:
            raise ValueError(f"got {x.dtype} of shape {tuple(x.shape)}, expected {y.dtype} of shape {tuple(y.shape)}")
        if x.numel():
            x, y = x.detach().double(), y.detach().double()
            differences.append(float(of((x - y).abs())))
            sizes.append(float(of(y.abs())))
    return math.nan if any(map(math.isnan, differences)) else max(differences) / max(sizes)


def wrong_results(case: Case) -> Failures:
    """Which of ours do not compute what they should, and by how much."""
    return _check(case)[0]


def _check(case: Case) -> tuple[Failures, float]:
    """What is wrong, and how many seconds what is right took."""
    wrong: Failures = {}
    *_, (reference, last) = case.ours.items()
    started = time.perf_counter()
    expected = pytree.tree_map_only(Tensor, torch.clone, (case.expected or last)())
    seconds = time.perf_counter() - started
    for who, work in case.ours.items():
        if who == reference and case.expected is None:
            continue
        try:
            difference = case.difference(work(), expected)
        except Exception as error:
            wrong[who] = describe(error)
            continue
        if not difference <= case.tolerance:  # nan is wrong too
            wrong[who] = (
                f"wrong result: it differs by {difference:.1e} of the largest value, {case.tolerance:.0e} is allowed"
            )
    return wrong, seconds


def peak(work: Work) -> int | None:
    """By how many bytes the process grew at most while it did the work once, its results included; None where Linux is missing."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")

    def highest() -> int:
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])

    try:
        _give_back_memory()
        clear.write_text("5")  # the highest so far starts again from what is held now
        before = highest()
    except OSError:
        return None
    kept = work()
    after = highest()
    del kept
    return after - before


def _give_back_memory() -> None:
    """What was freed and is kept for later would hide growth."""
    gc.collect()
    module = native.load()
    if isinstance(module, ModuleType):
        module.release_kept_blocks()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc
        trim(0)


def measure_case(family: str, name: str, build: Build, seconds: float, clock: Clock) -> Measured:
    """Builds a case, checks its results, and measures it; its tensors are gone afterwards."""
    try:
        case = build()
        failed, reference_seconds = _check(case)
    except Exception as error:
        return Measured(family, name, "", 0, (), "lapcore", {}, {"lapcore": describe(error)}, {})
    ours, *others = case.ours
    untimed: Failures = {}
    if others and reference_seconds > PATIENCE:
        untimed[others[-1]] = f"not timed, one call took {reference_seconds:.1f} s"
    works = {who: work for who, work in {**case.ours, **case.peers}.items() if who not in {**failed, **untimed}}
    if clock.device == "cpu" and case.bytes:
        works[COPY] = copy_of(torch.rand(case.bytes // 8 + 1))
    before = matrix_rate(clock) if case.operations else 0.0
    times, unable = interleave(works, seconds, clock, case.least_samples)
    times = {who: [case.repeats.get(who, 1) * taken for taken in each] for who, each in times.items()}
    rate = max(before, matrix_rate(clock)) if case.operations else 0.0
    peaks: dict[str, int] = {}
    if case.peaks and clock.device == "cpu":
        grown = {who: peak(work) for who, work in works.items() if who in times and who != COPY}
        peaks = {who: size for who, size in grown.items() if size is not None}
    everything = {**failed, **unable}
    return Measured(
        family,
        name,
        case.op,
        case.bytes,
        case.goals,
        ours,
        times,
        everything,
        untimed,
        case.operations,
        rate,
        peaks,
        case.images,
    )


def measure(
    cases: Iterable[tuple[str, str, Build]],
    *,
    seconds: float,
    clock: Clock = CPU,
    after_each: Callable[[list[Measured], list[float]], None] = lambda measured, ceilings: None,
) -> tuple[list[Measured], list[float]]:
    """Measures (family, name, build) after (family, name, build); also gives the copy ceilings, before and after."""
    ceilings = [copy_ceiling(clock)]
    started = time.perf_counter()
    measured: list[Measured] = []
    for family, name, build in cases:
        measured.append(measure_case(family, name, build, seconds, clock))
        medians = (f"{who} {1e3 * statistics.median(taken):.4g}" for who, taken in measured[-1].times.items())
        print(
            f"[{time.perf_counter() - started:4.0f} s] {name}: {', '.join(medians) or 'failed'} ms",
            file=sys.stderr,
            flush=True,
        )
        after_each(measured, ceilings)
    ceilings.append(copy_ceiling(clock))
    after_each(measured, ceilings)
    return measured, ceilings
