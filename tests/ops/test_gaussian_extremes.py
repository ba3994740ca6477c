"""Gaussians at and beyond the ends of log-variances: exact where the result is finite, inf where it is, never NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests.ops.gaussian_checks import EPS, leaves
from tests.oracle import gaussian as oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

PROBE = ("reparameterize_kl", (2, 3))
# NumPy's, in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")


def test_extreme_logvar_samples(backend: str, device: str) -> None:
    logvar = torch.tensor([[-300.0, -200.0, 150.0, 200.0, -math.inf]], device=device)
    mean = torch.full_like(logvar, 2.5)
    z = lapcore.reparameterize(mean, logvar, 3)
    assert z[0, 0] == z[0, 1] == z[0, 4] == 2.5
    assert torch.isfinite(z[0, :3]).all()
    assert torch.isinf(z[0, 3]) or float(z[0, 3].abs()) > 1e38


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_infinite_mean_and_noise_that_overflows(backend: str, device: str, dtype: torch.dtype) -> None:
    """The noise is rounded before it is added: infinities of two signs make NaN, of one sign themselves."""
    logvar = torch.full((2, 50), 4 * math.log(torch.finfo(dtype).max), dtype=dtype, device=device)
    noise = lapcore.random.normal((2, 50), 3, device=device, dtype=dtype)
    mean = torch.tensor([[math.inf], [-math.inf]], dtype=dtype, device=device).expand(2, 50)
    z = lapcore.reparameterize(mean, logvar, 3)
    assert_same_bits(z, mean + noise * math.inf)
    assert 0 < int(z.isnan().sum()) < z.numel()
    assert_same_bits(lapcore.reparameterize_kl(mean, logvar, seeds=3)[0], z)


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
