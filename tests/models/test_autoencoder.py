"""Autoencoder: its error, the Gaussian of its codes, and the subspace of the linear one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.models.autoencoder import Autoencoder
from lapcore.models.autoencoding import PRIOR
from lapcore.nn.running_gaussians import SLOWEST, CodeGaussian
from tests.models import autoencoders as shared
from tests.models.autoencoders import CLOSE, images_of, numpy


def small(**options: Any) -> Autoencoder:
    settings = dict(image_size=16, latent=6, widths=(8, 16), decoder_widths=(8, 8), hidden=16)
    return Autoencoder(**(settings | options))


def warmed(**options: Any) -> Autoencoder:
    model = small(**options)
    shared.train_by_hand(model, images_of(6, model.image_size), 5)
    return model.eval()


@pytest.mark.parametrize("linear", [False, True])
def test_gradients_reach_every_parameter(linear: bool) -> None:
    shared.assert_gradients_reach_the_player_alone(small(linear=linear), images_of(6), "all")


@pytest.mark.parametrize("linear", [False, True])
def test_loss_is_the_mean_squared_error(linear: bool) -> None:
    model, images = warmed(linear=linear), images_of(4)
    losses = model.loss(images)
    again = numpy(model.decode(model.encode(images)))
    assert losses["loss"].item() == pytest.approx(((again - numpy(images)) ** 2).mean(), rel=1e-5)
    torch.testing.assert_close(model.reconstruct(images), model.decode(model.encode(images)), **CLOSE)


def test_the_linear_one_is_two_affine_maps() -> None:
    model, images = warmed(linear=True), images_of(3)
    encoder, decoder = [
        [layer for layer in m if isinstance(layer, torch.nn.Linear)] for m in (model.encoder, model.decoder)
    ]
    assert len(encoder) == len(decoder) == 1 and len(list(model.parameters())) == 4
    rows = numpy(images).reshape(3, -1)
    codes, error = affine(rows, np.zeros_like(rows), encoder[0])
    assert (np.abs(numpy(model.encode(images)) - codes) <= error).all()
    decoded, error = affine(codes, error, decoder[0])
    assert (np.abs(numpy(model.reconstruct(images)).reshape(3, -1) - decoded) <= error).all()


def affine(x: Any, error: Any, layer: torch.nn.Linear) -> tuple[Any, Any]:
    """The layer in float64, and how far off it may be in float32: a rounding for each term of each sum, beside x's own error."""
    weight, bias = numpy(layer.weight), numpy(layer.bias)
    size = (np.abs(x) + error) @ np.abs(weight).T + np.abs(bias)
    terms = weight.shape[1] + 1
    return x @ weight.T + bias, error @ np.abs(weight).T + terms * torch.finfo(torch.float32).eps / 2 * size


def principal_angles(a: Any, b: Any) -> Any:
    """Between the spans of the rows of a and of b, in radians."""
    q, _ = np.linalg.qr(a.T)
    r, _ = np.linalg.qr(b.T)
    return np.arccos(np.clip(np.linalg.svd(q.T @ r)[1], -1, 1))


def test_a_linear_autoencoder_spans_the_principal_components() -> None:
    """Baldi and Hornik: at the minimum the decoder's columns span the space of the largest components, of NumPy's SVD."""
    torch.manual_seed(0)
    scales = torch.tensor([1.0, 0.8, 0.6] + [0.2] * 13)
    rotation = torch.linalg.qr(torch.randn(16, 16))[0]
    images = ((torch.randn(64, 16) * scales) @ rotation * 0.2).clamp(-1, 1).view(64, 1, 4, 4)
    model = Autoencoder(4, 1, latent=3, linear=True).double()
    images = images.double()
    start = principal_angles(numpy(model.decoder[0].weight).T, components(images, 3)).max()
    optimizer = torch.optim.LBFGS(
        model.set_stage("all"),
        max_iter=300,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-10,
        tolerance_change=1e-16,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model.loss(images)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    angles = principal_angles(numpy(model.decoder[0].weight).T, components(images, 3))
    assert start > 0.5 and angles.max() < 1e-3
    rows = numpy(images).reshape(64, 16)
    rest = np.linalg.svd(rows - rows.mean(0))[1][3:]
    assert model.loss(images)["loss"].item() == pytest.approx((rest**2).sum() / (64 * 16), rel=1e-6)


def components(images: Tensor, count: int) -> Any:
    rows = numpy(images).reshape(len(images), -1)
    return np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:count]


