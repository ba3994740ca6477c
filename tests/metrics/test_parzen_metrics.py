"""The Parzen measures: where the truth is known, against the oracle, and the multi-scale estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lapcore.data import to_uint8
from lapcore.metrics import choose_sigma, evaluate_parzen, haar_merge, haar_split, multiscale_parzen, parzen
from lapcore.metrics.parzen import SIGMAS
from tests.oracle import parzen as oracle
from tests.tolerance import assert_close, to_numpy


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_sigmas_are_the_published_grid():
    np.testing.assert_allclose(SIGMAS, np.logspace(-1, 0, 10))


def test_sigma_is_the_best_on_validation_images():
    validation, samples = draw(20, 1, 3, 2, seed=1, scale=0.3), draw(30, 1, 3, 2, seed=2, scale=0.3)
    means = [oracle.parzen_log_likelihood(to_numpy(validation), to_numpy(samples), sigma).mean() for sigma in SIGMAS]
    best = int(np.argmax(means))
    assert 0 < best < 9
    assert choose_sigma(validation, samples) == SIGMAS[best]
    assert choose_sigma(validation, samples, [SIGMAS[best], 3.0]) == SIGMAS[best]


def test_the_numbers_are_those_of_the_oracle():
    test, validation, samples = (draw(n, 2, 3, seed=n, scale=0.4) for n in (11, 12, 13))
    result = parzen(test, validation, samples)
    values = oracle.parzen_log_likelihood(to_numpy(test), to_numpy(samples), result["sigma"])
    want = {
        "mean": values.mean(),
        "std": values.std(),
        "standard_error": values.std() / math.sqrt(11),
        "sigma": choose_sigma(validation, samples),
        "images": 11,
        "samples": 13,
    }
    assert result == pytest.approx(want, rel=1e-5)


def test_the_likelihood_of_a_known_gaussian():
    """Samples of N(0, s^2) in two dimensions: the estimate comes near to the mean log density, -ln(2 pi e s^2), and stays below."""
    scale = 0.5
    test, validation, samples = (draw(n, 2, seed=n, scale=scale) for n in (2000, 500, 8000))
    result = parzen(test, validation, samples)
    true = -(test.double() ** 2).sum(1) / (2 * scale**2) - math.log(2 * math.pi * scale**2)
    assert result["mean"] == pytest.approx(true.mean().item(), abs=0.03)
    assert result["mean"] < true.mean().item()
    assert result["std"] == pytest.approx(true.std().item(), abs=0.1)
    assert result["sigma"] in (SIGMAS[0], SIGMAS[1])


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (1, 1, 2, 2), (0, 1, 4, 2)])
def test_haar_is_the_oracles_and_inverts(shape):
    images = draw(*shape).double()
    low, high = haar_split(images)
    want_low, want_high = oracle.haar_split(to_numpy(images))
    assert_close(low, want_low, 1e-15)
    assert_close(high, want_high, 1e-15)
    assert_close(haar_merge(low, high), to_numpy(images), 1e-14)
    assert_close(haar_merge(high[:, :, 0], high), oracle.haar_merge(want_high[:, :, 0], want_high), 1e-14)


def test_haar_refuses_odd_sides():
    for shape in ((1, 1, 3, 4), (1, 1, 4, 3), (4, 4)):
        with pytest.raises(ValueError, match="even"):
            haar_split(torch.zeros(shape))
    with pytest.raises(TypeError, match="floating-point"):
        haar_split(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected"):
        haar_merge(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, 2))


def details(level, low, count=5):
    """Samples of high that depend on the level and on the image's own low."""
    shape = (count, low.shape[1], 3, *low.shape[2:])
    return draw(*shape, seed=level, scale=0.3).to(low) + 0.1 * low[:, :, None]


def test_multiscale_is_the_oracle():
    test, validation, low = draw(4, 2, 8, 4, seed=1), draw(6, 2, 8, 4, seed=2), draw(7, 2, 2, 1, seed=3, scale=3.0)
    result = multiscale_parzen(test, validation, low, details)
    assert len(result["sigmas"]) == len(result["means"]) == 3

    def log_likelihood(images, sigmas):
        drawn, part = [], images
        for level in range(2):
            part, _ = haar_split(part)
            drawn.append(np.stack([to_numpy(details(level, part[i : i + 1])) for i in range(len(part))]))
        return oracle.multiscale_log_likelihood(to_numpy(images), to_numpy(low), drawn, sigmas)

    values = log_likelihood(test, result["sigmas"])
    assert result["mean"] == pytest.approx(values.mean(), rel=1e-5)
    assert result["std"] == pytest.approx(values.std(), rel=1e-4)
    assert sum(result["means"]) == pytest.approx(result["mean"])
    # Every level's sigma is the best on the validation images, the others left as they are.
    for level in range(3):
        tried = [[*result["sigmas"][:level], sigma, *result["sigmas"][level + 1 :]] for sigma in SIGMAS]
        best = int(np.argmax([log_likelihood(validation, sigmas).mean() for sigmas in tried]))
        assert result["sigmas"][level] == SIGMAS[best]


