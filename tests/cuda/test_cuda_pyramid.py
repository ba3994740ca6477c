"""The CUDA kernels of single operators without a GPU, against the oracle and the cpu backend's bits, and how Python calls them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lapcore import native
from lapcore.reference.taps import tables
from tests.cuda import harness
from tests.cuda.harness import BORDERS, OPS, SANITIZERS, blank, call_numbers, draw
from tests.layouts import LAYOUTS
from tests.oracle import integer
from tests.oracle import pyramid as oracle
from tests.tolerance import Cost, assert_close, assert_same_bits, to_numpy

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int16, torch.uint16)
TAPS = Cost(25 + 1)  # at most 5 x 5 taps, and the base
SIZES = ((1, 1), (2, 3), (5, 1), (4, 8), (9, 7), (19, 70))
"""Of the finer image: single samples and pairs, all ends and no interior, both, and more than one tile."""


@dataclass
class Operator:
    op: str
    border: str
    src: torch.Tensor
    size: tuple[int, int]
    base: torch.Tensor | None = None
    alpha: int = 1
    dst: torch.Tensor | None = None
    filter: str = "binomial"
    stream: int = 0

    def case(self) -> harness.Case:
        band = torch.int16 if self.base is not None and not self.src.dtype.is_floating_point else self.src.dtype
        dst = blank(*self.src.shape[:-2], *self.size, dtype=band) if self.dst is None else self.dst
        call = call_numbers(self.src.dtype, self.border, self.stream)
        images = [self.src, self.base, dst]
        if self.filter == "binomial":
            return harness.Case(
                "apply", (*call, OPS.index(self.op), self.alpha), images, [2], f"{self.op} {self.border}"
            )
        taps = self.tables()
        return harness.Case("apply_table", (*call, self.alpha), [*images, *taps], [2], f"{self.op} {self.filter}")

    def tables(self) -> tuple[torch.Tensor, ...]:
        compute = torch.promote_types(self.src.dtype, torch.float32)
        source = self.src.shape[-2], self.src.shape[-1]
        return tables(self.op, source, self.size, self.filter, self.border, self.src.device, compute)


def source_and_target(op: str, fine: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    coarse = ((fine[0] + 1) // 2, (fine[1] + 1) // 2)
    return (fine, coarse) if op in ("down", "up_adjoint") else (coarse, fine)


def float_operators() -> Iterator[Operator]:
    """Every operator, border and size; dtypes, layouts, bases and leading dimensions take turns."""
    layouts = itertools.cycle(LAYOUTS.values())
    leads = itertools.cycle([(), (2,), (1, 3), (2, 1, 2)])
    for seed, (op, border, fine) in enumerate(itertools.product(OPS, BORDERS, SIZES)):
        dtype = FLOATS[(seed + seed // len(FLOATS)) % len(FLOATS)]
        lead = next(leads) if max(fine) < 10 else ()
        size, target = source_and_target(op, fine)
        src = next(layouts)(draw(*lead, *size, seed=seed, dtype=dtype))
        base = next(layouts)(draw(*lead, *target, seed=1000 + seed, dtype=dtype)) if seed % 3 else None
        written = WRITABLE[seed % len(WRITABLE)](blank(*lead, *target, dtype=dtype))
        yield Operator(op, border, src, target, base, -1 if seed % 2 else 1, written)

    yield MANY_TILES
    # An empty batch; six leading dimensions that cannot be merged.
    yield Operator("down", "reflect", draw(3, 0, 5, 4, seed=2, dtype=torch.float32), (3, 2))
    six = draw(2, 1, 2, 2, 1, 2, 2, 2, 3, 4, seed=3, dtype=torch.float64).permute(6, 1, 3, 5, 2, 4, 0, 7, 8, 9)
    yield Operator("down", "circular", six, (2, 2), six[..., :2, :2], -1)

    # NaN, infinities, subnormal and overflowing halves.
    for dtype in FLOATS:
        special = draw(9, 9, seed=4, dtype=dtype)
        special[0, 0], special[4, 4], special[8, 3] = torch.nan, torch.inf, -torch.inf
        special[6, 6:] = torch.finfo(dtype).max
        special[2, 5:] = torch.finfo(dtype).tiny / 2
        yield Operator("down", "replicate", special, (5, 5), special[:5, :5], 1)
        yield Operator("up", "symmetric", special[:3, 5:], (6, 7))


WRITABLE = [layout for name, layout in LAYOUTS.items() if not name.startswith("expanded")]
MANY_TILES = Operator("down", "reflect", draw(40, 9, 40, seed=1, dtype=torch.float64), (5, 20))
"""More than there are blocks, so that a block takes a second one."""


def integer_operators() -> Iterator[Operator]:
    layouts = itertools.cycle(LAYOUTS.values())
    for seed, (op, border, fine) in enumerate(itertools.product(("down", "up"), BORDERS, SIZES)):
        for dtype in (INTEGERS[seed % 3], torch.uint8):
            size, target = source_and_target(op, fine)
            src = next(layouts)(draw(2, *size, seed=seed, dtype=dtype))
            base = None if dtype is torch.uint16 or seed % 2 else draw(2, *target, seed=1000 + seed, dtype=dtype)
            written = None if base is not None else WRITABLE[seed % len(WRITABLE)](blank(2, *target, dtype=dtype))
            yield Operator(op, border, src, target, base, -1 if seed % 4 else 1, written)
    full = torch.full((5, 7), 65535, dtype=torch.int32).to(torch.uint16)
    yield Operator("down", "reflect", full, (3, 4))


def table_operators() -> Iterator[Operator]:
    """Both filters, ratios of two and others, more than one tile and more than a tile keeps of a line."""
    layouts = itertools.cycle(LAYOUTS.values())
    seeds = itertools.count()
    down = [((1, 1), (1, 1)), ((7, 6), (3, 3)), ((9, 1), (4, 1)), ((14, 14), (8, 8)), ((12, 160), (9, 34))]
    for filter, (fine, coarse), adjoint in itertools.product(("half_pixel", "area"), down, (False, True)):
        for border in BORDERS if filter == "half_pixel" else BORDERS[:1]:
            for op, source, target in (("down", fine, coarse), ("up", coarse, fine)):
                seed = next(seeds)
                dtype = FLOATS[seed % len(FLOATS)]
                size, target = (target, source) if adjoint else (source, target)
                src = next(layouts)(draw(*size, seed=seed, dtype=dtype))
                base = next(layouts)(draw(*target, seed=1000 + seed, dtype=dtype)) if seed % 3 else None
                written = WRITABLE[seed % len(WRITABLE)](blank(*target, dtype=dtype))
                name = f"{op}_adjoint" if adjoint else op
                yield Operator(name, border, src, target, base, -1 if seed % 2 else 1, written, filter)


OPERATORS = [*float_operators(), *table_operators()]
INTEGER_OPERATORS = list(integer_operators())
Results = list[list[torch.Tensor]]


def expected(it: Operator, src: np.ndarray, base: np.ndarray | None, alpha: int) -> np.ndarray:
    function = getattr(oracle, f"pyr_{it.op}")
    if it.op == "down":
        out = function(src, it.border, it.filter, it.size)
    elif it.op == "up":
        out = function(src, it.size, it.border, it.filter)
    else:
        out = function(src, it.size, it.border, it.filter)
    return out if base is None else base + alpha * out


@pytest.fixture(scope="module", params=SANITIZERS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    cases = [it.case() for it in (*OPERATORS, *INTEGER_OPERATORS)]
    return harness.run_all(request.param, cases, tmp_path_factory.mktemp("run"))


def test_equals_the_oracle(results: Results) -> None:
    for it, (got,) in zip(OPERATORS, results, strict=False):
        src, base = to_numpy(it.src), None if it.base is None else to_numpy(it.base)
        if not np.isfinite(src).all():
            continue
        want = expected(it, src, base, it.alpha)
        scale = expected(it, np.abs(src), None if base is None else np.abs(base), 1).max(initial=0.0)
        taps = TAPS if it.filter == "binomial" else Cost(2 * 2 * sum(len(taps) for taps in it.tables()[::2]))
        tolerance = taps.error(it.src.dtype, 0) * scale + torch.finfo(it.src.dtype).tiny
        assert_close(got, want, tolerance, str(it.case()))


def test_integers_equal_the_oracle(results: Results) -> None:
    for it, (got,) in zip(INTEGER_OPERATORS, results[len(OPERATORS) :], strict=True):
        src, dtype = it.src.numpy(), str(it.src.dtype).removeprefix("torch.")
        rounded = {"down": integer.pyr_down, "up": integer.pyr_up}[it.op]
        want = rounded(src, dtype, border=it.border, **({"size": it.size} if it.op == "up" else {}))
        if it.base is not None:
            want = integer.saturate(it.base.numpy().astype(np.int64) + it.alpha * want, "int16")
        assert np.array_equal(got.numpy(), want), str(it.case())


def test_equals_the_cpu_backend_to_the_bit(results: Results) -> None:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore.native import pyramid as cpu

    for it, (got,) in zip((*OPERATORS, *INTEGER_OPERATORS), results, strict=True):
        taps: Any = None if it.filter == "binomial" else it.tables()
        want = cpu.apply(it.op, it.src, it.size, it.filter, it.border, it.base, it.alpha, tables=taps)
        assert_same_bits(got, want, str(it.case()))


@pytest.mark.parametrize(
    ("kernel", "operator"),
    [
        ("pyramid.cu", MANY_TILES),
        ("pyramid_table.cu", Operator("down", "reflect", MANY_TILES.src, (5, 20), filter="area")),
    ],
    ids=["pyramid", "table"],
)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.slow
def test_a_missing_barrier_is_seen(kernel: str, operator: Operator, which: int, tmp_path: Path) -> None:
    kernels = harness.without_barrier(harness.ROOT / "csrc/cuda" / kernel, which, tmp_path)
    done = harness.run(harness.program("thread", kernels), [operator.case()], tmp_path)
    assert done.returncode != 0 and "data race" in done.stderr


def test_a_refused_launch_is_an_error(tmp_path: Path) -> None:
    stream = harness.REFUSED_STREAM
    it = Operator("down", "reflect", draw(4, 4, seed=0, dtype=torch.float32), (2, 2), stream=stream)
    done = harness.run(harness.program(SANITIZERS[0]), [it.case()], tmp_path)
    assert done.returncode == 2 and done.stderr == "CUDA: invalid configuration argument\n"


def test_more_leading_dimensions_than_the_kernel_counts_are_refused(tmp_path: Path) -> None:
    src = draw(2, 2, 2, 2, 2, 2, 2, 1, 1, seed=0, dtype=torch.float32).permute(6, 5, 4, 3, 2, 1, 0, 7, 8)
    done = harness.run(harness.program(SANITIZERS[0]), [Operator("down", "reflect", src, (1, 1)).case()], tmp_path)
    assert done.returncode == 2 and "more than 6 leading dimensions" in done.stderr