def test_samples_decode_draws_of_the_codes_gaussian() -> None:
    """The draws' mean and covariance are those of the codes of one training batch."""
    model, images = small().train(), images_of(40)
    with torch.no_grad():
        model.loss(images)
        codes = numpy(model.encoder(images))
    noise = lapcore.random.normal((20_000, 6), torch.arange(20_000), stream=PRIOR)
    drawn = numpy(model.prior.draw(noise))
    # Standard errors of 20,000 draws, times 5.
    spread = codes.std(0)
    np.testing.assert_array_less(np.abs(drawn.mean(0) - codes.mean(0)), 5 * spread / math.sqrt(20_000))
    wanted = np.cov(codes.T, bias=True)
    allowed = 5 * np.sqrt((wanted**2 + np.outer(wanted.diagonal(), wanted.diagonal())) / 20_000)
    np.testing.assert_array_less(np.abs(np.cov(drawn.T, bias=True) - wanted), allowed)
    decoded = model.eval().decode(model.prior.draw(noise[:3]))
    torch.testing.assert_close(model.sample(torch.arange(3)), decoded, **CLOSE)


def test_the_gaussian_is_that_of_all_batches_and_later_forgets() -> None:
    """Weights 1/t make it the exact mean and covariance of all; those below 0.01 are raised to that."""
    gaussian = CodeGaussian(3).double()
    batches = torch.randn(100, 8, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64) + 5
    for batch in batches:
        gaussian.follow(batch)
    rows = numpy(batches).reshape(-1, 3)
    np.testing.assert_allclose(numpy(gaussian.mean), rows.mean(0), atol=1e-12)
    np.testing.assert_allclose(numpy(gaussian.covariance), np.cov(rows.T, bias=True), atol=1e-12)
    mean, covariance, last = rows.mean(0), np.cov(rows.T, bias=True), torch.randn(8, 3, dtype=torch.float64)
    gaussian.follow(last)
    second = (1 - SLOWEST) * (covariance + np.outer(mean, mean)) + SLOWEST * numpy(last).T @ numpy(last) / 8
    mean = (1 - SLOWEST) * mean + SLOWEST * numpy(last).mean(0)
    np.testing.assert_allclose(numpy(gaussian.mean), mean, atol=1e-12)
    np.testing.assert_allclose(numpy(gaussian.covariance), second - np.outer(mean, mean), atol=1e-11)


def test_overfits_a_few_images() -> None:
    model, images = small(), images_of(8)
    history = shared.train_by_hand(model, images, 200)
    assert history[-1]["model"]["loss"] < 0.5 * history[0]["model"]["loss"]


@pytest.mark.parametrize("linear", [False, True])
def test_a_sample_depends_on_its_seed_alone(linear: bool) -> None:
    shared.assert_a_sample_depends_on_its_seed_and_label_alone(warmed(linear=linear))


@pytest.mark.parametrize("size", [1, 5, 13])
@pytest.mark.parametrize("linear", [False, True])
def test_any_size(size: int, linear: bool) -> None:
    model = warmed(image_size=size, linear=linear)
    assert model.reconstruct(images_of(2, size)).shape == (2, 3, size, size) == model.sample(torch.arange(2)).shape


def test_interpolation_starts_and_ends_at_the_reconstructions() -> None:
    model, a, b = warmed(), images_of(2), images_of(2)
    line = model.interpolate(a, b, 4)
    torch.testing.assert_close(line[0], model.reconstruct(a), **CLOSE)
    torch.testing.assert_close(line[-1], model.reconstruct(b), **CLOSE)


def test_autocast_changes_little() -> None:
    shared.assert_autocast_changes_little(warmed(), images_of(6))


@pytest.mark.parametrize("linear", [False, True])
def test_trains_through_the_loop(linear: bool, tmp_path: Path) -> None:
    shared.assert_trains(small(image_size=8, linear=linear), tmp_path)


@pytest.mark.parametrize("linear", [False, True])
def test_a_saved_model_comes_back_the_same(linear: bool, tmp_path: Path) -> None:
    shared.assert_comes_back_the_same(warmed(linear=linear), tmp_path / "m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 0}, "latent"),
        ({"decoder_widths": (8,)}, "decoder_widths: expected 2 numbers"),
        ({"hidden": 0}, "hidden"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_labels_are_refused() -> None:
    model = warmed()
    with pytest.raises(ValueError, match="labels: expected None, as the model has no classes"):
        model.sample(torch.arange(2), torch.tensor([0, 1]))
