"""The nearest codes by the CUDA kernels: against the oracle; tails, ties, what is not finite; the same for every batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cuda import harness
from tests.cuda.harness import DTYPES, SANITIZERS, blank, draw
from tests.layouts import sliced, storage_offset
from tests.oracle import vector_quantize as oracle
from tests.tolerance import ACCUMULATOR, assert_same_bits, to_numpy

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass
class Search:
    z: torch.Tensor
    codebook: torch.Tensor

    def case(self, stream: int = 0) -> harness.Case:
        results = blank(*self.z.shape, dtype=self.z.dtype), blank(len(self.z), dtype=torch.int64)
        numbers = DTYPES.index(self.z.dtype), stream
        return harness.Case("vector_quantize", numbers, [self.z, self.codebook, *results], [2, 3])

    def margin(self) -> np.ndarray:
        """How much further than the nearest a code may be: two scores, each a chain of products, and their difference."""
        z, codebook = to_numpy(self.z), to_numpy(self.codebook)
        unit = torch.finfo(ACCUMULATOR[self.z.dtype]).eps / 2
        return 4 * (self.z.shape[1] + 2) * unit * oracle.magnitude(z, codebook)


def make_searches() -> Iterator[Search]:
    """Sizes around tiles, slices and packs; parts of one and of two tiles of codes; rows aligned for packs or not."""
    sizes = [
        (1, 1, 1),
        (3, 2, 5),
        (129, 7, 8),
        (70, 130, 12),
        (2, 300, 17),
        (130, 65, 3),
        (5, 2100, 4),
        (2, 4200, 2),
        (4, 20, 64),
    ]
    for (rows, codes, depth), dtype in itertools.product(sizes, FLOATS):
        if dtype != torch.float32 and rows * codes > 5000 and (rows, dtype) != (5, torch.float64):
            continue
        layout = (torch.Tensor.contiguous, sliced, storage_offset)[(rows + codes + depth) % 3]
        z, codebook = (draw(count, depth, seed=count + k, dtype=dtype) for k, count in enumerate((rows, codes)))
        yield Search(layout(z), layout(codebook))


SEARCHES = list(make_searches())
Results = list[tuple[Search, list[torch.Tensor]]]


@pytest.fixture(scope="module", params=SANITIZERS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    searches = harness.share(request.param, SEARCHES)
    got = harness.run_all(request.param, [it.case() for it in searches], tmp_path_factory.mktemp("run"))
    return list(zip(searches, got, strict=True))


def test_finds_the_nearest(results: Results) -> None:
    for it, (quantized, indices) in results:
        assert indices.min() >= 0 and indices.max() < len(it.codebook), it.case()
        excess = oracle.excess(to_numpy(it.z), to_numpy(it.codebook), to_numpy(indices))
        assert (excess <= it.margin()).all(), f"{it.case()}: {excess.max()} of {it.margin().min()}"
        assert_same_bits(quantized, it.codebook[indices], str(it.case()))


def nearest(tmp_path: Path, *searches: Search) -> list[torch.Tensor]:
    found = harness.run_all(SANITIZERS[0], [it.case() for it in searches], tmp_path)
    return [indices for _, indices in found]


@pytest.mark.parametrize("dtype", FLOATS)
def test_ties_go_to_the_lowest(dtype: torch.dtype, tmp_path: Path) -> None:
    """Small integers, so that every score is exact: in one thread, between lanes, tiles, and parts."""
    codebook = torch.zeros(2200, 3, dtype=dtype)
    codebook[:, 0] = 7
    same = [[3, 5], [2, 66], [17, 140], [130, 2199], [700, 1500]]
    for k, places in enumerate(same):
        codebook[places] = torch.tensor([k, 1, -k], dtype=dtype)
    z = torch.stack([codebook[places[0]] for places in same])
    (indices,) = nearest(tmp_path, Search(z, codebook))
    assert indices.tolist() == [places[0] for places in same]


def test_what_is_not_finite(tmp_path: Path) -> None:
    """No such code is the nearest; a vector with a NaN gets 0; where there is no other code, 0 too."""
    nan, inf = torch.nan, torch.inf
    codebook = torch.tensor([[nan, 0], [inf, 0], [5, 5], [0, 1], [1e20, 0], [-inf, inf]])
    z = torch.tensor([[0.0, 0.0], [nan, 0], [6, 5], [1e20, 0], [0, nan], [-1e30, 1e30]])
    finite, none = nearest(tmp_path, Search(z, codebook), Search(z, codebook[[0, 1, 5]]))
    assert finite[[0, 1, 2, 4]].tolist() == [3, 0, 2, 0]
    assert set(finite.tolist()) <= {0, 2, 3}
    assert none.tolist() == [0] * 6


def test_the_same_for_every_batch(tmp_path: Path) -> None:
    """Codes closer together than rounding errors: another order of the sum would choose others."""
    codebook = 1 + 1e-6 * draw(260, 33, seed=0, dtype=torch.float32)
    z = 1 + 1e-6 * draw(131, 33, seed=1, dtype=torch.float32)
    whole, *parts = nearest(tmp_path, Search(z, codebook), *(Search(z[n:m], codebook) for n, m in ((0, 1), (5, 131))))
    assert len(whole.unique()) > 5
    assert parts[0].equal(whole[:1]) and parts[1].equal(whole[5:])


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_barrier_is_seen(which: int, tmp_path: Path) -> None:
    """Those of the tile product, which Parzen windows share; neither family has others."""
    kernels = harness.without_barrier_of_header("cuda/tile_product.h", which, tmp_path)
    z, codebook = (draw(20, 20, seed=k, dtype=torch.float32) for k in range(2))
    done = harness.run(harness.program("thread", kernels), [Search(z, codebook).case()], tmp_path)
    assert done.returncode != 0 and "data race" in done.stderr


def test_a_refused_launch_is_an_error(tmp_path: Path) -> None:
    it = Search(torch.zeros(2, 3), torch.zeros(4, 3))
    done = harness.run(harness.program(SANITIZERS[0]), [it.case(harness.REFUSED_STREAM)], tmp_path)
    assert done.returncode == 2 and "CUDA: invalid configuration argument" in done.stderr
