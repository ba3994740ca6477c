"""Distances between sets of features, against their definitions in NumPy and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from lapcore.metrics import distribution, frechet_distance, kernel_distance, prdc


def draw(n, d, seed, scale=1.0, shift=0.0, dtype=torch.float32):
    return (scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift).to(dtype)


def whole(n, d, seed, top):
    """Small whole numbers: their distances tie, and are exact."""
    return torch.randint(0, top, (n, d), generator=torch.Generator().manual_seed(seed)).float()


@pytest.fixture(params=[1 << 22, 7], ids=["one block", "a row a block"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(distribution, "BLOCK", request.param)


def frechet_oracle(a, b):
    covariance = [np.atleast_2d(np.cov(x.T)) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariance[0] @ covariance[1]).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariance[0] + covariance[1] - 2 * root)


@pytest.mark.parametrize(("n", "m", "d"), [(60, 50, 7), (200, 30, 3), (5, 4, 1)])
def test_frechet_is_scipys(n, m, d):
    a, b = draw(n, d, 1), draw(m, d, 2, 1.3, 0.4)
    assert frechet_distance(a, b) == pytest.approx(frechet_oracle(a.double().numpy(), b.double().numpy()), rel=1e-9)


def test_frechet_of_fewer_vectors_than_features():
    """Covariances of low rank, where sqrtm loses half the digits: by the eigenvalues of S_a S_b, of the vectors' own space."""
    a, b = (draw(n, 40, n, shift=n / 10).double().numpy() for n in (6, 9))
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    product = centred[0] @ centred[1].T
    traces = sum((x**2).sum() for x in centred) - 2 * np.sqrt(np.linalg.eigvalsh(product @ product.T).clip(0)).sum()
    want = ((a.mean(0) - b.mean(0)) ** 2).sum() + traces
    assert frechet_distance(torch.tensor(a), torch.tensor(b)) == pytest.approx(want, rel=1e-7)


def test_frechet_of_diagonal_gaussians_and_of_a_set_with_itself():
    """Means 1 and 5, variances 2 and 8: 16 + (sqrt 8 - sqrt 2)^2."""
    a = torch.tensor([[0.0], [2.0]])
    assert frechet_distance(a, 2 * a + 3) == pytest.approx(18)
    for n in (4, 80):
        x = draw(n, 20, n)
        assert 0 <= frechet_distance(x, x) < 1e-10


def kernel_oracle(a, b):
    def mean(x, y, same):
        terms = [
            (sum(p * q for p, q in zip(u, v, strict=True)) / len(u) + 1) ** 3
            for i, u in enumerate(x.tolist())
            for j, v in enumerate(y.tolist())
            if not (same and i == j)
        ]
        return math.fsum(terms) / len(terms)

    return 1000 * (mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False))


@pytest.mark.parametrize(("n", "m", "d"), [(12, 9, 5), (2, 7, 1), (9, 2, 3)])
def test_kernel_distance_is_the_sum_over_pairs(n, m, d, blocks):
    a, b = draw(n, d, 1), draw(m, d, 2, 1.5, -0.3)
    assert kernel_distance(a, b) == pytest.approx(kernel_oracle(a, b), rel=1e-10)
    assert kernel_distance(a, b) == pytest.approx(kernel_distance(b, a), rel=1e-12)


def test_kernel_distance_has_no_bias():
    """Pairs of sets of one distribution: the mean over many is 0 within its error, though single ones are not."""
    values = np.array([kernel_distance(draw(10, 4, 2 * i), draw(15, 4, 2 * i + 1)) for i in range(400)])
    assert abs(values.mean()) < 3 * values.std() / 20 and values.std() > 50 and (values < 0).any()


