"""Whole pyramids on the CUDA kernels, in one launch or one for each level, against the reference and the cpu backend's bits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lapcore import native
from lapcore.reference import pyramid as reference
from tests.cuda import harness
from tests.cuda.harness import BORDERS, SANITIZERS, blank, call_numbers, draw, level_sizes
from tests.layouts import LAYOUTS
from tests.tolerance import Cost, assert_close, assert_same_bits, to_numpy

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
WRITABLE = [layout for name, layout in LAYOUTS.items() if not name.startswith("expanded")]
NAMES = ("laplacian_pyramid", "collapse", "laplacian_pyramid_adjoint", "gaussian_pyramid", "collapse_adjoint")
SHAPES = (((7, 16, 16), 3), ((2, 3, 5, 9), 2), ((1, 1), 2), ((3, 17, 6), 1), ((2, 8, 64), 4))
"""Several planes to a warp, odd sides, a pyramid of single samples, one level, packed rows throughout."""


@dataclass
class Pyramid:
    name: str
    border: str
    shape: tuple[int, ...]
    levels: int
    dtype: torch.dtype
    seed: int

    def laid(self, size: tuple[int, int], written: bool) -> torch.Tensor:
        """Contiguous, or, every second time, in some layout."""
        shape = (*self.shape[:-2], *size)
        self.seed += 1
        layouts = WRITABLE if written else list(LAYOUTS.values())
        layout = layouts[self.seed % len(layouts)] if self.seed // 100 % 2 else LAYOUTS["contiguous"]
        return layout(blank(*shape, dtype=self.dtype) if written else draw(*shape, seed=self.seed, dtype=self.dtype))

    def __post_init__(self) -> None:
        *_, height, width = self.shape
        self.sizes = sizes = level_sizes((height, width), self.levels)
        gathers = self.name in ("collapse", "laplacian_pyramid_adjoint")
        image = self.laid(sizes[0], gathers)
        levels = [self.laid(size, not gathers) for size in (sizes if gathers or self.name == NAMES[0] else sizes[1:])]
        work = [self.laid(size, True).contiguous() for size in (sizes[1:] if gathers or self.name == NAMES[0] else [])]
        self.inputs = levels if gathers else [image]
        outputs = [0] if gathers else range(1, 1 + len(levels))
        call = (*call_numbers(self.dtype, self.border), self.levels)
        self.case = harness.Case(self.name, call, [image, *levels, *work], outputs, f"{self.name} {self.border}")

    def results(self, apply: object, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """By single operators."""
        made = getattr(reference, self.name)(inputs, self.sizes, "binomial", self.border, apply)
        return made[1:] if self.name == "collapse_adjoint" else made


def make_pyramids() -> Iterator[Pyramid]:
    seeds = itertools.count(0, 100)
    for name, border, (shape, levels) in itertools.product(NAMES, BORDERS, SHAPES):
        seed = next(seeds)
        yield Pyramid(name, border, shape, levels, FLOATS[seed // 100 % 3], seed)
    # More levels than one launch makes, and a dtype it does not take: a launch for each level.
    for name in NAMES:
        yield Pyramid(name, "reflect", (2, 33, 20), 9, torch.float32, next(seeds))
        yield Pyramid(name, "symmetric", (2, 9, 6), 2, torch.float64, next(seeds))
    yield Pyramid("laplacian_pyramid", "reflect", (40, 3, 0, 8, 8), 2, torch.float32, next(seeds))


PYRAMIDS = list(make_pyramids())


Results = list[tuple[Pyramid, list[torch.Tensor]]]


@pytest.fixture(scope="module", params=SANITIZERS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    got = harness.run_all(request.param, [it.case for it in PYRAMIDS], tmp_path_factory.mktemp("run"))
    return list(zip(PYRAMIDS, got, strict=True))


def test_equals_the_reference(results: Results) -> None:
    for it, got in results:
        want = it.results(reference.apply, [x.double() for x in it.inputs])
        scale = max([x.abs().max().item() for x in it.inputs if x.numel()], default=0.0) * 4 ** min(it.levels, 3)
        for mine, each in zip(got, want, strict=True):
            tolerance = Cost(0, 60, 2, 3).error(mine.dtype, it.levels) * scale + torch.finfo(mine.dtype).tiny
            assert_close(mine, to_numpy(each), tolerance, str(it.case))


def test_equals_the_cpu_backend_to_the_bit(results: Results) -> None:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore.native import pyramid as cpu

    for it, got in results:
        for mine, want in zip(got, it.results(cpu.apply, it.inputs), strict=True):
            assert_same_bits(mine, want, str(it.case))


@pytest.mark.parametrize(
    ("kernel", "name", "which"),
    [
        ("pyramid_plane.cu", "laplacian_pyramid", 0),
        ("pyramid_plane.cu", "laplacian_pyramid_adjoint", 1),
        ("pyramid_level.cu", "laplacian_pyramid_adjoint", 0),
    ],
)
@pytest.mark.slow
def test_a_missing_barrier_is_seen(kernel: str, name: str, which: int, tmp_path: Path) -> None:
    kernels = harness.without_barrier(harness.ROOT / "csrc/cuda" / kernel, which, tmp_path)
    levels = 9 if kernel == "pyramid_level.cu" else 2
    case = Pyramid(name, "reflect", (12, 8, 8), levels, torch.float32, 0).case
    done = harness.run(harness.program("thread", kernels), [case], tmp_path)
    assert done.returncode != 0 and "data race" in done.stderr
