"""Parzen windows: values and gradients against the oracle, what is known in closed form, extremes, and memory."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from lapcore.reference import parzen as reference
from tests import strategies
from tests.allocations import allocations, peak
from tests.layouts import LAYOUTS
from tests.oracle import parzen as oracle
from tests.tolerance import ACCUMULATOR, assert_close, assert_same_bits, to_numpy

PROBE = ("parzen_log_likelihood", (2, 3))
Tensor = torch.Tensor
# NumPy's, in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")
SIGMAS = [0.3, 1.0, 2.5]


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def centred(x: Tensor, samples: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Both as rows, around the samples' mean and around their first: either may be what a backend computes with."""
    rows, centres = (to_numpy(t).reshape(len(t), math.prod(t.shape[1:])) for t in (x, samples))
    return [(rows - centre, centres - centre) for centre in (centres.mean(0), centres[0])]


def tolerance(x: Tensor, samples: Tensor, sigma: float) -> np.ndarray:
    """A sum of D products is off by D u of their magnitudes; ten more roundings in the centring, the sum over samples, the rest."""
    unit = torch.finfo(ACCUMULATOR[x.dtype]).eps / 2
    largest = np.max([oracle.parzen_magnitude(*pair, sigma) for pair in centred(x, samples)], axis=0)
    return (math.prod(x.shape[1:]) + 10 + len(samples) / 100) * unit * largest


def check(x: Tensor, samples: Tensor, sigmas: list[float]) -> None:
    got = lapcore.parzen_log_likelihood(x, samples, sigmas)
    assert got.shape == (len(sigmas), len(x)) and got.dtype == ACCUMULATOR[x.dtype]
    for values, sigma in zip(got, sigmas, strict=True):
        want = oracle.parzen_log_likelihood(to_numpy(x), to_numpy(samples), sigma)
        assert_close(values, want, tolerance(x, samples, sigma), f"{tuple(x.shape)} {x.dtype} sigma {sigma}")


SHAPES = [
    ((5, 4), 7),
    ((1, 1), 1),
    ((3, 2, 5, 3), 9),
    ((0, 3), 2),
    ((17,), 5),
    ((33, 70), 65),
    ((2, 130), 3),
    ((70, 2), 66),
]


@pytest.mark.parametrize("dtype", strategies.DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "count"), SHAPES)
def test_values(backend: str, device: str, shape: tuple[int, ...], count: int, dtype: torch.dtype) -> None:
    check(draw(shape, 1, dtype, device), draw((count, *shape[1:]), 2, dtype, device), SIGMAS)


@pytest.mark.heavy
def test_more_rows_and_samples_than_a_tile(backend: str, device: str) -> None:
    check(draw((1100, 3), 1, device=device), draw((2100, 3), 2, device=device), [0.1])


def test_any_call(backend: str, slow_backend: bool, device: str) -> None:
    most = 20 if slow_backend else 150

    @settings(max_examples=6 if slow_backend else 60)
    @given(
        rows=st.integers(0, most),
        count=st.integers(1, most),
        size=st.integers(1, 40),
        offset=st.sampled_from([0.0, 100.0]),
        dtype=strategies.dtypes,
        layouts=st.tuples(strategies.layouts, strategies.layouts),
        sigmas=st.lists(st.floats(0.05, 20), min_size=1, max_size=3),
    )
    def run(
        rows: int,
        count: int,
        size: int,
        offset: float,
        dtype: torch.dtype,
        layouts: tuple[str, str],
        sigmas: list[float],
    ) -> None:
        plain = [(draw((n, size), seed) + offset).to(device, dtype) for n, seed in ((rows, 3), (count, 4))]
        strided = [LAYOUTS[name](x) for x, name in zip(plain, layouts, strict=True)]
        check(*strided, sigmas)
        again = lapcore.parzen_log_likelihood(*[x.contiguous() for x in strided], sigmas)
        assert_same_bits(lapcore.parzen_log_likelihood(*strided, sigmas), again)

    run()


