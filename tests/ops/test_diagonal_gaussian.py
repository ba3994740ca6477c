"""lapcore.DiagonalGaussian: the functions as a distribution, in place of diffusers'."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lapcore
from tests.ops.gaussian_checks import EPS, draw, four
from tests.tolerance import assert_close, assert_same_bits, to_numpy

PROBE = ("reparameterize_kl", (2, 3))
# NumPy's, in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")


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
