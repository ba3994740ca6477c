"""The CUDA kernels that stream a level through registers, against the reference and the cpu backend's bits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

from lapcore import native
from lapcore.reference import pyramid as reference
from tests.cuda import harness
from tests.cuda.harness import BORDERS, OPS, SANITIZERS, blank, call_numbers, draw
from tests.layouts import LAYOUTS, Layout
from tests.tolerance import Cost, assert_close, assert_same_bits, to_numpy

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
WRITABLE = [layout for name, layout in LAYOUTS.items() if not name.startswith("expanded")]
SIZES = ((1, 1), (2, 3), (3, 16), (8, 2), (19, 24), (6, 33), (33, 8))
"""Packed rows and others, several planes to a warp, more than one chunk of rows."""
WIDE = (6, 264)
"""More than one strip."""
Sides = tuple[int, ...]


@dataclass
class Level:
    """One call of a streaming kernel: `kind` is the runner's function; for "stream" also which operator."""

    kind: str
    border: str
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]
    op: str = "down"
    alpha: int = 1

    def case(self) -> harness.Case:
        call = call_numbers(self.inputs[0].dtype, self.border)
        if self.kind == "stream":
            src, base = (*self.inputs, None)[:2]
            return harness.Case(
                "stream", (*call, OPS.index(self.op), self.alpha), [src, base, *self.outputs], [2], self.op
            )
        tensors = [*self.inputs, *self.outputs]
        return harness.Case(self.kind, call, tensors, range(len(self.inputs), len(tensors)), self.border)

    def results(self, apply: object) -> list[torch.Tensor]:
        """By single operators."""
        size = [(x.shape[-2], x.shape[-1]) for x in (*self.inputs, *self.outputs)]
        if self.kind == "level":
            low, band = reference.laplacian_pyramid(self.inputs, size[:2], "binomial", self.border, apply)[::-1]
            return [low, band]
        if self.kind == "level_adjoint":
            return reference.laplacian_pyramid_adjoint(self.inputs, size[:2], "binomial", self.border, apply)
        src, base = (*self.inputs, None)[:2]
        return [apply(self.op, src, size[-1], "binomial", self.border, base, self.alpha)]  # type: ignore[operator]


def _image(layout: Layout, seeds: Iterator[int], lead: Sides, dtype: torch.dtype, size: Sides) -> torch.Tensor:
    return layout(draw(*lead, *size, seed=next(seeds), dtype=dtype))


def _written(layout: Layout, lead: Sides, dtype: torch.dtype, size: Sides) -> torch.Tensor:
    return layout(blank(*lead, *size, dtype=dtype))


def make_levels() -> Iterator[Level]:
    layouts = itertools.cycle(LAYOUTS.values())
    leads = itertools.cycle([(), (5,), (2, 1, 2)])
    seeds = itertools.count()
    kinds = ["level", "level_adjoint", *OPS]
    for kind, border, fine in itertools.product(kinds, BORDERS, (*SIZES, WIDE)):
        if fine == WIDE and border != "reflect" and (kind, border) != ("level", "circular"):
            continue
        if kind.endswith("adjoint") and border == "circular" and kind != "level_adjoint":
            continue
        seed = next(seeds)
        dtype = FLOATS[seed % len(FLOATS)]
        lead = next(leads) if fine != WIDE else ()
        low = ((fine[0] + 1) // 2, (fine[1] + 1) // 2)
        # Every second case lies contiguous, so that what can move in packs does.
        layout = next(layouts) if seed % 2 else LAYOUTS["contiguous"]
        writable = WRITABLE[seed % len(WRITABLE)] if seed % 2 else LAYOUTS["contiguous"]

        image = partial(_image, layout, seeds, lead, dtype)
        written = partial(_written, writable, lead, dtype)
        if kind == "level":
            yield Level(kind, border, [image(fine)], [written(low), written(fine)])
        elif kind == "level_adjoint":
            yield Level(kind, border, [image(fine), image(low)], [written(low), written(fine)])
        else:
            src, dst = (fine, low) if kind in ("down", "up_adjoint") else (low, fine)
            base = [image(dst)] if seed % 3 else []
            yield Level("stream", border, [image(src), *base], [written(dst)], kind, -1 if seed % 2 else 1)

    special = draw(9, 16, seed=4, dtype=torch.float32)
    special[0, 0], special[4, 4], special[8, 3] = torch.nan, torch.inf, -torch.inf
    for border in ("constant", "symmetric"):
        yield Level("level", border, [special], [blank(5, 8, dtype=torch.float32), blank(9, 16, dtype=torch.float32)])


LEVELS = list(make_levels())


Results = list[tuple[Level, list[torch.Tensor]]]


@pytest.fixture(scope="module", params=SANITIZERS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    levels = harness.share(request.param, LEVELS)
    got = harness.run_all(request.param, [it.case() for it in levels], tmp_path_factory.mktemp("run"))
    # A transposed level's first output is for work.
    return [(it, each[1:] if it.kind == "level_adjoint" else each) for it, each in zip(levels, got, strict=True)]


def test_equals_the_reference(results: Results) -> None:
    for it, got in results:
        if not all(x.isfinite().all() for x in it.inputs):
            continue
        doubles = Level(it.kind, it.border, [x.double() for x in it.inputs], it.outputs, it.op, it.alpha)
        scale = max(x.abs().max().item() for x in it.inputs) * 8
        for mine, want in zip(got, doubles.results(reference.apply), strict=True):
            tolerance = Cost(60, stores=3).error(mine.dtype, 0) * scale + torch.finfo(mine.dtype).tiny
            assert_close(mine, to_numpy(want), tolerance, str(it.case()))


def test_equals_the_cpu_backend_to_the_bit(results: Results) -> None:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore.native import pyramid as cpu

    for it, got in results:
        for mine, want in zip(got, it.results(cpu.apply), strict=True):
            assert_same_bits(mine, want, str(it.case()))


def test_cases_cover_packed_and_other_rows() -> None:
    widths = np.array([it.inputs[0].shape[-1] for it in LEVELS])
    assert (widths % 8 == 0).any() and (widths % 2 == 1).any()