def test_one_sigma_or_several(backend: str, device: str) -> None:
    x, samples = draw((4, 5), 1, device=device), draw((6, 5), 2, device=device)
    several = lapcore.parzen_log_likelihood(x, samples, torch.tensor(SIGMAS, dtype=torch.float64))
    assert_same_bits(several, lapcore.parzen_log_likelihood(x, samples, tuple(SIGMAS)))
    for row, sigma in zip(several, SIGMAS, strict=True):
        one = lapcore.parzen_log_likelihood(x, samples, sigma)
        assert one.shape == (4,)
        assert_close(one, to_numpy(row), tolerance(x, samples, sigma))


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
@pytest.mark.heavy
def test_accuracy_on_images(backend: str, device: str, sigma: float) -> None:
    """Images in [0, 1], 32x32x3: nats by the thousand, each right to 1e-4 of the sum of what it is made of."""
    generator = torch.Generator().manual_seed(0)
    x, samples = (torch.rand(n, 3, 32, 32, generator=generator) for n in (100, 500))
    got = lapcore.parzen_log_likelihood(x.to(device), samples.to(device), sigma)
    want = oracle.parzen_log_likelihood(to_numpy(x), to_numpy(samples), sigma)
    assert_close(got, want, 1e-4 * np.abs(want))


def test_at_a_sample(backend: str, device: str) -> None:
    """Where the squares cancel: a sample's own place, far from the origin."""
    samples = draw((5, 12), 1, device=device) + 1000
    got = lapcore.parzen_log_likelihood(samples, samples, 0.1)
    want = oracle.parzen_log_likelihood(to_numpy(samples), to_numpy(samples), 0.1)
    assert_close(got, want, tolerance(samples, samples, 0.1))


@pytest.mark.parametrize("dtype", strategies.DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(6, 5), (3, 2, 4, 3), (1, 1)])
def test_gradients(backend: str, device: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = draw(shape, 1, dtype, device).requires_grad_()
    samples = draw((7, *shape[1:]), 2, dtype, device).requires_grad_()
    result = lapcore.parzen_log_likelihood(x, samples, SIGMAS)
    grad = draw(tuple(result.shape), 3, result.dtype, device)
    got = torch.autograd.grad(result, (x, samples), grad)
    want, slack = [np.zeros(x.shape), np.zeros(samples.shape)], 0.0
    for sigma, g in zip(SIGMAS, to_numpy(grad), strict=True):
        for total, term in zip(want, oracle.parzen_gradients(g, to_numpy(x), to_numpy(samples), sigma), strict=True):
            total += term
        # A weight is off by the difference of two exponents' errors; what it multiplies is at most the longest difference.
        reach = max(np.abs(a).max() + np.abs(b).max() for a, b in centred(x, samples))
        weight = np.expm1(4 * tolerance(x, samples, sigma)) + 50 * torch.finfo(ACCUMULATOR[dtype]).eps
        slack += reach * (np.abs(g) * weight).sum() / sigma**2
    for value, expected, like in zip(got, want, (x, samples), strict=True):
        assert value.shape == like.shape and value.dtype == dtype
        assert_close(value, expected, slack + torch.finfo(dtype).eps * np.abs(expected))


@pytest.mark.heavy
def test_gradients_over_several_tiles(backend: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "ROWS", 4)
    monkeypatch.setattr(reference, "SAMPLES", 3)
    test_gradients(backend, device, (11, 5), torch.float64)


def test_every_tiling_has_the_same_second_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "ROWS", 2)
    monkeypatch.setattr(reference, "SAMPLES", 3)
    x, samples = (draw(shape, i, torch.float64).requires_grad_() for i, shape in enumerate([(3, 2), (4, 2)]))
    with lapcore.backend("reference"):
        assert torch.autograd.gradcheck(lapcore.parzen_log_likelihood, (x, samples, [0.6, 1.1]))
        assert torch.autograd.gradgradcheck(lapcore.parzen_log_likelihood, (x, samples, [0.6, 1.1]))


@pytest.mark.parametrize("sigma", [1e-200, 1e-30, 1e-6, 1e6, 1e30, 1e200])
@pytest.mark.parametrize("scale", [1e-40, 1.0, 1e15, 1e25, 3e38])
def test_finite_inputs_make_no_nan(backend: str, device: str, scale: float, sigma: float) -> None:
    x = (torch.tensor([[1.0, -1.0], [1.0, 1.0], [0.0, 0.5]]) * scale).to(device).requires_grad_()
    samples = (torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) * scale).to(device).requires_grad_()
    result = lapcore.parzen_log_likelihood(x, samples, sigma)
    assert not result.isnan().any()
    if scale <= 1e15 and sigma >= 1e-6:
        for grad in torch.autograd.grad(result.sum(), (x, samples)):
            assert not grad.isnan().any()


