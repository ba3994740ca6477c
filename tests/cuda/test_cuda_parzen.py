"""Parzen windows by the CUDA kernels: against the oracle, on tails, extremes and NaN, the same bits for every batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cuda import harness
from tests.cuda.harness import DTYPES, SANITIZERS, blank, draw
from tests.layouts import sliced, storage_offset
from tests.oracle import parzen as oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

TEN = [10 ** (k / 9 - 1) for k in range(10)]


@dataclass
class Windows:
    x: torch.Tensor
    samples: torch.Tensor
    sigmas: list[float]

    def case(self, stream: int = 0) -> harness.Case:
        result = blank(len(self.sigmas), len(self.x), dtype=self.x.dtype)
        sigmas = torch.tensor(self.sigmas, dtype=torch.float64)
        numbers = DTYPES.index(self.x.dtype), stream
        return harness.Case("parzen_log_likelihood", numbers, [self.x, self.samples, sigmas, result], [3])

    def expected(self) -> np.ndarray:
        return np.stack(
            [oracle.parzen_log_likelihood(to_numpy(self.x), to_numpy(self.samples), s) for s in self.sigmas]
        )

    def tolerance(self) -> np.ndarray:
        """Chains of products for the distance, divided by sigma^2; exponentials of 4 ulp, added lane by lane, tile by tile."""
        x, samples = to_numpy(self.x), to_numpy(self.samples)
        magnitude = np.stack([oracle.parzen_magnitude(x, samples, s) for s in self.sigmas])
        unit = torch.finfo(self.x.dtype).eps / 2
        return ((x.shape[1] + 6) * magnitude + len(samples) / 128 + 32) * unit


def make_windows() -> Iterator[Windows]:
    """Sizes around tiles, slices and packs; parts of one and of two tiles of samples; one and two launches for the sigmas."""
    sizes = [(1, 1, 1), (3, 2, 5), (129, 7, 8), (20, 130, 12), (2, 300, 17), (5, 2100, 4), (1, 4200, 2), (4, 20, 64)]
    for (rows, count, depth), dtype in itertools.product(sizes, (torch.float32, torch.float64)):
        if dtype == torch.float64 and count > 3000:
            continue
        layout = (torch.Tensor.contiguous, sliced, storage_offset)[(rows + count + depth) % 3]
        x, samples = (draw(n, depth, seed=n + k, dtype=dtype) for k, n in enumerate((rows, count)))
        sigmas = TEN if rows == 3 else [*TEN, 2.0, 3.0, 5.0, 8.0, 20.0, 1e3, 0.03] if rows == 2 else [0.5]
        yield Windows(layout(x), layout(samples), sigmas)


WINDOWS = list(make_windows())
Results = list[tuple[Windows, list[torch.Tensor]]]


@pytest.fixture(scope="module", params=SANITIZERS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    windows = harness.share(request.param, WINDOWS)
    got = harness.run_all(request.param, [it.case() for it in windows], tmp_path_factory.mktemp("run"))
    return list(zip(windows, got, strict=True))


def test_equals_the_oracle(results: Results) -> None:
    for it, (got,) in results:
        assert_close(got, it.expected(), it.tolerance(), str(it.case()))


def run(tmp_path: Path, *windows: Windows) -> list[torch.Tensor]:
    return [got for (got,) in harness.run_all(SANITIZERS[0], [it.case() for it in windows], tmp_path)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_that_is_a_sample_is_at_no_distance(dtype: torch.dtype, tmp_path: Path) -> None:
    """The half norms are the very chains of the product: nothing is left over for a small sigma to magnify."""
    samples = 100 * draw(30, 19, seed=0, dtype=dtype)
    got = run(tmp_path, Windows(samples, samples, [1e-6, 1e-25]))[0]
    for row, sigma in zip(got, (1e-6, 1e-25), strict=True):
        expected = -math.log(30) - 19 * math.log(sigma * math.sqrt(2 * math.pi))
        assert_close(row, np.full(30, expected), 4 * torch.finfo(dtype).eps * abs(expected))


def test_what_is_not_finite_or_out_of_reach(tmp_path: Path) -> None:
    """Infinitely far, without a NaN; the sums of a row whose samples are all beyond exp's reach are of its nearest."""
    inf = torch.inf
    x = torch.tensor([[0.0, 0], [inf, 0], [1e25, 0], [0, 3e3], [0, -inf], [1e19, 0]])
    samples = torch.tensor([[1.0, 0], [0, inf], [2, 0], [-1e25, -1e25]])
    it = Windows(x, samples, [0.1, 1.0, 1e10, 1e-25, 1e22])
    with np.errstate(over="ignore"):
        expected = it.expected()
    expected[:, [1, 2, 4]] = -np.inf  # the square of 1e25 is beyond float32
    near = torch.tensor(expected).float()  # what overflows there is infinite
    got = run(tmp_path, it)[0]
    assert not got.isnan().any()
    assert_close(got, to_numpy(near), 1e-4 * np.nan_to_num(abs(expected), posinf=0.0) + 1e-5)
    (alone,) = run(tmp_path, Windows(x, samples[1:2], [1.0]))
    assert (alone == -inf).all()


def test_nan_stays_in_its_row_and_spreads_from_the_samples(tmp_path: Path) -> None:
    x, samples = (draw(n, 3, seed=n, dtype=torch.float32) for n in (9, 140))
    broken_x, broken_samples = x.clone(), samples.clone()
    broken_x[4, 1] = broken_samples[137, 2] = torch.nan
    whole, row, column = run(
        tmp_path, *(Windows(a, b, [0.3, 1.0]) for a, b in ((x, samples), (broken_x, samples), (x, broken_samples)))
    )
    assert row[:, 4].isnan().all() and column.isnan().all()
    others = [n for n in range(9) if n != 4]
    assert_same_bits(row[:, others], whole[:, others])


def test_the_same_bits_for_every_batch_and_every_set_of_sigmas(tmp_path: Path) -> None:
    x, samples = (draw(n, 11, seed=n, dtype=torch.float32) for n in (131, 270))
    whole, first, rest, one = run(
        tmp_path,
        Windows(x, samples, [0.3, 1.0]),
        Windows(x[:1], samples, [0.3, 1.0]),
        Windows(x[5:], samples, [0.3, 1.0]),
        Windows(x, samples, [1.0]),
    )
    assert first.equal(whole[:, :1]) and rest.equal(whole[:, 5:]) and one.equal(whole[1:])


def test_a_refused_launch_is_an_error(tmp_path: Path) -> None:
    it = Windows(torch.zeros(2, 3), torch.zeros(4, 3), [1.0])
    done = harness.run(harness.program(SANITIZERS[0]), [it.case(harness.REFUSED_STREAM)], tmp_path)
    assert done.returncode == 2 and "CUDA: invalid configuration argument" in done.stderr
