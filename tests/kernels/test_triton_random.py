"""Triton's noise: words and uniforms of the oracle, normals of the reference, all to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lapcore.reference import random as reference
from tests.oracle import random as oracle
from tests.tolerance import NORMAL, assert_close, assert_same_bits

pytest.importorskip("triton", reason="triton is not installed")

from lapcore.kernels import random

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CPU = torch.device("cpu")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ENDS = (0, -1, 2**31, -(2**31) - 1, 2**32, 2**63 - 1, -(2**63))
# Rows shorter and longer than a tile of 1024, and one seed over rows that begin inside a block.
CALLS = [((7, length), True) for length in (1, 2, 3, 4, 5, 7, 8, 9)]
CALLS += [((3, 2, 5), False), ((2, 1025), True), ((1, 2050), False), ((5,), True), ((2, 0), True), ((0, 3), True)]


def seeds_of(shape: tuple[int, ...], per_row: bool, first: int = 2**40 + 9) -> torch.Tensor:
    """One on the CPU, or one for each row on the device, of a stride that is not 1."""
    if not per_row:
        return torch.tensor([first])
    return (torch.arange(2 * shape[0], device=DEVICE) * 2**35 + first)[::2]


@pytest.mark.parametrize("seed", ENDS)
@pytest.mark.parametrize("stream", ENDS)
def test_bits_equal_the_oracle(seed: int, stream: int) -> None:
    got = random.bits((2, 5), torch.tensor([seed]), stream, DEVICE)
    assert got.dtype == torch.int32
    np.testing.assert_array_equal(got.cpu().numpy().view(np.uint32), oracle.bits((2, 5), seed, stream))
    rows = torch.tensor([seed, 3], device=DEVICE)
    got = random.bits((2, 5), rows, stream, DEVICE)
    np.testing.assert_array_equal(got.cpu().numpy().view(np.uint32), oracle.bits((2, 5), rows.tolist(), stream))


@pytest.mark.parametrize(("shape", "per_row"), CALLS, ids=str)
def test_every_kind_equals_the_reference_to_the_bit(shape: tuple[int, ...], per_row: bool) -> None:
    seeds = seeds_of(shape, per_row)
    assert_same_bits(random.bits(shape, seeds, 3, DEVICE).cpu(), reference.bits(shape, seeds.cpu(), 3, CPU))
    for dtype in DTYPES:
        for kind in ("uniform", "normal"):
            got = getattr(random, kind)(shape, seeds, 3, DEVICE, dtype)
            assert got.shape == shape and got.is_contiguous()
            want = getattr(reference, kind)(shape, seeds.cpu(), 3, CPU, dtype)
            assert_same_bits(got.cpu(), want, f"{kind} {dtype}")


def test_normals_are_those_of_the_float64_oracle() -> None:
    got = random.normal((2, 3000), torch.tensor([7, -7], device=DEVICE), 0, DEVICE, torch.float32)
    assert_close(got, oracle.normal((2, 3000), [7, -7]), NORMAL)


def test_uniforms_stay_inside_the_interval() -> None:
    """Seeds whose first block holds the words 0 and 0xFFFFFFFF."""
    seeds = torch.tensor([1343428, 627779616, 454088803, 1352247272], device=DEVICE)
    for dtype in DTYPES:
        u = random.uniform((4, 4), seeds, 0, DEVICE, dtype)
        assert (u > 0).all() and (u < 1).all()
        assert_same_bits(u.cpu(), reference.uniform((4, 4), seeds.cpu(), 0, CPU, dtype))
        assert random.normal((4, 4), seeds, 0, DEVICE, dtype).isfinite().all()


def test_rows_do_not_depend_on_their_batch() -> None:
    seeds = torch.tensor([5, -7, 2**60], device=DEVICE)
    whole = random.normal((3, 37), seeds, 4, DEVICE, torch.float32)
    for i in range(3):
        alone = random.normal((1, 37), seeds[i : i + 1], 4, DEVICE, torch.float32)
        assert_same_bits(alone.cpu(), whole[i : i + 1].cpu())
