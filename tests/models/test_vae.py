"""The VAE: its loss, sampling by seed, and the operations on images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.models import VAE
from lapcore.models.vae import POSTERIOR
from tests.models.autoencoders import assert_trains

CLOSE = {"rtol": 0.0, "atol": 2e-5}


def small(**options: Any) -> VAE:
    settings = dict(image_size=16, latent=8, widths=(8, 16), decoder_widths=(8, 8), hidden=32)
    return VAE(**(settings | options))


def warmed(**options: Any) -> VAE:
    model = small(**options)
    labels = None if model.num_classes is None else torch.arange(8) % model.num_classes
    with torch.no_grad():
        for _ in range(20):
            model.loss(images_of(8, model.image_size), labels)
    return model.eval()


def images_of(count: int, size: int = 16) -> Tensor:
    coarse = torch.rand(count, 3, 4, 4)
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear") * 2 - 1


def test_the_papers_layout() -> None:
    """64x64: three 5x5 convolutions to 8x8x256, hidden layer 1024, code 128, and back by 256, 128, 32."""
    shapes = {name: tuple(p.shape) for name, p in VAE().named_parameters() if p.ndim in (2, 4)}
    assert list(shapes.values()) == [
        (64, 3, 5, 5), (128, 64, 5, 5), (256, 128, 5, 5), (1024, 8 * 8 * 256), (256, 1024),
        (8 * 8 * 256, 128), (256, 256, 5, 5), (256, 128, 5, 5), (128, 32, 5, 5), (3, 32, 5, 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"variance": "pixel"},
        {"variance": 0.02},
        {"linear": True},
        {"num_classes": 4},
        {"attributes": ["hat", "tie"]},
    ],
)
def test_gradients_reach_every_parameter(options: dict[str, Any]) -> None:
    model = small(**options)
    parameters = model.set_stage("all")
    labels = torch.tensor([0, 1, 2, 3]) if "num_classes" in options else None
    labels = torch.eye(4)[:, :2] if "attributes" in options else labels
    model.loss(images_of(4), labels, stage="all")["loss"].backward()
    assert set(parameters) == set(model.parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("options", [{}, {"variance": 0.01}, {"linear": True}])
def test_overfits_a_few_images(options: dict[str, Any]) -> None:
    model, images = small(**options), images_of(8)
    before = (model.eval().reconstruct(images) - images).square().mean()
    optimizer = torch.optim.Adam(model.set_stage("all"), lr=5e-3)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(images)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5
    assert (model.reconstruct(images) - images).square().mean() < 0.2 * before


def test_loss_is_the_formula() -> None:
    """The bound again with torch.distributions; a fixed variance makes it C ||x - f||^2 + KL up to a constant."""
    model = warmed(variance=0.02, kl_weight=0.5).double()
    images, seeds = images_of(4).double(), torch.tensor([3, 1, 4, 1])
    mean, logvar = model.encode(images)
    z = mean + (logvar / 2).exp() * lapcore.random.normal(mean.shape, seeds, stream=POSTERIOR, dtype=torch.float64)
    squares = (model.decode(z) - images).square().flatten(1).sum(1)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mean, (logvar / 2).exp()), normal(0.0, 1.0)).sum(1)
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi * 0.02, dtype=torch.float64)) * images[0].numel()
    losses = model.loss(images, seeds=seeds)
    # soft_clamp moves a log-variance of -3.9 by less than e**-5.8 = 3e-3.
    torch.testing.assert_close(losses["nll"], (squares / (2 * 0.02) + constant).mean(), rtol=1e-2, atol=1)
    torch.testing.assert_close(losses["kl"], kl.mean(), rtol=1e-6, atol=0)
    total = (losses["nll"] + 0.5 * losses["kl"]) / images[0].numel()
    torch.testing.assert_close(losses["loss"], total)
    torch.testing.assert_close(model.elbo(images, seeds=seeds).mean(), -losses["nll"] - losses["kl"])


@pytest.mark.parametrize("num_classes", [None, 3])
def test_a_sample_depends_on_its_seed_and_label_alone(num_classes: int | None) -> None:
    model = warmed(num_classes=num_classes)
    seeds = torch.tensor([5, 0, 2**62, -3, 5])
    labels = None if num_classes is None else torch.tensor([0, 1, 2, 1, 0])
    whole = model.sample(seeds, labels)
    assert torch.equal(whole, model.sample(seeds, labels))
    single = [model.sample(seeds[i : i + 1], None if labels is None else labels[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(torch.cat(single), whole, **CLOSE)
    torch.testing.assert_close(whole[0], whole[4], **CLOSE)
    assert (whole[0] - whole[1]).abs().max() > 0.01
    if labels is not None:
        assert (model.sample(seeds, (labels + 1) % 3) - whole).abs().max() > 1e-3


def test_a_sample_depends_on_its_attributes() -> None:
    model, seeds = small(attributes=["hat", "tie"]).eval(), torch.arange(3)
    plain = model.sample(seeds, torch.zeros(3, 2))
    assert torch.equal(plain, model.sample(seeds, torch.zeros(3, 2)))
    hat = model.sample(seeds, torch.tensor([[1.0, 0.0]] * 3))
    assert ((hat - plain).flatten(1).abs().amax(1) > 1e-4).all()
    with pytest.raises(ValueError, match=r"labels: expected shape \(3, 2\), a column for each attribute, got \(3, 3\)"):
        model.sample(seeds, torch.zeros(3, 3))


def test_sampling_in_training_mode_is_that_of_evaluation_mode() -> None:
    model = warmed()
    expected = model.sample(torch.arange(3))
    model.set_stage("all")
    assert torch.equal(model.sample(torch.arange(3)), expected)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("size", [8, 13, 31])
def test_any_size(size: int) -> None:
    model = warmed(image_size=size)
    images = images_of(2, size)
    for result in (
        model.reconstruct(images),
        model.reconstruct(images, torch.arange(2)),
        model.sample(torch.arange(2)),
    ):
        assert result.shape == images.shape and result.abs().max() <= 1


def test_interpolation_starts_and_ends_at_the_reconstructions() -> None:
    model = warmed()
    a, b = images_of(2), images_of(2)
    line = model.interpolate(a, b, 4)
    assert line.shape == (4, *a.shape)
    torch.testing.assert_close(line[0], model.reconstruct(a), **CLOSE)
    torch.testing.assert_close(line[-1], model.reconstruct(b), **CLOSE)


def test_trains_through_the_loop(tmp_path: Path) -> None:
    assert_trains(small(image_size=8), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 0}, "latent"),
        ({"decoder_widths": (8,)}, "decoder_widths: expected 2 numbers"),
        ({"variance": "learned"}, "variance"),
        ({"kl_weight": -1.0}, "kl_weight"),
        ({"hidden": 2.5}, "hidden"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_bad_arguments_are_named() -> None:
    model = small().eval()
    images = images_of(2)
    with pytest.raises(ValueError, match=r"images: .*NaN"):
        model.loss(images * float("nan"))
    with pytest.raises(ValueError, match=r"images: .*\(N, 3, 16, 16\)"):
        model.reconstruct(images[..., :8])
    with pytest.raises(ValueError, match=r"stage: .*all"):
        model.loss(images, stage="level0")
    with pytest.raises(ValueError, match=r"codes: .*\(N, 8\)"):
        model.decode(torch.zeros(2, 9))
    with pytest.raises(TypeError, match=r"seeds: .*int64"):
        model.sample(torch.zeros(2))