def test_multiscale_of_a_known_gaussian():
    """Independent pixels stay independent under the orthonormal split: two levels measure what one does."""
    test, validation = draw(300, 1, 2, 2, seed=1, scale=0.5), draw(100, 1, 2, 2, seed=2, scale=0.5)
    samples = draw(4000, 1, 2, 2, seed=3, scale=0.5)
    low, high = haar_split(samples)
    several = multiscale_parzen(test, validation, low, lambda level, given: high)
    true = (-(test.double() ** 2).sum((1, 2, 3)) / 0.5 - 2 * math.log(2 * math.pi * 0.25)).mean().item()
    assert several["mean"] == pytest.approx(true, abs=0.3) and several["mean"] < true
    assert several["mean"] > parzen(test, validation, samples)["mean"] - 0.05


def test_one_level_is_parzen():
    test, validation, samples = (draw(n, 1, 3, 3, seed=n, scale=0.5) for n in (5, 6, 7))
    several, one = multiscale_parzen(test, validation, samples, details), parzen(test, validation, samples)
    assert several["means"] == [several["mean"]] and several["sigmas"] == [one["sigma"]]
    assert several["mean"] == one["mean"] and several["std"] == one["std"]


class Noise:
    """Draws image i of nothing but its seed, and has ten classes, or none."""

    def __init__(self, num_classes=None):
        self.config, self.num_classes, self.attributes, self.device = {}, num_classes, (), torch.device("cpu")
        self.labels = []

    def sample(self, seeds, labels=None):
        self.labels += [] if labels is None else labels.tolist()
        return torch.stack([draw(1, 4, 4, seed=int(seed), scale=0.3).clamp(-1, 1) for seed in seeds])


def test_a_model_is_measured_by_its_samples_in_0_to_1():
    model = Noise()
    held_out = to_uint8(draw(12, 1, 4, 4, seed=99, scale=0.3).clamp(-1, 1))
    seen = []
    settings = {"samples": 9, "seed": 3, "batch": 4, "on_images": seen.append}
    result = evaluate_parzen(model, held_out[:8], held_out[8:], **settings)["parzen"]
    samples = to_uint8(model.sample(torch.arange(3, 12)))
    assert result == parzen(held_out[:8] / 255, held_out[8:] / 255, samples / 255)
    assert sum(seen) == 9 == result["samples"] and result["images"] == 8
    of_classes = Noise(num_classes=10)
    evaluate_parzen(of_classes, held_out[:8], held_out[8:], samples=20, batch=10)
    assert sorted(of_classes.labels) == sorted([*range(10)] * 2)


def test_refusals():
    images = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match="validation: expected at least one image"):
        parzen(images, images[:0], images)
    with pytest.raises(ValueError, match="test: expected finite"):
        parzen(images * math.nan, images, images)
    with pytest.raises(ValueError, match="samples: expected finite"):
        choose_sigma(images, images * math.nan)
    for low in (torch.zeros(2, 1, 3, 3), torch.zeros(2, 1, 8, 8), torch.zeros(2, 2, 2, 2), torch.zeros(2, 1, 2, 1)):
        with pytest.raises(ValueError, match="low_samples: expected sides"):
            multiscale_parzen(images, images, low, details)
    with pytest.raises(ValueError, match="test, validation"):
        multiscale_parzen(images, images[..., :2], images, details)
    with pytest.raises(ValueError, match="draw: expected"):
        multiscale_parzen(images, images, torch.zeros(2, 1, 2, 2), lambda level, low: low)
    with pytest.raises(TypeError, match="test: expected uint8"):
        evaluate_parzen(Noise(), images, images)
    with pytest.raises(ValueError, match="samples: expected at least 1"):
        evaluate_parzen(Noise(), images.byte(), images.byte(), samples=0)
