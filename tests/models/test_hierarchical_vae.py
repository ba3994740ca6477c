"""HierarchicalVAE: the bound of two latents, sampling from the top, who depends on whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lapcore
from lapcore.models.autoencoding import POSTERIOR
from lapcore.models.hierarchical_vae import DRAWN, TOP_POSTERIOR, TOP_PRIOR, HierarchicalVAE
from lapcore.nn.blocks import CODE_LOGVAR, IMAGE_LOGVAR, INITIAL_CODE_LOGVAR
from tests.models import autoencoders as shared
from tests.models.autoencoders import CLOSE, images_of, numpy


def small(**options: Any) -> HierarchicalVAE:
    settings = dict(
        image_size=16, latent=6, top_latent=3, code_hidden=12, widths=(8, 16), decoder_widths=(8, 8), hidden=16
    )
    return HierarchicalVAE(**(settings | options))


def warmed(**options: Any) -> HierarchicalVAE:
    """Trained a little, with networks between the codes that are no longer at their start."""
    model = small(**options)
    for network in (model.top_encoder, model.top_decoder):
        torch.nn.init.normal_(network.moments.weight, std=0.5)
    labels = None if model.num_classes is None else torch.arange(6) % 3
    shared.train_by_hand(model, images_of(6), 5, labels)
    return model.eval()


@pytest.mark.parametrize("num_classes", [None, 3])
def test_gradients_reach_every_parameter(num_classes: int | None) -> None:
    model = small(num_classes=num_classes)
    for network in (model.top_encoder, model.top_decoder):
        torch.nn.init.normal_(network.moments.weight)
    labels = None if num_classes is None else torch.arange(6) % 3
    shared.assert_gradients_reach_the_player_alone(model, images_of(6), "all", labels)


def moments(network: Any, code: Any, start: float) -> tuple[Any, Any]:
    """The network between two codes, in NumPy."""
    x = code
    for layer in (network.first, network.second):
        x = np.maximum(x @ numpy(layer.weight).T + numpy(layer.bias), 0)
    out = x @ numpy(network.moments.weight).T + numpy(network.moments.bias)
    mean, logvar = np.split(out, 2, axis=1)
    return mean, shared.bounded(logvar + start, *CODE_LOGVAR)


def noise(seeds: torch.Tensor, size: int, stream: int) -> Any:
    return numpy(lapcore.random.normal((len(seeds), size), seeds, stream=stream, dtype=torch.float64))


def test_loss_is_the_formula() -> None:
    """E[log p(x|z1)] - E KL(q(z1|x) || p(z1|z2)) - E KL(q(z2|z1) || p(z2)), of the same draws."""
    model = warmed(variance=0.02, kl_weight=0.5).double()
    images, seeds = images_of(4).double(), torch.tensor([3, 1, 4, 1])
    mean1, logvar1 = map(numpy, model.encode(images))
    z1 = mean1 + np.exp(logvar1 / 2) * noise(seeds, 6, POSTERIOR)
    mean2, logvar2 = moments(model.top_encoder, z1, INITIAL_CODE_LOGVAR)
    z2 = mean2 + np.exp(logvar2 / 2) * noise(seeds, 3, TOP_POSTERIOR)
    kl1 = shared.kl(mean1, logvar1, *moments(model.top_decoder, z2, 0.0))
    kl2 = shared.kl(mean2, logvar2)
    decoded = numpy(model.decode(torch.from_numpy(z1)))
    nll = shared.nll(numpy(images), decoded, shared.bounded(np.log(0.02), *IMAGE_LOGVAR))
    losses = model.loss(images, seeds=seeds)
    for name, value in (("nll", nll), ("kl1", kl1), ("kl2", kl2)):
        assert losses[name].item() == pytest.approx(value.mean(), rel=1e-6), name
    assert losses["loss"].item() == pytest.approx((nll + 0.5 * (kl1 + kl2)).mean() / 768, rel=1e-6)
    np.testing.assert_allclose(numpy(model.elbo(images, seeds=seeds)), -nll - kl1 - kl2, rtol=1e-6)


def test_samples_come_from_the_top() -> None:
    model, seeds = warmed().double(), torch.arange(3)
    mean, logvar = moments(model.top_decoder, noise(seeds, 3, TOP_PRIOR), 0.0)
    z1 = mean + np.exp(logvar / 2) * noise(seeds, 6, DRAWN)
    torch.testing.assert_close(model.sample(seeds), model.decode(torch.from_numpy(z1)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_sample_depends_on_its_seed_and_label_alone(labelled: bool) -> None:
    model = warmed(num_classes=3 if labelled else None)
    shared.assert_a_sample_depends_on_its_seed_and_label_alone(model, labelled)


def test_the_bound_is_below_the_likelihood() -> None:
    """An image of one pixel: log p(x) by integrating over draws of z1 from the model."""
    model = small(image_size=1, channels=1, latent=1, top_latent=1, widths=(2,), decoder_widths=(2,), variance=0.5)
    shared.train_by_hand(model, torch.linspace(-1, 1, 8).view(8, 1, 1, 1), 30)
    model, x = model.double().eval(), torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64)
    with torch.no_grad():
        codes = model._drawn_codes(torch.arange(4000), None, 1.0)
        mean, logvar = model.decoder(codes, None)
        log_p = torch.logsumexp(-lapcore.gaussian_nll(x.expand_as(mean), mean, logvar), 0) - np.log(4000)
        elbo = model.elbo(x.expand(4000, 1, 1, 1), seeds=torch.arange(4000)).mean()
    assert elbo < log_p + 0.02


def test_the_top_learns_how_the_codes_go_together() -> None:
    """Images of two kinds: p(z1|z2) comes to hold z1 far better than N(0, I) would, so that the loss falls."""
    model = small(variance=0.02)
    images = images_of(2).repeat(4, 1, 1, 1)
    history = [said["model"] for said in shared.train_by_hand(model, images, 120)]
    assert history[-1]["mse"] < 0.5 * history[0]["mse"]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


def test_reconstruction_and_interpolation() -> None:
    model, a, b = warmed(), images_of(2), images_of(2)
    line = model.interpolate(a, b, 3)
    torch.testing.assert_close(line[0], model.reconstruct(a), **CLOSE)
    torch.testing.assert_close(line[2], model.reconstruct(b), **CLOSE)
    assert (model.reconstruct(a, torch.arange(2)) - model.reconstruct(a)).abs().max() > 1e-4


def test_autocast_changes_little() -> None:
    shared.assert_autocast_changes_little(warmed(variance=0.1), images_of(6))


def test_trains_through_the_loop(tmp_path: Path) -> None:
    """The networks between the codes start with a last layer of zeros, and pass gradients from the second step on."""
    shared.assert_trains(small(image_size=8), tmp_path)


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    shared.assert_comes_back_the_same(warmed(), tmp_path / "m")


@pytest.mark.parametrize("name", ["top_latent", "code_hidden", "latent"])
def test_bad_settings_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        small(**{name: 0})