def prdc_oracle(real, fake, k, k_coverage):
    def distance(x, y):
        return sum((p - q) ** 2 for p, q in zip(x, y, strict=True))

    def radii(points, k):
        return [sorted(distance(x, y) for j, y in enumerate(points) if j != i)[k - 1] for i, x in enumerate(points)]

    def inside(points, radius, others):
        """[other][point]"""
        return np.array([[distance(x, y) <= r for x, r in zip(points, radius, strict=True)] for y in others])

    real, fake = real.tolist(), fake.tolist()
    near = inside(real, radii(real, k_coverage), fake)
    return {
        "precision": inside(real, radii(real, k), fake).any(1).mean(),
        "recall": inside(fake, radii(fake, k), real).any(1).mean(),
        "density": near.sum() / k_coverage / len(fake),
        "coverage": near.any(0).mean(),
    }


@pytest.mark.parametrize(("n", "m", "d"), [(30, 20, 2), (15, 40, 6)])
@pytest.mark.parametrize("ks", [(3, 5), (1, 1), (6, 2)])
def test_prdc_is_the_definition(n, m, d, ks, blocks):
    real, fake = draw(n, d, 1), draw(m, d, 2, 0.8, 0.5)
    k, k_coverage = ks
    assert prdc(real, fake, k=k, k_coverage=k_coverage) == pytest.approx(prdc_oracle(real, fake, k, k_coverage))


def test_balls_are_closed(blocks):
    """Whole numbers, full of ties and of repeated points, whose balls have radius 0."""
    real, fake = whole(40, 2, 1, 4), whole(25, 2, 2, 5)
    assert prdc(real, fake) == pytest.approx(prdc_oracle(real, fake, 3, 5))
    alike = torch.tensor([[0.1, 0.7, 1e4]]).expand(8, 3)
    assert prdc(alike, alike) == {"precision": 1, "recall": 1, "density": 8 / 5, "coverage": 1}


def test_the_defaults_are_the_papers():
    real, fake = draw(30, 3, 1), draw(30, 3, 2, 0.7)
    assert prdc(real, fake) == prdc(real, fake, k=3, k_coverage=5) == pytest.approx(prdc_oracle(real, fake, 3, 5))


def test_prdc_tells_a_lost_mode_from_bad_samples():
    """Half of the modes: precise, but half recalled and covered. Samples elsewhere: nothing."""
    modes = torch.tensor([[0.0], [100.0]]).repeat(50, 2)
    real, one, far = modes + draw(100, 2, 1), draw(100, 2, 2), draw(100, 2, 3, shift=-1000)
    found = prdc(real, one)
    assert found["precision"] > 0.9 and found["density"] > 0.8 and found["recall"] < 0.55 and found["coverage"] <= 0.5
    assert prdc(real, far)["precision"] == prdc(real, far)["density"] == prdc(real, far)["coverage"] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance, prdc])
def test_one_answer_for_every_layout(measure, dtype):
    a, b = draw(20, 6, 1, dtype=dtype), draw(16, 6, 2, dtype=dtype)
    want = measure(a.double(), b.double())
    assert measure(a, b) == measure(a, b) == want
    assert measure(a.T.contiguous().T, torch.stack([b, b], 1)[:, 0]) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance, prdc])
def test_bad_features_are_named(measure):
    first, second = ("real", "fake") if measure is prdc else ("a", "b")
    good = draw(8, 3, 1)
    with pytest.raises(TypeError, match=f"{first}: expected floating-point"):
        measure(good.long(), good)
    few = 5 if measure is prdc else 1
    for bad in (good[:, 0], good[:few], good[:, :0]):
        with pytest.raises(ValueError, match=rf"{second}: expected features \(N, D\), N at least {few + 1}"):
            measure(good, bad)
    with pytest.raises(ValueError, match=f"{second}: expected 3 features"):
        measure(good, good[:, :2])
    with pytest.raises(ValueError, match=f"{first}: expected finite"):
        measure(good.index_fill(0, torch.tensor(2), math.inf), good)


def test_bad_numbers_of_neighbours_are_named():
    good = draw(8, 3, 1)
    for bad in (0, 1.5, True):
        with pytest.raises(ValueError, match="k: expected a whole number"):
            prdc(good, good, k=bad)
        with pytest.raises(ValueError, match="k_coverage: expected a whole number"):
            prdc(good, good, k_coverage=bad)
    with pytest.raises(ValueError, match=r"real: expected features .* at least 9"):
        prdc(good, good, k=8)
