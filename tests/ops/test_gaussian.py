"""Diagonal Gaussians on every backend, against the float64 oracle: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.ops.gaussian_checks import EPS, FLOATS, ROWS, SEEDS, SHAPES, draw, four, leaves, sum_tolerance, summed
from tests.oracle import gaussian as oracle
from tests.oracle import random as random_oracle
from tests.tolerance import NORMAL, assert_close, assert_same_bits, to_numpy

PROBE = ("reparameterize_kl", (2, 3))
# NumPy's, in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")


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