def test_what_is_not_finite(backend: str, device: str) -> None:
    x, samples = draw((5, 3), 1, device=device), draw((4, 3), 2, device=device)
    plain = lapcore.parzen_log_likelihood(x, samples, 0.5)
    x[1, 0], x[3, 2] = math.nan, math.inf
    got = lapcore.parzen_log_likelihood(x, samples, 0.5)
    assert got[1].isnan() and got[3] == -math.inf
    assert_close(got[[0, 2, 4]], to_numpy(plain[[0, 2, 4]]), 1e-5)
    with_infinite = lapcore.parzen_log_likelihood(x, torch.cat([samples, samples[:1] * math.inf]), 0.5)
    assert_close(with_infinite[[0, 2, 4]], to_numpy(plain[[0, 2, 4]]) + math.log(4 / 5), 1e-4)
    samples[2, 1] = math.nan
    assert lapcore.parzen_log_likelihood(x, samples, 0.5).isnan().all()


def test_a_row_does_not_depend_on_its_batch(backend: str, slow_backend: bool, device: str) -> None:
    if backend == "reference" or slow_backend:
        pytest.skip("torch's matrix product is not batch-invariant, nor is NumPy's, which Triton's interpreter runs on")
    x, samples = draw((37, 6), 1, device=device), draw((21, 6), 2, device=device)
    whole = lapcore.parzen_log_likelihood(x, samples, SIGMAS)
    parts = [lapcore.parzen_log_likelihood(x[a:b], samples, SIGMAS) for a, b in pairwise((0, 1, 18, 37))]
    assert_same_bits(torch.cat(parts, 1), whole)


@pytest.mark.heavy
def test_memory_holds_no_table(backend: str, device: str) -> None:
    """A table of 5000 x 5000 scores would take 100 MB, and a gradient at least two of them."""
    if device == "cuda":
        pytest.skip("counts the memory of the CPU")
    x, samples = (draw((5_000, 4), seed).requires_grad_() for seed in (1, 2))

    def call() -> None:
        torch.autograd.grad(lapcore.parzen_log_likelihood(x, samples, 0.5).sum(), (x, samples))

    torch.autograd.grad(lapcore.parzen_log_likelihood(x[:10], samples, 0.5).sum(), x)
    assert max(allocations(call)) <= 1024 * 1024 * 4
    assert peak(call) < 32e6


def test_density_integrates_to_one(backend: str, slow_backend: bool, device: str) -> None:
    samples = draw((9, 1), 1, torch.float64, device)
    x = torch.linspace(-8, 8, 65 if slow_backend else 2001, dtype=torch.float64, device=device)
    density = lapcore.parzen_log_likelihood(x, samples[:, 0], 0.5).exp()
    assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-9)


BAD = [
    ("x", TypeError, lambda x, s: (x.numpy(), s, 1.0)),
    ("samples", TypeError, lambda x, s: (x, s.int(), 1.0)),
    ("samples", ValueError, lambda x, s: (x, s[:0], 1.0)),
    ("samples", ValueError, lambda x, s: (x, s[:, :2], 1.0)),
    ("x", ValueError, lambda x, s: (x[0, 0], s, 1.0)),
    ("x", ValueError, lambda x, s: (x[:, :0], s[:, :0], 1.0)),
    ("samples", ValueError, lambda x, s: (x, s.double(), 1.0)),
    ("sigma", TypeError, lambda x, s: (x, s, "wide")),
    ("sigma", TypeError, lambda x, s: (x, s, True)),
    ("sigma", TypeError, lambda x, s: (x, s, None)),
    ("sigma", ValueError, lambda x, s: (x, s, 0.0)),
    ("sigma", ValueError, lambda x, s: (x, s, [0.1, math.nan])),
    ("sigma", ValueError, lambda x, s: (x, s, [])),
    ("sigma", ValueError, lambda x, s: (x, s, math.inf)),
    ("sigma", ValueError, lambda x, s: (x, s, torch.tensor(0.5))),
]


@pytest.mark.parametrize(("name", "error", "change"), BAD)
def test_refusals(name: str, error: type[Exception], change) -> None:
    with pytest.raises(error, match=f"^{name}: expected"):
        lapcore.parzen_log_likelihood(*change(draw((4, 3), 1), draw((5, 3), 2)))
