"""Diagonal Gaussians on every backend, against the float64 oracle: values, gradients, extremes, and the product's manners."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.layouts import LAYOUTS
from tests.oracle import gaussian as oracle
from tests.oracle import random as random_oracle
from tests.tolerance import NORMAL, assert_close, assert_same_bits, to_numpy

PROBE = ("reparameterize_kl", (2, 3))
# NumPy's, in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")

SHAPES = [(4, 6), (3, 2, 5, 7), (1, 1), (5,), (2, 0), (0, 3), (2, 1, 3, 1, 2)]
HALVES = [torch.float16, torch.bfloat16]
FLOATS = [*HALVES, torch.float32, torch.float64]
SEEDS = 2**40 + 11
EPS = torch.finfo(torch.float32).eps
ROWS = 16 * EPS  # a row's sum, relative to the sum of the absolute terms: a few roundings a term, then a pairwise sum


def draw(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, device: str = "cpu"
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(device, dtype)


def leaves(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [t.detach().clone().requires_grad_() for t in tensors]


def four(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[torch.Tensor]:
    """mean, logvar, prior_mean, prior_logvar."""
    return [draw(shape, seed, dtype, device=device) for seed in (1, 2, 3, 4)]


def summed(dtype: torch.dtype) -> torch.dtype:
    """What a sum over a row comes in: float32 for all but float64."""
    return torch.promote_types(dtype, torch.float32)


def sum_tolerance(magnitude: np.ndarray, dtype: torch.dtype = torch.float32) -> np.ndarray:
    return ROWS / EPS * torch.finfo(summed(dtype)).eps * magnitude + 1e-30


# Samples -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_row", [False, True], ids=["one seed", "seed per row"])
def test_reparameterize_equals_the_oracle(backend: str, device: str, shape: tuple[int, ...], per_row: bool) -> None:
    mean, logvar = draw(shape, 1, device=device), draw(shape, 2, device=device)
    seeds = torch.arange(shape[0], device=device) * 2**33 - 1 if per_row else SEEDS
    noise = random_oracle.normal(shape, seeds.tolist() if per_row else seeds, stream=5)
    z = lapcore.reparameterize(mean, logvar, seeds, stream=5)
    assert z.dtype == torch.float32
    expected = oracle.reparameterize(to_numpy(mean), to_numpy(logvar), noise)
    deviation = np.exp(to_numpy(logvar) / 2)
    assert_close(z, expected, NORMAL * deviation + 4 * EPS * (np.abs(to_numpy(mean)) + 7 * deviation))


def test_the_noise_is_that_of_lapcore_random(backend: str, device: str) -> None:
    mean, logvar = torch.zeros(3, 40, device=device), torch.zeros(3, 40, device=device)
    seeds = torch.tensor([4, 5, 4], device=device)
    assert_same_bits(
        lapcore.reparameterize(mean, logvar, seeds, stream=9), lapcore.random.normal((3, 40), seeds, stream=9)
    )
    assert_same_bits(lapcore.reparameterize(mean, logvar, 77), lapcore.random.normal((3, 40), 77, device=device))


@pytest.mark.parametrize("dtype", FLOATS)
def test_samples_keep_the_dtype_and_round_once(backend: str, device: str, dtype: torch.dtype) -> None:
    mean, logvar = draw((3, 50), 1, dtype, device=device), draw((3, 50), 2, dtype, device=device)
    z = lapcore.reparameterize(mean, logvar, SEEDS)
    assert z.dtype == dtype
    noise = random_oracle.normal((3, 50), SEEDS)
    expected = oracle.reparameterize(to_numpy(mean), to_numpy(logvar), noise)
    deviation = np.exp(to_numpy(logvar) / 2)
    single = NORMAL * deviation + 4 * EPS * (np.abs(to_numpy(mean)) + 7 * deviation)
    assert_close(z, expected, single + torch.finfo(dtype).eps / 2 * np.abs(expected) * (1 + 1e-3))


@pytest.mark.parametrize("dtype", FLOATS)
def test_reparameterize_gradients(backend: str, device: str, dtype: torch.dtype) -> None:
    shape = (3, 2, 17)
    mean, logvar = leaves(draw(shape, 1, dtype, device=device), draw(shape, 2, dtype, device=device))
    grad = draw(shape, 3, dtype, device=device)
    z = lapcore.reparameterize(mean, logvar, SEEDS, stream=1)
    dmean, dlogvar = torch.autograd.grad(z, (mean, logvar), grad)
    noise = random_oracle.normal(shape, SEEDS, 1)
    want_mean, want_logvar = oracle.reparameterize_gradients(to_numpy(grad), to_numpy(logvar), noise)
    assert dmean.dtype == dlogvar.dtype == dtype
    assert_close(dmean, want_mean, 0.0)
    weight = np.abs(to_numpy(grad)) * np.exp(to_numpy(logvar) / 2)
    assert_close(
        dlogvar, want_logvar, (NORMAL + 30 * EPS) * weight + torch.finfo(dtype).eps * np.abs(want_logvar) + 1e-7
    )


def test_only_the_wanted_gradient_is_computed(backend: str, device: str) -> None:
    mean, logvar = leaves(draw((2, 3), 1, device=device), draw((2, 3), 2, device=device))
    z = lapcore.reparameterize(mean.detach(), logvar, 1)
    z.sum().backward()
    assert mean.grad is None and logvar.grad is not None
    assert not lapcore.reparameterize(mean.detach(), logvar.detach(), 1).requires_grad


def test_extreme_logvar_samples(backend: str, device: str) -> None:
    logvar = torch.tensor([[-300.0, -200.0, 150.0, 200.0, -math.inf]], device=device)
    mean = torch.full_like(logvar, 2.5)
    z = lapcore.reparameterize(mean, logvar, 3)
    assert z[0, 0] == z[0, 1] == z[0, 4] == 2.5
    assert torch.isfinite(z[0, :3]).all()
    assert torch.isinf(z[0, 3]) or float(z[0, 3].abs()) > 1e38


# Divergence and likelihood -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("prior", [0, 1, 2, 3], ids=["standard", "mean", "logvar", "both"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_kl_equals_the_oracle(
    backend: str, device: str, shape: tuple[int, ...], prior: int, dtype: torch.dtype
) -> None:
    mean, logvar, prior_mean, prior_logvar = four(shape, dtype, device=device)
    given_prior = (prior_mean if prior & 1 else None, prior_logvar if prior & 2 else None)
    got = lapcore.gaussian_kl(mean, logvar, *given_prior)
    assert got.shape == (shape[0],)
    assert got.dtype == summed(dtype)
    arrays = [None if t is None else to_numpy(t) for t in (mean, logvar, *given_prior)]
    assert_close(got, oracle.gaussian_kl(*arrays), sum_tolerance(oracle.kl_magnitude(*arrays), dtype))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_nll_equals_the_oracle(backend: str, device: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, mean, logvar, _ = four(shape, dtype, device=device)
    got = lapcore.gaussian_nll(x, mean, logvar)
    assert got.shape == (shape[0],)
    assert got.dtype == summed(dtype)
    arrays = [to_numpy(t) for t in (x, mean, logvar)]
    assert_close(got, oracle.gaussian_nll(*arrays), sum_tolerance(oracle.nll_magnitude(*arrays), dtype))


def test_kl_agrees_with_torch_distributions(backend: str, device: str) -> None:
    mean, logvar, prior_mean, prior_logvar = four((5, 30), torch.float64, device=device)
    q = torch.distributions.Normal(mean, (logvar / 2).exp())
    p = torch.distributions.Normal(prior_mean, (prior_logvar / 2).exp())
    expected = torch.distributions.kl_divergence(q, p).sum(1)
    assert_close(lapcore.gaussian_kl(mean, logvar, prior_mean, prior_logvar), to_numpy(expected), 1e-4)
    x = draw((5, 30), 9, torch.float64, device=device)
    assert_close(lapcore.gaussian_nll(x, mean, logvar), to_numpy(-q.log_prob(x).sum(1)), 1e-4)


def test_kl_of_equals_is_zero_and_no_other_is_negative(backend: str, device: str) -> None:
    mean, logvar, prior_mean, prior_logvar = four((6, 40), device=device)
    assert_close(lapcore.gaussian_kl(mean, logvar, mean, logvar), np.zeros(6), 0.0)
    assert (lapcore.gaussian_kl(mean, logvar, prior_mean, prior_logvar) > 0).all()
    assert_close(
        lapcore.gaussian_kl(torch.zeros(2, 9, device=device), torch.zeros(2, 9, device=device)), np.zeros(2), 0.0
    )


@pytest.mark.heavy
def test_long_sums_stay_exact(backend: str, device: str) -> None:
    """A running float32 sum of 2^21 terms would be off by 1e-3 or so."""
    shape = (2, 2**21)
    mean, logvar = torch.full(shape, 0.7, device=device), torch.full(shape, -0.3, device=device)
    arrays = to_numpy(mean), to_numpy(logvar)
    assert_close(lapcore.gaussian_kl(mean, logvar), oracle.gaussian_kl(*arrays), 2e-6 * oracle.gaussian_kl(*arrays))
    want = oracle.gaussian_nll(0 * arrays[0], *arrays)
    assert_close(lapcore.gaussian_nll(torch.zeros(shape, device=device), mean, logvar), want, 2e-6 * np.abs(want))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("learned", [False, True], ids=["standard", "learned prior"])
def test_kl_gradients(backend: str, device: str, dtype: torch.dtype, learned: bool) -> None:
    tensors = leaves(*four((4, 3, 5), dtype, device=device)[: 4 if learned else 2])
    grad = draw((4,), 7, summed(dtype), device=device)
    got = torch.autograd.grad(lapcore.gaussian_kl(*tensors), tensors, grad)
    want = oracle.kl_gradients(to_numpy(grad), *[to_numpy(t) for t in tensors])
    for name, a, b in zip(("mean", "logvar", "prior_mean", "prior_logvar"), got, want, strict=False):
        assert a.dtype == dtype
        eps = max(torch.finfo(dtype).eps, EPS)
        assert_close(a, b, 4 * eps * np.abs(b) + 64 * EPS, name)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nll_gradients(backend: str, device: str, dtype: torch.dtype) -> None:
    tensors = leaves(*four((4, 3, 5), dtype, device=device)[:3])
    grad = draw((4,), 7, summed(dtype), device=device)
    got = torch.autograd.grad(lapcore.gaussian_nll(*tensors), tensors, grad)
    want = oracle.nll_gradients(to_numpy(grad), *[to_numpy(t) for t in tensors])
    for name, a, b in zip(("x", "mean", "logvar"), got, want, strict=True):
        assert a.dtype == dtype
        eps = max(torch.finfo(dtype).eps, EPS)
        assert_close(a, b, 4 * eps * np.abs(b) + 64 * EPS, name)


def test_the_prior_alone_may_want_a_gradient(backend: str, device: str) -> None:
    mean, logvar, prior_mean, prior_logvar = four((3, 4), device=device)
    wanted = leaves(prior_mean, prior_logvar)
    got = torch.autograd.grad(lapcore.gaussian_kl(mean, logvar, *wanted).sum(), wanted)
    arrays = [to_numpy(t) for t in (mean, logvar, prior_mean, prior_logvar)]
    _, _, want_mean, want_logvar = oracle.kl_gradients(np.ones(3), *arrays)
    assert_close(got[0], want_mean, 64 * EPS * (1 + np.abs(want_mean)))
    assert_close(got[1], want_logvar, 64 * EPS * (1 + np.abs(want_logvar)))


# Extremes: exact where the result is finite, inf where it is, never NaN ----------------------------------------------------------

EXTREME_KL = [  # mq, lq, mp, lp -> KL of one element
    ((0.0, -200.0, 0.0, 0.0), (200 - 1) / 2),
    ((3.0, -1e4, 0.0, 0.0), (1e4 + 9 - 1) / 2),
    ((0.0, 200.0, 0.0, 0.0), math.inf),
    ((0.0, 1e30, 0.0, 0.0), math.inf),
    ((0.0, 200.0, 0.0, 200.0), 0.0),
    ((5.0, 200.0, 5.0, 201.0), (1 + math.exp(-1) - 1) / 2),
    ((0.0, -200.0, 0.0, -200.0), 0.0),
    ((1.5, -200.0, 1.5, -200.0), 0.0),
    ((1.5, -200.0, 1.5, -199.0), (1 + math.exp(-1) - 1) / 2),
    ((1.0, 0.0, 0.0, -200.0), math.inf),
    ((0.0, 0.0, 0.0, 200.0), (200 - 1) / 2),
    ((1e30, 0.0, 0.0, 200.0), (200 + 1e60 * math.exp(-200) - 1) / 2),
    ((1e-20, -80.0, 0.0, -80.0), 1e-40 * math.exp(80) / 2),
    ((1e-30, -120.0, 0.0, -120.0), 1e-60 * math.exp(120) / 2),
    ((0.0, -math.inf, 0.0, 0.0), math.inf),
    ((0.0, math.inf, 0.0, 0.0), math.inf),
    ((0.0, 0.0, 0.0, math.inf), math.inf),
    ((1.0, 0.0, 0.0, -math.inf), math.inf),
]


@pytest.mark.parametrize(("values", "expected"), EXTREME_KL)
def test_extreme_kl(backend: str, device: str, values: tuple[float, ...], expected: float) -> None:
    got = lapcore.gaussian_kl(*[torch.tensor([[v]], device=device) for v in values])
    distance = abs(values[1] - values[3])
    magnitude = 1 + (distance if math.isfinite(distance) else 0)
    assert_close(got, np.array([expected]), 16 * EPS * (magnitude + (expected if math.isfinite(expected) else 0)))
    if values[2:] == (0.0, 0.0):
        assert_same_bits(lapcore.gaussian_kl(*[torch.tensor([[v]], device=device) for v in values[:2]]), got)


EXTREME_NLL = [  # x, mean, logvar -> NLL of one element
    ((1.0, 1.0, -200.0), (math.log(2 * math.pi) - 200) / 2),
    ((2.0, 1.0, -200.0), math.inf),
    ((1.0 + 1e-3, 1.0, -20.0), None),
    ((1e-30, 0.0, -120.0), (math.log(2 * math.pi) - 120 + 1e-60 * math.exp(120)) / 2),
    ((1e30, 0.0, 200.0), (math.log(2 * math.pi) + 200 + 1e60 * math.exp(-200)) / 2),
    ((1.0, 0.0, 1e5), (math.log(2 * math.pi) + 1e5) / 2),
    ((1.0, 0.0, math.inf), math.inf),
    ((1.0, 0.0, -math.inf), math.inf),
]


@pytest.mark.parametrize(("values", "expected"), EXTREME_NLL)
def test_extreme_nll(backend: str, device: str, values: tuple[float, ...], expected: float | None) -> None:
    tensors = [torch.tensor([[v]], device=device) for v in values]
    if expected is None:
        expected = float(oracle.gaussian_nll(*[to_numpy(t) for t in tensors])[0])
    magnitude = 1 + (abs(values[2]) if math.isfinite(values[2]) else 0)
    got = lapcore.gaussian_nll(*tensors)
    assert_close(got, np.array([expected]), 16 * EPS * (magnitude + (abs(expected) if math.isfinite(expected) else 0)))


def test_one_infinite_row_leaves_the_others_alone(backend: str, device: str) -> None:
    logvar = torch.tensor([[0.5, 0.1], [0.5, 300.0], [0.5, 0.1]], device=device)
    got = lapcore.gaussian_kl(torch.ones(3, 2, device=device), logvar)
    assert torch.isinf(got[1])
    assert got[0] == got[2] and torch.isfinite(got[0])


def test_no_finite_input_gives_nan(backend: str, slow_backend: bool, device: str) -> None:
    @settings(max_examples=8 if slow_backend else 60)
    @given(
        logs=st.tuples(*[st.floats(-300, 300, width=32)] * 2), means=st.tuples(*[st.floats(-1e10, 1e10, width=32)] * 2)
    )
    def check(logs: tuple[float, float], means: tuple[float, float]) -> None:
        (lq, lp), (mq, mp) = logs, means
        tensors = leaves(*[torch.tensor([[v]], device=device) for v in (mq, lq, mp, lp)])
        kl = lapcore.gaussian_kl(*tensors)
        with np.errstate(over="ignore"):
            exact = oracle.gaussian_kl(*[to_numpy(t) for t in tensors]).astype(np.float32)
            magnitude = oracle.kl_magnitude(*[to_numpy(t) for t in tensors])
        assert not torch.isnan(kl).any()
        if np.isfinite(exact).all() and magnitude[0] < 1e38:
            assert_close(kl, exact, 64 * EPS * (magnitude + 300))  # 300: the rounding of lq - lp inside exp
            grads = torch.autograd.grad(kl.sum(), tensors)
            want = oracle.kl_gradients(np.ones(1), *[to_numpy(t) for t in tensors])
            for a, b in zip(grads, want, strict=True):
                if np.abs(b).max() < 1e38:
                    assert_close(a, b, 600 * EPS * (1 + np.abs(b) + magnitude))

    check()


def test_gradients_at_extreme_logvar(backend: str, device: str) -> None:
    mean, logvar = leaves(
        torch.tensor([[3.0, 3.0, 3.0]], device=device), torch.tensor([[-200.0, -1e4, 80.0]], device=device)
    )
    dmean, dlogvar = torch.autograd.grad(lapcore.gaussian_kl(mean, logvar).sum(), (mean, logvar))
    assert_close(dmean, np.full((1, 3), 3.0), 0.0)
    want = np.array([[-0.5, -0.5, math.exp(80) / 2]])
    assert_close(dlogvar, want, 16 * EPS * np.abs(want))
    same = leaves(*[torch.tensor([[v]], device=device) for v in (1.5, -200.0, 1.5, -200.0)])
    for gradient in torch.autograd.grad(lapcore.gaussian_kl(*same).sum(), same):
        assert_close(gradient, np.zeros((1, 1)), 0.0)
    x, mean, logvar = leaves(*[torch.tensor([[v]], device=device) for v in (1.5, 1.5, -200.0)])
    dx, dmean, dlogvar = torch.autograd.grad(lapcore.gaussian_nll(x, mean, logvar).sum(), (x, mean, logvar))
    assert float(dx) == float(dmean) == 0.0 and float(dlogvar) == 0.5


def test_nan_inputs_spoil_their_row_only(backend: str, device: str) -> None:
    mean = torch.zeros(3, 4, device=device)
    mean[1, 2] = math.nan
    kl = lapcore.gaussian_kl(mean, torch.zeros(3, 4, device=device))
    assert torch.isnan(kl).tolist() == [False, True, False]
    z = lapcore.reparameterize(mean, torch.zeros(3, 4, device=device), 1)
    assert torch.equal(torch.isnan(z), torch.isnan(mean))


# Both at once ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("learned", [False, True], ids=["standard", "learned prior"])
@pytest.mark.parametrize("seeds", [5, [3, -1, 2**35]], ids=["one seed", "seed per row"])
def test_reparameterize_kl_is_the_two_ops(
    backend: str, device: str, dtype: torch.dtype, learned: bool, seeds: int | list[int]
) -> None:
    shape = (3, 4, 6)
    tensors = leaves(*four(shape, dtype, device=device)[: 4 if learned else 2])
    seeds = torch.tensor(seeds, device=device) if isinstance(seeds, list) else seeds
    z, kl = lapcore.reparameterize_kl(*tensors, seeds=seeds, stream=2)
    want_z, want_kl = lapcore.reparameterize(*tensors[:2], seeds, stream=2), lapcore.gaussian_kl(*tensors)
    assert z.dtype == dtype and kl.dtype == summed(dtype)
    assert_same_bits(z, want_z, "z")
    assert_close(kl, to_numpy(want_kl), ROWS * oracle.kl_magnitude(*[to_numpy(t) for t in tensors]), "kl")
    grad_z, grad_kl = draw(shape, 8, dtype, device=device), draw((3,), 9, summed(dtype), device=device)
    got = torch.autograd.grad((z, kl), tensors, (grad_z, grad_kl))
    noise = to_numpy(lapcore.random.normal(shape, seeds, device=device, stream=2))
    from_z = oracle.reparameterize_gradients(to_numpy(grad_z), to_numpy(tensors[1]), noise)
    want = list(oracle.kl_gradients(to_numpy(grad_kl), *[to_numpy(t) for t in tensors]))
    want[0], want[1] = want[0] + from_z[0], want[1] + from_z[1]
    for name, a, b in zip(("mean", "logvar", "prior_mean", "prior_logvar"), got, want, strict=False):
        assert a.dtype == dtype
        scale = 1 + np.abs(b) + np.abs(to_numpy(grad_z)) * 4
        assert_close(a, b, (2 * max(torch.finfo(dtype).eps, EPS) + 40 * EPS) * scale, name)


def test_either_result_may_be_left_without_a_gradient(backend: str, device: str) -> None:
    for chosen in (0, 1):
        mean, logvar = leaves(draw((3, 4), 1, device=device), draw((3, 4), 2, device=device))
        lapcore.reparameterize_kl(mean, logvar, seeds=4)[chosen].sum().backward()
        again = leaves(mean, logvar)
        (lapcore.reparameterize(*again, 4) if chosen == 0 else lapcore.gaussian_kl(*again)).sum().backward()
        for a, b in zip((mean, logvar), again, strict=True):
            assert_close(a.grad, to_numpy(b.grad), 8 * EPS * (1 + np.abs(to_numpy(b.grad))))


# seeds=None --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sample",
    [
        lambda m, v: lapcore.reparameterize(m, v),
        lambda m, v: lapcore.reparameterize_kl(m, v)[0],
        lambda m, v: lapcore.DiagonalGaussian(m, v).sample(),
    ],
    ids=["reparameterize", "reparameterize_kl", "DiagonalGaussian"],
)
def test_no_seed_follows_torch_manual_seed(backend: str, device: str, sample: Callable[..., torch.Tensor]) -> None:
    mean, logvar = draw((2, 30), 1, device=device), draw((2, 30), 2, device=device)
    torch.manual_seed(5)
    first, second = sample(mean, logvar), sample(mean, logvar)
    torch.manual_seed(5)
    assert_same_bits(sample(mean, logvar), first)
    assert_same_bits(sample(mean, logvar), second)
    torch.manual_seed(6)
    assert not torch.equal(sample(mean, logvar), first)
    assert not torch.equal(first, second)


def test_no_seed_gives_the_gradient_of_the_noise_it_drew(backend: str, device: str) -> None:
    mean, logvar = leaves(torch.zeros(2, 30, device=device), torch.zeros(2, 30, device=device))
    z = lapcore.reparameterize(mean, logvar)
    torch.rand(100)  # what happens to the generator in between must not matter
    z.sum().backward()
    assert_close(logvar.grad, to_numpy(z) / 2, 4 * EPS)


# Layouts, determinism, higher derivatives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4), (1, 2, 1, 3), (2, 0, 4, 5)])
def test_every_layout(
    backend: str,
    slow_backend: bool,
    device: str,
    layout: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
) -> None:
    tensors = [layout(t) for t in four(shape, device=device)]
    plain = leaves(*tensors)
    strided = [t.detach().requires_grad_() for t in tensors]
    grad_z, grad_kl = draw(shape, 8, device=device), draw((shape[0],), 9, device=device)
    expanded_kl = grad_kl[:1].expand(shape[0])
    incoming = [(layout(grad_z), expanded_kl), (grad_z, grad_kl)]
    for grads in incoming[:1] if slow_backend else incoming:
        want = lapcore.reparameterize_kl(*plain, seeds=3)
        got = lapcore.reparameterize_kl(*strided, seeds=3)
        for a, b in zip(got, want, strict=True):
            assert_close(a, to_numpy(b), 8 * EPS * (1 + np.abs(to_numpy(b))))
        want_grads = torch.autograd.grad(want, plain, [g.contiguous() for g in grads])
        for a, b in zip(torch.autograd.grad(got, strided, grads), want_grads, strict=True):
            assert_close(a, to_numpy(b), 8 * EPS * (1 + np.abs(to_numpy(b))))
    x = layout(draw(shape, 10, device=device))
    assert_close(
        lapcore.gaussian_nll(x, *tensors[:2]),
        to_numpy(lapcore.gaussian_nll(x.contiguous(), *plain[:2])),
        8 * EPS * (1 + np.abs(to_numpy(lapcore.gaussian_nll(x.contiguous(), *plain[:2])))),
    )


def test_rows_do_not_depend_on_their_batch(backend: str, device: str) -> None:
    if backend == "reference":
        pytest.skip("torch's own exp rounds by the place in memory")
    tensors, seeds = four((6, 3, 333), device=device), torch.arange(6, device=device)
    z, kl = lapcore.reparameterize_kl(*tensors, seeds=seeds)
    nll = lapcore.gaussian_nll(*tensors[:3])
    for i in range(6):
        row = [t[i : i + 1] for t in tensors]
        one_z, one_kl = lapcore.reparameterize_kl(*row, seeds=seeds[i : i + 1])
        assert_same_bits(one_z, z[i : i + 1])
        assert_same_bits(one_kl, kl[i : i + 1])
        assert_same_bits(lapcore.gaussian_nll(*row[:3]), nll[i : i + 1])


def test_deterministic_algorithms_are_accepted(backend: str, device: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        tensors = leaves(*four((3, 40), device=device))
        z, kl = lapcore.reparameterize_kl(*tensors, seeds=1)
        (z.sum() + kl.sum()).backward()
        lapcore.gaussian_nll(*tensors[:3]).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.isfinite(t.grad).all() for t in tensors)


def test_random_shapes_dtypes_and_seeds(backend: str, slow_backend: bool, device: str) -> None:
    @settings(max_examples=15 if slow_backend else 60)
    @given(
        shape=st.lists(st.integers(0, 7), min_size=1, max_size=4).map(tuple),
        dtype=st.sampled_from(FLOATS),
        seed=strategies.seeds,
    )
    def check(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> None:
        tensors = four(shape, dtype, device=device)
        z, kl = lapcore.reparameterize_kl(*tensors, seeds=seed)
        arrays = [to_numpy(t) for t in tensors]
        assert_close(kl, oracle.gaussian_kl(*arrays), sum_tolerance(oracle.kl_magnitude(*arrays), dtype))
        want = oracle.reparameterize(*arrays[:2], random_oracle.normal(shape, seed))
        assert_close(
            z, want, (20 * EPS + torch.finfo(dtype).eps) * (np.abs(arrays[0]) + 7 * np.exp(arrays[1] / 2)) + NORMAL * 10
        )

    check()


# DiagonalGaussian --------------------------------------------------------------------------------------------------------------


def test_diagonal_gaussian_is_the_functions(backend: str, device: str) -> None:
    mean, logvar, prior_mean, prior_logvar = four((3, 2, 4, 5), device=device)
    q, p = lapcore.DiagonalGaussian(mean, logvar), lapcore.DiagonalGaussian(prior_mean, prior_logvar)
    x = draw((3, 2, 4, 5), 9, device=device)
    assert_same_bits(q.mean, mean)
    assert_same_bits(q.logvar, logvar)
    assert_same_bits(q.mode(), mean)
    assert_close(q.std, np.exp(to_numpy(logvar) / 2), 8 * EPS * np.exp(to_numpy(logvar) / 2))
    assert_close(q.var, np.exp(to_numpy(logvar)), 8 * EPS * np.exp(to_numpy(logvar)))
    assert_same_bits(q.sample(7), lapcore.reparameterize(mean, logvar, 7))
    assert_same_bits(
        q.sample(seeds=torch.arange(3, device=device)),
        lapcore.reparameterize(mean, logvar, torch.arange(3, device=device)),
    )
    assert_same_bits(q.kl(), lapcore.gaussian_kl(mean, logvar))
    assert_same_bits(q.kl(p), lapcore.gaussian_kl(mean, logvar, prior_mean, prior_logvar))
    assert_same_bits(q.nll(x), lapcore.gaussian_nll(x, mean, logvar))


def test_a_generator_seeds_the_sample(backend: str, device: str) -> None:
    q = lapcore.DiagonalGaussian(torch.zeros(2, 50, device=device), torch.zeros(2, 50, device=device))
    first = q.sample(generator=torch.Generator().manual_seed(3))
    assert_same_bits(q.sample(generator=torch.Generator().manual_seed(3)), first)
    assert not torch.equal(q.sample(generator=torch.Generator().manual_seed(4)), first)
    with pytest.raises((ValueError, TypeError), match="generator"):
        q.sample(seeds=1, generator=torch.Generator())


def test_from_moments_splits_and_clamps(backend: str, device: str) -> None:
    moments = draw((2, 6, 3, 3), 1, scale=50, device=device)
    q = lapcore.DiagonalGaussian.from_moments(moments)
    assert_same_bits(q.mean.contiguous(), moments[:, :3].contiguous())
    assert_same_bits(q.logvar.contiguous(), moments[:, 3:].clamp(-30, 20).contiguous())
    assert float(moments[:, 3:].max()) > 20 and float(moments[:, 3:].min()) < -30
    flat = lapcore.DiagonalGaussian.from_moments(draw((4, 10), 2, device=device))
    assert flat.mean.shape == flat.logvar.shape == (4, 5)
    assert lapcore.DiagonalGaussian.from_moments(moments.requires_grad_()).kl().requires_grad


def test_from_moments_does_what_diffusers_does(backend: str, device: str) -> None:
    moments = draw((2, 8, 4, 4), 3, scale=3, device=device)
    q = lapcore.DiagonalGaussian.from_moments(moments)
    mean, logvar = torch.chunk(moments.double(), 2, dim=1)
    logvar = logvar.clamp(-30, 20)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3))
    assert_close(q.kl(), to_numpy(kl), 1e-5 * to_numpy(kl.abs()))


@pytest.mark.parametrize("moments", [torch.zeros(2, 5), torch.zeros(4), torch.zeros(2, 4, dtype=torch.int64), [1.0]])
def test_bad_moments_are_named(moments: object) -> None:
    with pytest.raises((ValueError, TypeError), match=r"moments|\bt\b"):
        lapcore.DiagonalGaussian.from_moments(moments)


# Errors ------------------------------------------------------------------------------------------------------------------------

GOOD = torch.zeros(3, 4)
BAD = {
    "another shape": torch.zeros(3, 5),
    "a broadcastable shape": torch.zeros(1, 4),
    "integers": torch.zeros(3, 4, dtype=torch.int64),
    "complex": torch.zeros(3, 4, dtype=torch.complex64),
    "another dtype": torch.zeros(3, 4, dtype=torch.float64),
    "another device": torch.zeros(3, 4, device="meta"),
    "an array": np.zeros((3, 4), dtype=np.float32),
    "a list": [[0.0] * 4] * 3,
    "nothing": None,
}
FUNCTIONS = {
    "reparameterize": (lapcore.reparameterize, ("mean", "logvar")),
    "gaussian_kl": (lapcore.gaussian_kl, ("mean", "logvar", "prior_mean", "prior_logvar")),
    "reparameterize_kl": (lapcore.reparameterize_kl, ("mean", "logvar", "prior_mean", "prior_logvar")),
    "gaussian_nll": (lapcore.gaussian_nll, ("x", "mean", "logvar")),
    "DiagonalGaussian": (lapcore.DiagonalGaussian, ("mean", "logvar")),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bad", BAD)
def test_bad_tensors_are_named(function: str, bad: str) -> None:
    call, names = FUNCTIONS[function]
    for name in names:
        if bad == "nothing" and name.startswith("prior"):
            continue
        arguments = {other: GOOD for other in names}
        with pytest.raises((ValueError, TypeError), match=r"mean|logvar|\bx\b"):
            call(**{**arguments, name: BAD[bad]})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_scalars_have_no_rows(function: str) -> None:
    call, names = FUNCTIONS[function]
    with pytest.raises((ValueError, TypeError), match=names[0]):
        call(**dict.fromkeys(names, torch.tensor(1.0)))


@pytest.mark.parametrize("call", [lapcore.reparameterize, lapcore.reparameterize_kl])
@pytest.mark.parametrize("seeds", [1.5, "1", torch.zeros(4, dtype=torch.int64), torch.zeros(3)])
def test_bad_seeds_are_named(call: Callable[..., object], seeds: object) -> None:
    with pytest.raises((ValueError, TypeError), match="seeds"):
        call(GOOD, GOOD, seeds=seeds)
