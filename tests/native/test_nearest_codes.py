"""vector_quantize of csrc/cpu: every instruction set, every tail of a tile, threads, strides, memory."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch

from lapcore import native
from tests.allocations import peak
from tests.oracle import vector_quantize as oracle
from tests.tolerance import ACCUMULATOR, assert_same_bits, to_numpy

Tensor = torch.Tensor

if (reason := native.missing()) is not None:
    pytest.skip(reason, allow_module_level=True)

from lapcore import _C  # noqa: E402
from lapcore.native.vector_quantize import vector_quantize  # noqa: E402

FUSED = [isa for isa in _C.isas() if isa != "baseline"]


def draw(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def check(z: Tensor, codebook: Tensor) -> Tensor:
    """Against the bound that csrc/cpu/vector_quantize.cpp states."""
    quantized, indices = vector_quantize(z, codebook)
    assert quantized.dtype == z.dtype and indices.dtype == torch.int64
    assert_same_bits(quantized, codebook[indices])
    rows, codes = to_numpy(z), to_numpy(codebook)
    unit = torch.finfo(ACCUMULATOR[z.dtype]).eps / 2
    allowed = 4 * (z.shape[1] + 2) * unit * oracle.magnitude(rows, codes)
    excess = oracle.excess(rows, codes, to_numpy(indices))
    assert (excess <= allowed).all(), f"row {int(np.argmax(excess - allowed))} of {z.shape}, {codebook.shape}"
    return indices


@pytest.mark.parametrize("isa", _C.isas())
def test_every_tail_of_a_tile(isa: str) -> None:
    _C.use_isa(isa)
    for rows, codes, size in product((1, 7, 16, 33, 257), (1, 4, 11, 13, 48), (1, 3, 63, 64, 65, 130)):
        check(draw(rows, size, 1), draw(codes, size, 2))


@pytest.mark.parametrize("isa", _C.isas())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtypes(isa: str, dtype: torch.dtype) -> None:
    _C.use_isa(isa)
    check(draw(300, 37, 1, dtype), draw(75, 37, 2, dtype))


def test_fused_instruction_sets_choose_alike() -> None:
    z, codebook = draw(500, 40, 1) + 30, draw(200, 40, 2) + 30  # an offset, so that roundings decide
    chosen = []
    for isa in FUSED:
        _C.use_isa(isa)
        chosen.append(check(z, codebook))
    for other in chosen[1:]:
        assert torch.equal(other, chosen[0])


@pytest.mark.parametrize("isa", _C.isas())
def test_threads_and_batches_give_the_same(isa: str) -> None:
    _C.use_isa(isa)
    z, codebook = draw(1030, 24, 1) + 30, draw(130, 24, 2) + 30
    whole = vector_quantize(z, codebook)[1]
    for threads in (1, 2, 7):
        torch.set_num_threads(threads)
        assert torch.equal(vector_quantize(z, codebook)[1], whole)
    parts = [vector_quantize(z[a:b], codebook)[1] for a, b in pairwise((0, 1, 18, 50, 700, 1030))]
    assert torch.equal(torch.cat(parts), whole)


def test_any_strides() -> None:
    z, codebook = draw(90, 20, 1), draw(30, 20, 2)
    want = vector_quantize(z, codebook)[1]
    wide, tall = torch.randn(90, 33), torch.randn(60, 20)
    wide[:, 5:25], tall[::2] = z, codebook
    for rows in (z, wide[:, 5:25], z.T.contiguous().T):
        for codes in (codebook, tall[::2], codebook.T.contiguous().T):
            quantized, indices = vector_quantize(rows, codes)
            assert torch.equal(indices, want) and torch.equal(quantized, codebook[want])
    assert torch.equal(vector_quantize(z[:1].expand(40, 20), codebook)[1], want[:1].expand(40))
    assert vector_quantize(z[:0], codebook)[0].shape == (0, 20)


@pytest.mark.parametrize("isa", _C.isas())
def test_ties_and_what_is_not_finite(isa: str) -> None:
    _C.use_isa(isa)
    codebook = draw(40, 9, 2)
    doubled = torch.cat([codebook, codebook])[torch.randperm(80)]
    _, indices = vector_quantize(draw(64, 9, 1), doubled)
    first = [int((doubled == doubled[i]).all(1).nonzero()[0]) for i in indices]
    assert indices.tolist() == first
    z = draw(40, 9, 1)
    z[3, 4] = z[35, 0] = float("nan")
    assert vector_quantize(z, codebook)[1][[3, 35]].tolist() == [0, 0]
    codebook[:5, 1] = torch.tensor([float("nan"), float("inf"), -float("inf"), 3e38, 1e30])
    clean = vector_quantize(draw(40, 9, 1), codebook)[1]
    assert torch.equal(clean, vector_quantize(draw(40, 9, 1), codebook[5:])[1] + 5)
    assert vector_quantize(z, codebook[:5])[1].tolist() == [0] * 40


@pytest.mark.real_memory
def test_no_table_of_distances() -> None:
    """20000 x 20000 scores would take 1.6 GB."""
    z, codebook = draw(20000, 4, 1), draw(20000, 4, 2)
    vector_quantize(z[:100], codebook)
    assert peak(lambda: vector_quantize(z, codebook)) < 16e6
