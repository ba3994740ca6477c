"""PCA against NumPy's singular value decomposition, whatever the batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.data.images import to_model_range
from lapcore.models.autoencoding import PRIOR
from lapcore.models.pca import PCA
from lapcore.nn.blocks import IMAGE_LOGVAR
from tests.models import autoencoders as shared
from tests.models.autoencoders import CLOSE, images_of, numpy
from tests.training.tiny import Pictures


def data(count: int = 60) -> Tensor:
    """Images 4x4 whose components have variances that differ."""
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    rows = torch.randn(count, 16, generator=generator) * 0.3 * 0.8 ** torch.arange(16.0)
    return (rows @ rotation + 0.2).clamp(-1, 1).view(count, 1, 4, 4)


def fitted(images: Tensor, parts: int = 1, **options: Any) -> PCA:
    model = PCA(**(dict(image_size=4, channels=1, latent=3, rank=16) | options))
    model.set_stage("all")
    for part in images.chunk(parts):
        model.loss(part)
    return model.eval()


def reference(images: Tensor, latent: int = 3) -> tuple[Any, Any, Any, float]:
    """Mean, components, their variances, and the mean variance across them."""
    rows = numpy(images).reshape(len(images), -1)
    mean = rows.mean(0)
    _, scales, axes = np.linalg.svd(rows - mean, full_matrices=False)
    variances = scales**2 / len(rows)
    return mean, axes[:latent], variances[:latent], variances[latent:].sum() / (rows.shape[1] - latent)


@pytest.mark.parametrize("parts", [1, 2, 7, 20])
def test_components_are_those_of_the_whole_set_in_any_batches(parts: int) -> None:
    images = data()
    model, (mean, axes, variances, across) = fitted(images, parts), reference(images)
    np.testing.assert_allclose(numpy(model.subspace.mean), mean, atol=1e-6)
    cosines = np.abs((numpy(model.subspace.axes[:3]) * axes).sum(1))
    np.testing.assert_allclose(cosines, 1, atol=1e-6)
    along, rest = model._variances()
    np.testing.assert_allclose(numpy(along), variances, rtol=1e-4)
    assert rest.item() == pytest.approx(across, rel=1e-4)


def test_more_passes_change_nothing() -> None:
    images = data()
    once, twice = fitted(images, 3), fitted(torch.cat([images, images]), 6)
    torch.testing.assert_close(twice.reconstruct(images), once.reconstruct(images), **CLOSE)
    torch.testing.assert_close(twice.sample(torch.arange(3)), once.sample(torch.arange(3)), **CLOSE)


def test_with_a_short_list_the_large_components_are_nearly_right() -> None:
    images = data(200)
    model, (_, axes, _, across) = fitted(images, 10, rank=6), reference(images)
    overlap = np.linalg.svd(numpy(model.subspace.axes[:3]) @ axes.T)[1]
    assert overlap.min() > 0.99
    assert model._variances()[1].item() == pytest.approx(across, rel=0.1)


def test_fewer_images_than_components_are_reconstructed_exactly() -> None:
    images = data(3)
    torch.testing.assert_close(fitted(images).reconstruct(images), images, **CLOSE)


def test_loss_is_the_gaussians_density() -> None:
    """Of the covariance as a matrix: variances along the components, their mean across."""
    images = data()
    model, (mean, axes, variances, across) = fitted(images, 4).double(), reference(images)
    images = images.double()
    covariance = axes.T @ np.diag(variances) @ axes + across * (np.eye(16) - axes.T @ axes)
    away = numpy(images).reshape(60, 16) - mean
    squares = (away @ np.linalg.inv(covariance) * away).sum(1)
    log_p = -0.5 * (squares + np.linalg.slogdet(covariance)[1] + 16 * np.log(2 * np.pi))
    np.testing.assert_allclose(numpy(model.elbo(images)), log_p, rtol=1e-4)
    losses = model.loss(images)
    assert losses["loss"].item() == pytest.approx(-log_p.mean() / 16, rel=1e-4)
    assert losses["mse"].item() == pytest.approx(((away - away @ axes.T @ axes) ** 2).mean(), rel=1e-4)
    assert not any(value.requires_grad for value in losses.values())


def test_no_variance_is_below_a_grey_level() -> None:
    images = data(2)
    along, across = fitted(images)._variances()
    floor = math.exp(IMAGE_LOGVAR[0])
    assert along[0] > floor and along[1].item() == along[2].item() == across.item() == pytest.approx(floor)


def test_samples_are_draws_along_the_components() -> None:
    images, seeds = data(), torch.arange(4)
    model = fitted(images)
    noise = numpy(lapcore.random.normal((4, 3), seeds, stream=PRIOR))
    rows = numpy(model.subspace.mean) + noise * np.sqrt(reference(images)[2]) @ numpy(model.subspace.axes[:3])
    np.testing.assert_allclose(numpy(model.sample(seeds)).reshape(4, 16), rows, atol=1e-5)


def test_evaluation_changes_nothing() -> None:
    model, images = fitted(data()), data()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.loss(images[:5])
    model.reconstruct(images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_player_has_no_parameters() -> None:
    model = PCA(4, 1, latent=3)
    (player,) = model.players("all")
    assert player.name == "model" and model.set_stage("all") == [] and not list(model.parameters())
    assert model.dtype == torch.float32 and model.device == torch.device("cpu")
    with pytest.raises(ValueError, match="stage"):
        model.players("level0")


def test_a_sample_depends_on_its_seed_alone() -> None:
    shared.assert_a_sample_depends_on_its_seed_and_label_alone(fitted(data()))


def test_operations_on_images() -> None:
    images = images_of(20, 6)
    model = fitted(images, image_size=6, channels=3, latent=8, rank=30)
    line = model.interpolate(images[:2], images[2:4], 3)
    torch.testing.assert_close(line[1], (line[0] + line[2]) / 2, **CLOSE)
    torch.testing.assert_close(model.decode(model.encode(images)), model.reconstruct(images), **CLOSE)
    has = torch.arange(20) < 5
    difference = model.reconstruct(images)[has].mean(0) - model.reconstruct(images)[~has].mean(0)
    moved = model.shift(images, model.attribute_vector(images, has)) - model.reconstruct(images)
    torch.testing.assert_close(moved[0], difference, **CLOSE)


def test_autocast_changes_little() -> None:
    shared.assert_autocast_changes_little(fitted(data()), data(6))


def test_trains_through_the_loop(tmp_path: Path) -> None:
    """21 steps of 8 are 8 passes over the 21 images: the estimate is that of the set."""
    model = PCA(4, 3, latent=3, rank=48)
    shared.assert_trains(model, tmp_path, steps=21)
    mean, axes, variances, across = reference(to_model_range(Pictures(size=4).images))
    np.testing.assert_allclose(numpy(model.subspace.mean), mean, atol=1e-5)
    np.testing.assert_allclose(np.abs((numpy(model.subspace.axes[:3]) * axes).sum(1)), 1, atol=1e-4)
    np.testing.assert_allclose(numpy(model._variances()[0]), variances, rtol=1e-3)
    assert model._variances()[1].item() == pytest.approx(across, rel=1e-3)


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    shared.assert_comes_back_the_same(fitted(data()), tmp_path / "m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 17}, "latent: expected at most 16"),
        ({"rank": 2}, "rank: expected at least latent, 3"),
        ({"latent": 0}, "latent"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PCA(**(dict(image_size=4, channels=1, latent=3) | options))
