"""Samples that are drawn to be measured, whole and from a level on, and distances over several sets of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lapcore.data import to_model_range, to_uint8
from lapcore.metrics import (
    FeatureNetwork,
    check_distances,
    draw_samples,
    evaluate_elbo,
    evaluate_multiscale_parzen,
    evaluate_samples,
    features,
    frechet_distance,
    haar_split,
    halving_levels,
    kernel_distance,
    low_pass,
    multiscale_parzen,
    prdc,
    sliced_wasserstein,
)
from lapcore.models import VAE, LapCVAE
from tests.oracle import pyramid as oracle

MEANS = FeatureNetwork("means", lambda x: x.unflatten(2, (2, -1)).mean((3, 4)).flatten(1))


def pictures(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.fixture(scope="module")
def lapcvae():
    torch.manual_seed(0)
    return LapCVAE(image_size=16, levels=2, latent=8, band_latent=2, widths=(8,), band_width=8, hidden=16).eval()


def small_vae(**options):
    torch.manual_seed(0)
    return VAE(image_size=8, latent=4, widths=(4,), decoder_widths=(4,), hidden=8, **options).eval()


def test_samples_are_those_of_seeds_options_and_labels(lapcvae):
    done = []
    drawn = draw_samples(lapcvae, 5, seed=6, batch=4, options={"temperature": 0}, on_images=done.append)
    assert drawn.dtype == torch.uint8 and sum(done) == 5
    assert torch.equal(drawn[2:], to_uint8(lapcvae.sample(torch.arange(8, 12), temperature=0))[:3])
    classes = small_vae(num_classes=3)
    assert torch.equal(
        draw_samples(classes, 4, batch=4), to_uint8(classes.sample(torch.arange(4), torch.tensor([0, 1, 2, 0])))
    )
    attributes, vectors = small_vae(attributes=["a", "b"]), torch.tensor([[0.0, 1.0], [1.0, 0.5], [0.3, 0.0]])
    expected = attributes.sample(torch.arange(4, 8), vectors[[1, 2, 0, 1]])
    assert torch.equal(draw_samples(attributes, 4, seed=4, batch=4, labels=vectors), to_uint8(expected))


@pytest.mark.parametrize("level", [1, 2])
def test_samples_from_a_level_keep_it(lapcvae, level):
    """Seed s keeps image s mod n, whatever the block; finer detail is the seed's."""
    images = pictures(3, 3, 16, 16)
    settings = {"batch": 4, "options": {"temperature": 0.5}, "images": images, "from_level": level}
    drawn = draw_samples(lapcvae, 6, seed=3, **settings)
    coarse = lapcvae.decompose(to_model_range(images)).images[level]
    seeds = torch.arange(4, 8)
    expected = lapcvae.sample(seeds, coarse=coarse[seeds % 3], from_level=level, temperature=0.5)
    assert torch.equal(drawn[1:5], to_uint8(expected))
    assert torch.equal(draw_samples(lapcvae, 2, seed=4, **settings), drawn[1:3])


def test_bad_requests_are_named(lapcvae):
    with pytest.raises(ValueError, match="samples: expected at least 1, got 0"):
        draw_samples(lapcvae, 0)
    with pytest.raises(ValueError, match="images, from_level: expected both or neither"):
        draw_samples(lapcvae, 1, from_level=1)
    with pytest.raises(ValueError, match="brightness"):
        draw_samples(lapcvae, 1, options={"brightness": 2})


@pytest.mark.parametrize("level", [0, 1, 3])
def test_low_pass_is_the_pyramids(level):
    images = pictures(2, 3, 13, 16)
    want = oracle.gaussian_pyramid(images.double().numpy(), level)[level]
    # Each halving rounds to the nearest integer, and later ones average earlier roundings.
    np.testing.assert_allclose(low_pass(images, level), want, rtol=0, atol=0.5 * level + 1e-9)


