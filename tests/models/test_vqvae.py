"""VQVAE: both stages' losses, the bound, codes and their prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lapcore.models.vqvae import VQVAE
from lapcore.nn.blocks import IMAGE_LOGVAR
from lapcore.nn.running_gaussians import ErrorVariance
from tests.models import autoencoders as shared
from tests.models.autoencoders import CLOSE, images_of, numpy


def small(**options: Any) -> VQVAE:
    settings = dict(image_size=8, codes=5, dim=3, hidden=6, blocks=1, prior_hidden=4, prior_layers=2, prior_embedding=3)
    return VQVAE(**(settings | options))


def trained(**options: Any) -> VQVAE:
    model = small(**options)
    labels = None if model.num_classes is None else torch.arange(6) % 3
    images = images_of(6, model.image_size, model.channels)
    for stage in model.training_stages():
        shared.train_by_hand(model, images, 10, labels, stage)
    model.set_stage("autoencoder")
    return model.eval()


def test_the_papers_layout() -> None:
    """Two strided 4x4 convolutions and two residual blocks each side, 256 maps, K = 512; 32x32 has codes 8x8."""
    model = VQVAE(prior_hidden=4, prior_layers=2)
    shapes = [tuple(p.shape) for p in model.encoder.parameters() if p.ndim == 4]
    block = [(256, 256, 3, 3), (256, 256, 1, 1)]
    assert shapes == [(256, 3, 4, 4), (256, 256, 4, 4), *block, *block, (64, 256, 1, 1)]
    shapes = [tuple(p.shape) for p in model.decoder.parameters() if p.ndim == 4]
    assert shapes == [(256, 64, 3, 3), *block, *block, (256, 256, 4, 4), (256, 3, 4, 4)]
    assert model.quantizer.codebook.shape == (512, 64) and model.quantizer.beta == 0.25
    assert model.prior.image_size == 8 and model.prior.levels == 512
    assert model.players("autoencoder")[0].lr == 2e-4


@pytest.mark.parametrize("decay", [None, 0.99])
@pytest.mark.parametrize("stage", ["autoencoder", "prior"])
def test_gradients_reach_the_stage_alone(stage: str, decay: float | None) -> None:
    model = small(decay=decay, num_classes=3)
    shared.train_by_hand(model, images_of(6, 8), 2, torch.arange(6) % 3)
    shared.assert_gradients_reach_the_player_alone(model, images_of(6, 8), stage, torch.arange(6) % 3)


@pytest.mark.parametrize("decay", [None, 0.99])
def test_the_autoencoders_loss_is_the_formula(decay: float | None) -> None:
    model = trained(decay=decay, beta=0.4, data_variance=0.3).double()
    images = images_of(4, 8).double()
    z = numpy(model.encoder(images)).transpose(0, 2, 3, 1).reshape(-1, 3)
    codebook = numpy(model.quantizer.codebook)
    chosen = ((z[:, None] - codebook) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(model.encode(images).numpy(), chosen.reshape(4, 2, 2))
    nearest = codebook[chosen]
    places = torch.from_numpy(nearest.reshape(4, 2, 2, 3).transpose(0, 3, 1, 2).copy())
    mean = numpy(model.decoder(places))
    mse = ((mean - numpy(images)) ** 2).mean()
    distance = ((z - nearest) ** 2).mean()
    quantization = (0.4 if decay else 1.4) * distance
    shares = np.bincount(chosen, minlength=5) / len(chosen)
    expected = {
        "loss": mse / 0.3 + quantization,
        "mse": mse,
        "commitment": distance,
        "perplexity": np.prod(shares**-shares),
    }
    losses = model.loss(images, stage="autoencoder")
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-6), name


def test_the_variances_are_the_mean_squared_errors_of_all_batches_and_later_forget() -> None:
    error = ErrorVariance(2).double()
    errors = torch.randn(101, 3, 2, 4, 4, dtype=torch.float64)
    for batch in errors[:100]:
        error.follow(batch)
    expected = (numpy(errors[:100]) ** 2).mean((0, 1, 3, 4))
    np.testing.assert_allclose(numpy(error.variance), expected, rtol=1e-12)
    error.follow(errors[100])
    expected = 0.99 * expected + 0.01 * (numpy(errors[100]) ** 2).mean((0, 2, 3))
    np.testing.assert_allclose(numpy(error.variance), expected, rtol=1e-12)
    error.variance.zero_()
    np.testing.assert_allclose(numpy(error.logvar()), IMAGE_LOGVAR[0])


def test_the_priors_loss_and_the_bound_are_sums_of_log_probabilities() -> None:
    model = trained(num_classes=3)
    images, labels = images_of(4, 8), torch.tensor([0, 1, 2, 1])
    indices = model.encode(images)
    with torch.no_grad():
        values = 2 * indices[:, None].float() / 4 - 1
        logits = numpy(model.prior.network(values, *model.prior._conditions(labels)))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    log_p = np.take_along_axis(log_p, indices.numpy()[:, None], 1).reshape(4, -1).sum(1)
    losses = model.loss(images, labels, stage="prior")
    assert losses["loss"].item() == pytest.approx(-log_p.mean() / 4, rel=1e-5)
    assert losses["bits_per_code"].item() == pytest.approx(-log_p.mean() / 4 / np.log(2), rel=1e-5)
    mean = numpy(model.decoder(model.quantizer.lookup(indices)))
    expected = log_p - shared.nll(numpy(images), mean, np.log(numpy(model.error.variance))[:, None, None])
    np.testing.assert_allclose(numpy(model.elbo(images, labels)), expected, rtol=1e-5)


def test_the_bound_is_below_the_likelihood() -> None:
    """One place, so that p(x) = sum_k p(k) p(x|k) can be summed over all codes."""
    model = trained(image_size=4, channels=1)
    images = images_of(3, 4, 1)
    log_p = []
    for k in range(5):
        codes = torch.full((3, 1, 1), k)
        mean, logvar = numpy(model.decoder(model.quantizer.lookup(codes))), np.log(numpy(model.error.variance))
        prior = numpy(model.prior.log_likelihood(2 * codes[:, None].float() / 4 - 1))
        log_p.append(prior - shared.nll(numpy(images), mean, logvar))
    likelihood = np.logaddexp.reduce(log_p)
    assert np.all(numpy(model.elbo(images)) <= likelihood + 1e-4)


def test_samples_decode_draws_of_the_prior() -> None:
    model = trained(num_classes=3)
    seeds, labels = torch.arange(3), torch.tensor([0, 1, 2])
    codes = ((model.prior.sample(seeds, labels) + 1) * 2).round().long()[:, 0]
    assert torch.equal(model.sample(seeds, labels), model.decode(codes))


def test_the_prior_learns_what_images_there_are() -> None:
    """Two kinds of image: after both stages the prior's bits fall below half of a uniform one's, and samples look like them."""
    torch.manual_seed(0)
    model = small(hidden=16, prior_hidden=16, codes=8)
    images = torch.stack([torch.full((3, 8, 8), -0.7), torch.full((3, 8, 8), 0.7)]).repeat(4, 1, 1, 1)
    first = shared.train_by_hand(model, images, 200, stage="autoencoder")
    assert first[-1]["model"]["mse"] < 0.5 * first[0]["model"]["mse"]
    second = shared.train_by_hand(model, images, 100, stage="prior", lr=1e-2)
    assert second[-1]["model"]["loss"] < 0.5 * second[0]["model"]["loss"]
    kinds = model.sample(torch.arange(32)).mean((1, 2, 3))
    assert (kinds.abs() > 0.5).float().mean() > 0.8 and (kinds > 0).any() and (kinds < 0).any()


def test_the_prior_stage_leaves_the_autoencoder_alone() -> None:
    model = small()
    images = images_of(6, 8)
    shared.train_by_hand(model, images, 3, stage="autoencoder")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shared.train_by_hand(model, images, 3, stage="prior")
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("prior.") for name in changed)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_sample_depends_on_its_seed_and_label_alone(labelled: bool) -> None:
    model = small(codes=16, hidden=16, num_classes=3 if labelled else None)
    with torch.no_grad():  # codes and classes that differ from each other by much
        model.quantizer.codebook.normal_()
        for vectors in model.prior.class_vectors:
            vectors.weight.normal_(std=3)
    shared.assert_a_sample_depends_on_its_seed_and_label_alone(model.eval(), labelled)


@pytest.mark.parametrize("size", [1, 3, 8, 13])
def test_any_size(size: int) -> None:
    model = trained(image_size=size)
    images = images_of(2, size)
    assert model.encode(images).shape == (2, -(-size // 4), -(-size // 4))
    assert model.reconstruct(images).shape == images.shape == model.sample(torch.arange(2)).shape
    assert model.elbo(images).isfinite().all()


def test_reconstruction_interpolation_and_arithmetic() -> None:
    model = trained()
    a, b = images_of(2, 8), images_of(2, 8)
    torch.testing.assert_close(model.reconstruct(a), model.decode(model.encode(a)), **CLOSE)
    torch.testing.assert_close(model.reconstruct(a, torch.arange(2)), model.reconstruct(a), rtol=0, atol=0)
    line = model.interpolate(a, b, 3)
    torch.testing.assert_close(line[0], model.reconstruct(a), **CLOSE)
    torch.testing.assert_close(line[2], model.reconstruct(b), **CLOSE)
    vector = model.attribute_vector(torch.cat([a, b]), torch.tensor([True, True, False, False]))
    assert vector.shape == (3, 2, 2)
    torch.testing.assert_close(model.shift(a, 0 * vector), model.reconstruct(a), **CLOSE)


def test_autocast_changes_little() -> None:
    shared.assert_autocast_changes_little(trained(), images_of(6, 8))


def test_trains_through_the_loop(tmp_path: Path) -> None:
    shared.assert_trains(small(num_classes=2), tmp_path, labelled=True)


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    shared.assert_comes_back_the_same(trained(), tmp_path / "m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codes": 1}, "codes: expected an integer from 2"),
        ({"dim": 0}, "dim"),
        ({"data_variance": 0.0}, "data_variance: expected a number above 0"),
        ({"decay": 1.0}, "decay: expected None or a number"),
        ({"prior_layers": 0}, "prior_layers"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_bad_arguments_are_named() -> None:
    model = trained()
    with pytest.raises(ValueError, match="stage: expected autoencoder, prior, got 'all'"):
        model.loss(images_of(2, 8), stage="all")
    with pytest.raises(ValueError, match=r"codes: expected shape \(N, 2, 2\), got \(2, 3, 2\)"):
        model.decode(torch.zeros(2, 3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="codes: expected 0 to 4, got 0 to 5"):
        model.decode(torch.tensor([[[0, 1], [2, 5]]]))
    with pytest.raises(TypeError, match=r"codes: expected torch\.int64"):
        model.decode(torch.zeros(2, 2, 2))
