"""The Parzen oracle against densities known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.oracle import parzen as oracle


def gaussian(x, mean, sigma):
    return -np.square(x - mean).sum(axis=-1) / (2 * sigma**2) - x.shape[-1] / 2 * math.log(2 * math.pi * sigma**2)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
@pytest.mark.parametrize("dimensions", [1, 5, 64])
def test_one_sample_is_a_gaussian(dimensions, sigma):
    rng = np.random.default_rng(0)
    x, mean = rng.normal(size=(7, dimensions)), rng.normal(size=(1, dimensions))
    got = oracle.parzen_log_likelihood(x, mean, sigma)
    np.testing.assert_allclose(got, gaussian(x, mean, sigma), rtol=1e-13)
    np.testing.assert_allclose(oracle.parzen_log_likelihood(x, mean.repeat(9, axis=0), sigma), got, rtol=1e-13)


def test_density_integrates_to_one():
    samples = np.random.default_rng(1).normal(size=(20, 1))
    x = np.linspace(-8, 8, 20001)[:, None]
    density = np.exp(oracle.parzen_log_likelihood(x, samples, 0.2))
    np.testing.assert_allclose(density.sum() * (x[1, 0] - x[0, 0]), 1, rtol=1e-10)


def test_two_samples_by_hand():
    """At the middle of -1 and 1 both give the same."""
    got = oracle.parzen_log_likelihood(np.zeros((1, 1)), np.array([[-1.0], [1.0]]), 1.0)
    np.testing.assert_allclose(got, -0.5 - math.log(math.sqrt(2 * math.pi)), rtol=1e-14)
    far = oracle.parzen_log_likelihood(np.array([[1e3]]), np.array([[-1.0], [1.0]]), 0.1)
    np.testing.assert_allclose(far, gaussian(np.array([[1e3]]), 1.0, 0.1) - math.log(2), rtol=1e-14)


def test_images_are_rows():
    rng = np.random.default_rng(2)
    x, samples = rng.normal(size=(3, 2, 4, 4)), rng.normal(size=(5, 2, 4, 4))
    got = oracle.parzen_log_likelihood(x, samples, 0.5)
    np.testing.assert_array_equal(got, oracle.parzen_log_likelihood(x.reshape(3, -1), samples.reshape(5, -1), 0.5))


def test_gradients_are_the_limits_of_differences():
    rng = np.random.default_rng(3)
    x, samples, grad, sigma, step = rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), rng.normal(size=3), 0.8, 1e-6

    def total(x, samples):
        return (grad * oracle.parzen_log_likelihood(x, samples, sigma)).sum()

    for which, gradient in enumerate(oracle.parzen_gradients(grad, x, samples, sigma)):
        for index in np.ndindex(gradient.shape):
            shift = np.zeros(gradient.shape)
            shift[index] = step
            up, down = ((x + s, samples) if which == 0 else (x, samples + s) for s in (shift, -shift))
            np.testing.assert_allclose(gradient[index], (total(*up) - total(*down)) / (2 * step), rtol=1e-7, atol=1e-8)


def test_gradients_pull_towards_the_nearest_sample():
    at_x, at_samples = oracle.parzen_gradients(np.ones(1), np.zeros((1, 1)), np.array([[1.0], [50.0]]), 1.0)
    assert at_x.tolist() == [[1.0]] and at_samples.tolist() == [[-1.0], [0.0]]


def test_haar_is_orthonormal_and_its_low_twice_the_mean():
    images = np.random.default_rng(4).normal(size=(2, 3, 6, 8))
    low, high = oracle.haar_split(images)
    np.testing.assert_allclose(low, 2 * images.reshape(2, 3, 3, 2, 4, 2).mean(axis=(3, 5)), rtol=1e-12)
    np.testing.assert_allclose(oracle.haar_merge(low, high), images, atol=1e-15)
    np.testing.assert_allclose(np.square(low).sum() + np.square(high).sum(), np.square(images).sum(), rtol=1e-13)
    assert (oracle.haar_split(np.ones((1, 1, 2, 2)))[1] == 0).all()


def test_multiscale_of_one_sample_is_one_gaussian():
    """With one sample and one sigma at all levels, the split is a rotation: a Gaussian around the merged samples."""
    rng = np.random.default_rng(5)
    images, centre = rng.normal(size=(3, 2, 8, 8)), rng.normal(size=(1, 2, 8, 8))
    middle, fine = oracle.haar_split(centre)
    low, coarse = oracle.haar_split(middle)
    samples = [np.repeat(high[None], 3, axis=0) for high in (fine, coarse)]
    got = oracle.multiscale_log_likelihood(images, low, samples, [0.6, 0.6, 0.6])
    np.testing.assert_allclose(got, gaussian(images.reshape(3, -1), centre.reshape(1, -1), 0.6), rtol=1e-12)


def test_multiscale_density_integrates_to_one():
    """Four pixels, samples of high independent of low: two mixtures of Gaussians, product over an orthonormal split."""
    rng = np.random.default_rng(6)
    low_samples, high_samples = rng.normal(size=(3, 1, 1, 1)), rng.normal(size=(4, 1, 3, 1, 1))
    axis = np.linspace(-7, 7, 29)
    images = np.stack(np.meshgrid(*[axis] * 4, indexing="ij"), axis=-1).reshape(-1, 1, 2, 2)
    keep = np.random.default_rng(7).permutation(len(images))[:200]
    direct = oracle.multiscale_log_likelihood(
        images[keep], low_samples, [np.repeat(high_samples[None], 200, axis=0)], [0.7, 0.9]
    )
    low, high = oracle.haar_split(images)
    factored = oracle.parzen_log_likelihood(low, low_samples, 0.9) + oracle.parzen_log_likelihood(
        high, high_samples, 0.7
    )
    np.testing.assert_allclose(direct, factored[keep], rtol=1e-12)
    np.testing.assert_allclose(np.exp(factored).sum() * (axis[1] - axis[0]) ** 4, 1, rtol=1e-3)