def test_distances_are_the_functions_and_their_spread_over_sets():
    images, sets = pictures(20, 3, 16, 16), [pictures(16, 3, 16, 16, seed=seed) // 2 for seed in (1, 2)]
    taken, done = [], []

    def drawing():
        for each in sets:
            taken.append(len(each))
            yield each

    names = ["swd", "kid", "prdc", "frechet"]
    found = evaluate_samples(images, drawing(), names, samples=16, network=MEANS, on_images=done.append)
    assert taken == [16] * 2 and sum(done) == 20 + 2 * 16
    real, fakes = features(images, MEANS), [features(each, MEANS) for each in sets]
    want = {
        "swd": [sliced_wasserstein(images, each)["mean"] for each in sets],
        "swd_level0": [sliced_wasserstein(images, each)["level0"] for each in sets],
        "kid": [kernel_distance(real, fake) for fake in fakes],
        "frechet": [frechet_distance(real, fake) for fake in fakes],
    } | {name: [prdc(real, fake)[name] for fake in fakes] for name in ("precision", "recall", "density", "coverage")}
    assert found.keys() == want.keys()
    for name, values in want.items():
        assert found[name]["mean"] == pytest.approx(np.mean(values))
        assert found[name]["std"] == pytest.approx(np.std(values), abs=1e-12)
        assert (found[name]["images"], found[name]["samples"], found[name]["sets"]) == (20, 16, 2)
        assert found[name].get("features") == (None if name.startswith("swd") else "means")
    one = evaluate_samples(images, sets[:1], ["swd"], samples=16)
    assert one["swd"] == {"mean": want["swd"][0], "images": 20, "samples": 16, "sets": 1}


def test_what_cannot_be_measured_is_refused_before_a_set_is_drawn():
    def never():
        raise AssertionError
        yield

    images = pictures(6, 3, 8, 8)
    for names, settings, words in (
        (["fid"], {"samples": 9}, "distances: expected some of swd, kid, prdc, frechet, got 'fid'"),
        (["kid", "prdc"], {"samples": 5, "network": MEANS}, "samples: expected at least 6 for prdc, got 5"),
        (["frechet"], {"samples": 1, "network": MEANS}, "samples: expected at least 2 for frechet, got 1"),
        (["kid"], {"samples": 9}, "network: expected one for kid"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate_samples(images, never(), names, **settings)
    with pytest.raises(ValueError, match="images: expected at least 6 for prdc, got 5"):
        check_distances(["prdc"], images[:5], 6)
    with pytest.raises(ValueError, match="images: expected sides of at least 7 for swd, got 8x6"):
        check_distances(["swd"], images[..., :6], 6)


def test_multiscale_parzen_of_a_model_with_levels(lapcvae):
    """The draw, one image at a time, from `sample` and the model's own pyramid of the low's picture."""
    test, validation, drawn = (pictures(n, 3, 16, 16, seed=n) for n in (3, 2, 7))
    assert halving_levels(lapcvae) == 2
    found = evaluate_multiscale_parzen(lapcvae, test, validation, drawn, details=4, seed=5)["multiscale_parzen"]
    seeds = torch.arange(5, 9)

    def draw(level, low):
        assert low.shape[0] == 1
        blocks = torch.ones(2 ** (level + 1), 2 ** (level + 1))
        picture = torch.kron(low[0] / 2 ** (level + 1), blocks)[None] * 2 - 1
        coarse = lapcvae.decompose(picture).images[level + 1]
        image = (lapcvae.sample(seeds, coarse=coarse, from_level=level + 1) + 1) / 2
        return haar_split(haar_split(image)[0] if level else image)[1]

    low = haar_split(haar_split(drawn / 255)[0])[0]
    want = multiscale_parzen(test / 255, validation / 255, low, draw)
    assert found.pop("samples") == 7 and found.pop("details") == 4
    assert found["sigmas"] == want["sigmas"] and found["images"] == 3
    assert found["mean"] == pytest.approx(want["mean"], rel=1e-5)
    with pytest.raises(ValueError, match="details: expected at least 1"):
        evaluate_multiscale_parzen(lapcvae, test, validation, drawn, details=0)
    with pytest.raises(TypeError, match="drawn: expected uint8"):
        evaluate_multiscale_parzen(lapcvae, test, validation, drawn / 255)


def test_a_pyramid_that_does_not_halve_has_no_haar_levels():
    torch.manual_seed(0)
    odd = LapCVAE(image_size=15, levels=1, latent=4, band_latent=2, widths=(4,), band_width=4, hidden=8)
    with pytest.raises(ValueError, match="finest level halves 15 exactly"):
        halving_levels(odd)


class KnownBound:
    """A model whose bound is a number for each image and seed."""

    def elbo(self, images, labels=None, seeds=None):
        return images.sum((1, 2, 3)) + 10 * labels + 100 * seeds


class Codeless:
    def elbo(self, images, labels=None):
        return images.sum((1, 2, 3))


def test_the_bound_is_named_and_its_seeds_count_on(lapcvae):
    images, labels = torch.rand(5, 1, 2, 2, dtype=torch.float64), torch.arange(5)
    batches = [(images[:2], labels[:2]), (images[2:], labels[2:])]
    values = images.numpy().sum((1, 2, 3)) + 10 * np.arange(5) + 100 * np.arange(7, 12)
    found = evaluate_elbo(KnownBound(), batches, seed=7)
    assert found == {"elbo": pytest.approx({"mean": values.mean(), "std": values.std(), "images": 5})}
    values = images.numpy().sum((1, 2, 3))
    assert evaluate_elbo(Codeless(), batches)["elbo"]["mean"] == pytest.approx(values.mean())
    seen = to_model_range(pictures(4, 3, 16, 16))
    with torch.no_grad():
        want = lapcvae.elbo(seen, seeds=torch.arange(4)).double()
    assert evaluate_elbo(lapcvae, [(seen, None)]) == {
        "elbo_pyramid": pytest.approx({"mean": want.mean().item(), "std": want.std(correction=0).item(), "images": 4})
    }
    with pytest.raises(ValueError, match="batches: expected at least one image"):
        evaluate_elbo(KnownBound(), [])
