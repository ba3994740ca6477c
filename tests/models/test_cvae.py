"""CVAE: the bound with its conditional prior, sampling and relabelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.models.autoencoding import POSTERIOR, PRIOR
from lapcore.models.cvae import CVAE
from lapcore.nn.blocks import CODE_LOGVAR, IMAGE_LOGVAR
from tests.models import autoencoders as shared
from tests.models.autoencoders import CLOSE, images_of, numpy

NAMES = ["glasses", "beard"]


def small(**options: Any) -> CVAE:
    settings = dict(image_size=16, latent=6, widths=(8, 16), decoder_widths=(8, 8), hidden=16)
    if "attributes" not in options:
        settings["num_classes"] = 3
    return CVAE(**(settings | options))


def warmed(**options: Any) -> CVAE:
    """With batch-norm statistics of images, and a prior that differs from label to label."""
    model = small(**options)
    if model.prior is not None:
        torch.nn.init.normal_(model.prior.weight)
    shared.train_by_hand(model, images_of(6), 5, labels_of(model, 6))
    return model.eval()


def labels_of(model: CVAE, count: int) -> Tensor:
    if model.attributes:
        return (torch.arange(2 * count).view(count, 2) % 3 > 0).float()
    return torch.arange(count) % 3


@pytest.mark.parametrize("options", [{}, {"prior": "standard"}, {"attributes": NAMES}])
def test_gradients_reach_every_parameter(options: dict[str, Any]) -> None:
    model = small(**options)
    shared.assert_gradients_reach_the_player_alone(model, images_of(6), "all", labels_of(model, 6))


@pytest.mark.parametrize("options", [{}, {"attributes": NAMES}])
def test_loss_is_the_formula(options: dict[str, Any]) -> None:
    model = warmed(variance=0.02, kl_weight=0.5, **options).double()
    images, seeds = images_of(4).double(), torch.tensor([3, 1, 4, 1])
    labels = labels_of(model, 4)
    labels = labels.double() if model.attributes else labels
    assert model.prior is not None
    rows = labels.numpy() if model.attributes else np.eye(3)[labels.numpy()]
    out = rows @ numpy(model.prior.weight).T + numpy(model.prior.bias)
    prior_mean, prior_logvar = out[:, :6], shared.bounded(out[:, 6:], *CODE_LOGVAR)
    mean, logvar = map(numpy, model.encode(images, labels))
    noise = numpy(lapcore.random.normal((4, 6), seeds, stream=POSTERIOR, dtype=torch.float64))
    decoded = numpy(model.decode(torch.from_numpy(mean + np.exp(logvar / 2) * noise), labels))
    expected_kl = shared.kl(mean, logvar, prior_mean, prior_logvar).mean()
    expected_nll = shared.nll(numpy(images), decoded, shared.bounded(np.log(0.02), *IMAGE_LOGVAR)).mean()
    losses = model.loss(images, labels, seeds=seeds)
    assert losses["kl"].item() == pytest.approx(expected_kl, rel=1e-6)
    assert losses["nll"].item() == pytest.approx(expected_nll, rel=1e-6)
    total = (losses["nll"] + 0.5 * losses["kl"]) / images[0].numel()
    torch.testing.assert_close(losses["loss"], total)
    torch.testing.assert_close(model.elbo(images, labels, seeds).mean(), -losses["nll"] - losses["kl"])


def test_a_sample_depends_on_its_seed_and_label_alone() -> None:
    shared.assert_a_sample_depends_on_its_seed_and_label_alone(warmed(), labelled=True)


@pytest.mark.parametrize("options", [{}, {"prior": "standard"}, {"attributes": NAMES}])
def test_samples_decode_draws_of_the_labels_prior(options: dict[str, Any]) -> None:
    model = warmed(**options)
    labels, seeds = labels_of(model, 4), torch.arange(4)
    codes = lapcore.random.normal((4, 6), seeds, stream=PRIOR)
    if model.prior is not None:
        moments = model.prior(model.condition.vector(labels))
        logvar = torch.from_numpy(shared.bounded(numpy(moments[:, 6:]), *CODE_LOGVAR)).float()
        codes = moments[:, :6] + (logvar / 2).exp() * codes
    torch.testing.assert_close(model.sample(seeds, labels), model.decode(codes, labels), **shared.CLOSE)


@pytest.mark.parametrize("options", [{}, {"prior": "standard"}, {"attributes": NAMES}])
def test_relabelling_with_the_own_label_reconstructs(options: dict[str, Any]) -> None:
    model, images = warmed(**options), images_of(3)
    labels = labels_of(model, 3)
    torch.testing.assert_close(model.relabel(images, labels, labels), model.reconstruct(images, labels=labels), **CLOSE)
    others = labels.roll(1, 0)
    assert (model.relabel(images, labels, others) - model.reconstruct(images, labels=labels)).abs().max() > 1e-3


def test_labels_come_to_be_used() -> None:
    """Images that are the label's colour: the code need not say it, and another label gives the other colour."""
    model = small(num_classes=2, prior="standard", variance=0.02)
    labels = torch.arange(8) % 2
    images = (labels.float() * 1.6 - 0.8).view(8, 1, 1, 1).expand(8, 3, 16, 16).contiguous()
    history = shared.train_by_hand(model, images, 60, labels)
    assert history[-1]["model"]["mse"] < 0.5 * history[0]["model"]["mse"]
    drawn = model.sample(torch.arange(8), labels).mean((1, 2, 3))
    assert ((drawn > 0) == (labels == 1)).all()


def test_autocast_changes_little() -> None:
    shared.assert_autocast_changes_little(warmed(), images_of(6), torch.arange(6) % 3)


def test_trains_through_the_loop(tmp_path: Path) -> None:
    shared.assert_trains(small(image_size=8, num_classes=2), tmp_path, labelled=True)


@pytest.mark.parametrize("options", [{}, {"attributes": NAMES, "prior": "standard"}])
def test_a_saved_model_comes_back_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    model = warmed(**options)
    shared.assert_comes_back_the_same(model, tmp_path / "m", labels_of(model, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": None}, "num_classes, attributes: expected one of them"),
        ({"attributes": NAMES, "num_classes": 3}, "attributes: expected None beside num_classes"),
        ({"prior": "flat"}, 'prior: expected "learned" or "standard", got \'flat\''),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_bad_arguments_are_named() -> None:
    model, images = warmed(), images_of(2)
    with pytest.raises(ValueError, match="labels: expected int64"):
        model.reconstruct(images)
    with pytest.raises(ValueError, match="labels: expected 0 to 2"):
        model.relabel(images, torch.tensor([0, 1]), torch.tensor([0, 3]))
