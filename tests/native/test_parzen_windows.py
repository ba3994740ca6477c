"""parzen_log_likelihood of csrc/cpu: every instruction set, every tail of a tile, threads, spans of samples, accuracy, memory."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from lapcore import native
from tests.allocations import peak
from tests.oracle import parzen as oracle
from tests.tolerance import ACCUMULATOR, assert_close, assert_same_bits, to_numpy

Tensor = torch.Tensor

if (reason := native.missing()) is not None:
    pytest.skip(reason, allow_module_level=True)

from lapcore import _C  # noqa: E402
from lapcore.native.parzen import parzen_log_likelihood  # noqa: E402

FUSED = [isa for isa in _C.isas() if isa != "baseline"]
SIGMAS = [0.3, 2.5, 1.0]


def draw(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def check(x: Tensor, samples: Tensor, sigmas: list[float]) -> None:
    """A product is a chain of at most 256 steps in the type of the arithmetic; ten more roundings before it and after."""
    got = parzen_log_likelihood(x, samples, sigmas)
    unit = torch.finfo(ACCUMULATOR[x.dtype]).eps / 2
    rows, centres = to_numpy(x), to_numpy(samples)
    mean = centres.mean(0)
    steps = min(x.shape[1], 256 if x.dtype != torch.float64 else x.shape[1]) + 10
    for values, sigma in zip(got, sigmas, strict=True):
        want = oracle.parzen_log_likelihood(rows, centres, sigma)
        allowed = steps * unit * oracle.parzen_magnitude(rows - mean, centres - mean, sigma)
        assert_close(values, want, allowed, f"{tuple(x.shape)} {tuple(samples.shape)} {x.dtype} sigma {sigma}")


@pytest.mark.parametrize("isa", _C.isas())
def test_every_tail_of_a_tile(isa: str) -> None:
    _C.use_isa(isa)
    for rows, count, size in product((1, 15, 33), (1, 7, 95, 97), (1, 63, 65, 300)):
        check(draw(rows, size, 1), draw(count, size, 2), SIGMAS)


@pytest.mark.parametrize("isa", _C.isas())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtypes(isa: str, dtype: torch.dtype) -> None:
    _C.use_isa(isa)
    check(draw(70, 37, 1, dtype), draw(130, 37, 2, dtype), SIGMAS)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_images_are_right_to_a_hundred_thousandth(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(500, 3072, generator=generator)
    x = torch.rand(150, 3072, generator=generator)
    samples[:100] = x[:100] + 0.02 * torch.randn(100, 3072, generator=generator)  # near ones, whose squares cancel
    want = oracle.parzen_log_likelihood(to_numpy(x), to_numpy(samples), sigma)
    assert_close(parzen_log_likelihood(x, samples, [sigma])[0], want, 1e-5 * np.abs(want))


def test_outliers_do_not_spoil_the_others() -> None:
    x, samples = draw(40, 300, 1), draw(200, 300, 2)
    samples[::50] *= 1e4
    x[::10, ::7] *= 1e3
    check(x, samples, SIGMAS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_fused_instruction_sets_give_the_same_bits(dtype: torch.dtype) -> None:
    x, samples = draw(90, 300, 1, dtype), draw(210, 300, 2, dtype)
    results = []
    for isa in FUSED:
        _C.use_isa(isa)
        results.append(parzen_log_likelihood(x, samples, [*SIGMAS, 20.0]))
    for other in results[1:]:
        assert_same_bits(other, results[0])


@pytest.mark.parametrize("isa", _C.isas())
def test_threads_and_batches_give_the_same_bits(isa: str) -> None:
    """9000 samples are two spans, which the tasks of few rows share."""
    _C.use_isa(isa)
    x, samples = draw(150, 5, 1), draw(9000, 5, 2)
    torch.set_num_threads(1)
    whole = parzen_log_likelihood(x, samples, SIGMAS)
    parts = ((0, 1, 18, 150), (0, 150))
    for threads, cuts in product((1, 2, 7), parts):
        torch.set_num_threads(threads)
        got = [parzen_log_likelihood(x[a:b], samples, SIGMAS) for a, b in pairwise(cuts)]
        assert_same_bits(torch.cat(got, 1), whole, f"{threads} threads, {cuts}")


def test_many_samples() -> None:
    """A million, in sixteen spans: the sum keeps its digits."""
    x, samples = draw(5, 2, 1), draw(1_000_000, 2, 2)
    got = to_numpy(parzen_log_likelihood(x, samples, [0.1, 3.0]))
    for values, sigma in zip(got, (0.1, 3.0), strict=True):
        exponents = -((to_numpy(x)[:, None] - to_numpy(samples)) ** 2).sum(2) / (2 * sigma**2)
        top = exponents.max(1)
        want = top + np.log(np.exp(exponents - top[:, None]).mean(1)) - 2 * math.log(sigma * math.sqrt(2 * math.pi))
        assert np.abs(values - want).max() < 1e-5


def test_any_strides() -> None:
    x, samples = draw(50, 20, 1), draw(60, 20, 2)
    want = parzen_log_likelihood(x, samples, SIGMAS)
    wide, tall = torch.randn(50, 33), torch.randn(120, 20)
    wide[:, 5:25], tall[::2] = x, samples
    for rows in (x, wide[:, 5:25], x.T.contiguous().T):
        for centres in (samples, tall[::2], samples.T.contiguous().T):
            assert_same_bits(parzen_log_likelihood(rows, centres, SIGMAS), want)
    assert parzen_log_likelihood(x[:0], samples, SIGMAS).shape == (3, 0)


@pytest.mark.parametrize("isa", _C.isas())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extremes(isa: str, dtype: torch.dtype) -> None:
    _C.use_isa(isa)
    x, samples = draw(9, 6, 1, dtype), draw(7, 6, 2, dtype)
    plain = parzen_log_likelihood(x, samples, SIGMAS)
    huge, limit = x.clone(), torch.finfo(dtype).max
    huge[0], huge[1], huge[2, 3], huge[3, 3] = limit, -limit, math.inf, math.nan
    got = parzen_log_likelihood(huge, samples, SIGMAS)
    assert (got[:, :3] == -math.inf).all() and got[:, 3].isnan().all()
    assert_same_bits(got[:, 4:], plain[:, 4:])
    more = torch.cat([samples, samples[:2] * math.inf])
    infinite = parzen_log_likelihood(x, more, [1.0])
    assert_close(infinite[0], to_numpy(plain[2]) + math.log(7 / 9), 1e-4)
    more[3, 3] = math.nan
    assert parzen_log_likelihood(x, more, SIGMAS).isnan().all()
    assert not parzen_log_likelihood(x, samples * (limit / 8), [1e-150, 1.0, 1e150]).isnan().any()


@pytest.mark.real_memory
def test_no_table_of_distances() -> None:
    """20000 x 20000 squares would take 1.6 GB."""
    x, samples = draw(20000, 4, 1), draw(20000, 4, 2)
    parzen_log_likelihood(x[:100], samples, SIGMAS)
    assert peak(lambda: parzen_log_likelihood(x, samples, SIGMAS)) < 16e6
