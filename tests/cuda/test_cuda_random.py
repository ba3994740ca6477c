"""Noise on the CUDA kernels: words, uniforms and normals of the reference, all to the bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lapcore.reference import random as reference
from tests.cuda import harness
from tests.cuda.harness import DTYPES, REFUSED_STREAM, SANITIZERS, blank
from tests.tolerance import assert_same_bits

CPU = torch.device("cpu")
KINDS = ("bits", "uniform", "normal")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ENDS = (0, -1, 2**31, 2**32, 2**63 - 1, -(2**63))
# Rows shorter than a warp's packs, of a chunk and a few, and of whole packs.
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 130, 1024, 1027, 2052)


def case(kind: str, dtype: torch.dtype, seeds: torch.Tensor, shape: tuple[int, int], stream: int) -> harness.Case:
    per_row = len(seeds) == shape[0] and shape[0] > 1
    numbers = (KINDS.index(kind), DTYPES.index(dtype) if kind != "bits" else 0, 0, int(per_row), stream)
    device_rows = shape if per_row else (1, shape[0] * shape[1])
    out = blank(*device_rows, dtype=dtype)

    def expected() -> list[torch.Tensor]:
        arguments = shape, seeds, stream, CPU
        return [getattr(reference, kind)(*arguments, *(() if kind == "bits" else (dtype,))).view(device_rows)]

    return harness.Case("random", numbers, [seeds, out], [1], f"{kind} {dtype}", expected)


def make_cases() -> Iterator[harness.Case]:
    kinds = itertools.cycle([("bits", torch.int32), *itertools.product(("uniform", "normal"), FLOATS)])
    ends = itertools.cycle(itertools.product(ENDS, ENDS))
    for length, rows, per_row in itertools.product(LENGTHS, (1, 3), (False, True)):
        if per_row and rows == 1:
            continue
        for _ in range(3):
            (kind, dtype), (seed, stream) = next(kinds), next(ends)
            seeds = torch.tensor([seed, 9, 3, 9, -seed // 2, 9])[::2] if per_row else torch.tensor([seed])
            yield case(kind, dtype, seeds, (rows, length), stream)


CASES = list(make_cases())


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_equals_the_reference_to_the_bit(sanitizer: str, tmp_path: Path) -> None:
    cases = harness.share(sanitizer, CASES)
    for it, (got,) in zip(cases, harness.run_all(sanitizer, cases, tmp_path), strict=True):
        assert it.expected is not None
        assert_same_bits(got, it.expected()[0], str(it))


def test_uniforms_stay_inside_the_interval(tmp_path: Path) -> None:
    """Seeds whose first block holds the words 0 and 0xFFFFFFFF."""
    seeds = torch.tensor([1343428, 627779616, 454088803, 1352247272])
    cases = [case("uniform", dtype, seeds, (4, 4), 0) for dtype in FLOATS]
    for it, (got,) in zip(cases, harness.run_all(SANITIZERS[0], cases, tmp_path), strict=True):
        assert it.expected is not None
        assert_same_bits(got, it.expected()[0])
        assert (got > 0).all() and (got < 1).all()


def test_a_refused_launch_is_an_error(tmp_path: Path) -> None:
    refused = case("bits", torch.int32, torch.tensor([1]), (1, 4), 0)
    refused.numbers = (*refused.numbers[:2], REFUSED_STREAM, *refused.numbers[3:])
    done = harness.run(harness.program(SANITIZERS[0]), [refused], tmp_path)
    assert done.returncode == 2 and "invalid configuration argument" in done.stderr
