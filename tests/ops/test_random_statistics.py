"""lapcore.random by its statistics: each bound is 4 or 5 standard deviations of its statistic, and the seeds are fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import lapcore
from tests.tolerance import NORMAL, to_numpy

PROBE = ("random.bits", (1,))
COUNT = 2**20


@pytest.mark.heavy
def test_every_bit_is_fair_and_the_words_are_spread(backend: str, device: str) -> None:
    drawn = to_numpy(lapcore.random.bits((COUNT,), 101, device=device)).view(np.uint32)
    for bit in range(32):
        assert abs(int(((drawn >> bit) & 1).sum()) - COUNT / 2) < 5 * math.sqrt(COUNT) / 2
    counts = np.bincount(drawn >> 22, minlength=1024)
    chi2 = ((counts - COUNT / 1024) ** 2 / (COUNT / 1024)).sum()
    assert abs(chi2 - 1023) < 5 * math.sqrt(2 * 1023)
    assert len(np.unique(drawn)) > COUNT - 5 * 128 - 128  # birthday: about n^2 / 2^33 = 128 repeats


@pytest.mark.heavy
def test_moments(backend: str, device: str) -> None:
    u = lapcore.random.uniform((COUNT,), 102, device=device).double()
    z = lapcore.random.normal((COUNT,), 103, device=device).double()
    for power, mean, variance in ((1, 1 / 2, 1 / 12), (2, 1 / 3, 4 / 45), (3, 1 / 4, 9 / 112)):
        assert abs(float((u**power).mean()) - mean) < 5 * math.sqrt(variance / COUNT)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - mean) < 5 * math.sqrt(variance / COUNT)


@pytest.mark.heavy
def test_kolmogorov_smirnov(backend: str, device: str) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (test extra)")
    for seed in (104, -105, 2**50):
        u = to_numpy(lapcore.random.uniform((COUNT // 4,), seed, device=device))
        z = to_numpy(lapcore.random.normal((COUNT // 4,), seed, device=device))
        assert stats.kstest(u, "uniform").pvalue > 1e-4
        assert stats.kstest(z, "norm").pvalue > 1e-4


@pytest.mark.heavy
def test_tails_to_five_sigma_and_beyond(backend: str, device: str) -> None:
    """2^23 normals; 5 are expected beyond 5 sigma, and none beyond the largest radius 6.7637."""
    z = lapcore.random.normal((2**23,), 1000, device=device).abs()
    for limit in (2.0, 3.0, 4.0, 4.5):
        expected = z.numel() * math.erfc(limit / math.sqrt(2))
        assert abs(int((z > limit).sum()) - expected) < 4 * math.sqrt(expected), limit
    assert 1 <= int((z > 5).sum()) <= 15
    assert float(z.max()) <= math.sqrt(2 * 33 * math.log(2)) + NORMAL


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double(), b.double()
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))


@pytest.mark.heavy
def test_seeds_streams_rows_and_neighbours_are_independent(backend: str, device: str) -> None:
    count = 2**16
    base = lapcore.random.normal((count,), 50, device=device)
    others = {
        "next seed": lapcore.random.normal((count,), 51, device=device),
        "seed with another high word": lapcore.random.normal((count,), 50 + 2**32, device=device),
        "negated seed": lapcore.random.normal((count,), -50, device=device),
        "next stream": lapcore.random.normal((count,), 50, device=device, stream=1),
        "stream with another high word": lapcore.random.normal((count,), 50, device=device, stream=2**32),
        "seed and stream exchanged": lapcore.random.normal((count,), 0, device=device, stream=50),
    }
    for lag in (1, 2, 3, 4, 64):
        others[f"lag {lag}"] = base.roll(lag)
    for name, other in others.items():
        assert abs(correlation(base, other)) < 5 / math.sqrt(count), name
        assert abs(correlation(base**2, other**2)) < 5 / math.sqrt(count), name
    rows = lapcore.random.normal((128, 4096), torch.arange(128, device=device)).double()
    products = (rows @ rows.T / math.sqrt(4096))[~torch.eye(128, dtype=torch.bool)]
    assert float(products.abs().max()) < 6
    assert abs(float(products.std()) - 1) < 0.02
