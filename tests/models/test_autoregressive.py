"""What PixelCNN, Gated PixelCNN and PixelCNN++ share: likelihoods that are exact, and draws that follow them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.models import MODELS
from lapcore.models.autoregressive import AutoregressiveModel

CATEGORICAL = ("pixelcnn", "gated_pixelcnn")
NAMES = (*CATEGORICAL, "pixelcnn_pp")
TINY: dict[str, dict[str, Any]] = {
    "pixelcnn": dict(image_size=4, channels=3, hidden=6, layers=2, levels=5, head=9),
    "gated_pixelcnn": dict(image_size=4, channels=3, hidden=6, layers=3, levels=5, head=9),
    "pixelcnn_pp": dict(image_size=4, channels=3, hidden=4, mixtures=2, resnets=1, dropout=0.5),
}


def small(name: str, *, sharpness: float = 1.0, **options: Any) -> Any:
    """A model whose weights are those of a seed; sharpness scales the last layer, that distributions are not all alike."""
    torch.manual_seed(2)
    model = MODELS[name](**(TINY[name] | options))
    network: Any = model.network
    last = {"pixelcnn": lambda: network.head[-1], "gated_pixelcnn": lambda: network.logits}.get(name)
    if last is not None:
        with torch.no_grad():
            last().weight.mul_(sharpness)
    return model.eval()


def images_of(model: AutoregressiveModel, count: int) -> Tensor:
    """Values on the model's levels."""
    shape = (count, model.channels, model.image_size, model.image_size)
    return torch.randint(0, model.levels, shape) * 2.0 / (model.levels - 1) - 1


def whole_space(model: AutoregressiveModel) -> Tensor:
    """Every image there is."""
    values = torch.arange(model.levels) * 2.0 / (model.levels - 1) - 1
    count = model.channels * model.image_size**2
    return torch.cartesian_prod(*[values] * count).view(-1, model.channels, model.image_size, model.image_size)


@pytest.mark.parametrize("name", CATEGORICAL)
@pytest.mark.parametrize(
    "options",
    [
        dict(image_size=2, channels=1, levels=3, hidden=4),
        dict(image_size=2, channels=1, levels=3, hidden=4, embedding=2, num_classes=2),
        dict(image_size=1, channels=3, levels=4),
        dict(image_size=2, channels=2, levels=2),
    ],
)
def test_the_probabilities_of_all_images_sum_to_1(name: str, options: dict[str, Any]) -> None:
    model = small(name, sharpness=8.0, **options).double()
    images = whole_space(model).double()
    labels = None if model.num_classes is None else torch.ones(len(images), dtype=torch.int64)
    p = model.log_likelihood(images, labels).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    assert p.max() > 3 * p.min()


def test_the_probabilities_of_the_last_pixel_of_a_mixture_sum_to_1() -> None:
    """Times those of all pixels before it, which they do not change."""
    model = small("pixelcnn_pp", channels=1).double()
    images = images_of(model, 1).double().expand(256, -1, -1, -1).clone()
    images[:, 0, -1, -1] = torch.arange(256) / 127.5 - 1
    params = model.network(images)
    last = lapcore.discretized_logistic_mixture_nll(params[..., -1:, -1:], images[..., -1:, -1:])
    before = model.log_likelihood(images) + last
    torch.testing.assert_close(before, before[:1].expand(256), rtol=0, atol=1e-9)
    assert last.neg().exp().sum().item() == pytest.approx(1, abs=1e-7)  # levels are float32


@pytest.mark.parametrize("name", NAMES)
def test_the_likelihood_is_the_product_of_conditionals(name: str) -> None:
    """Each from a network that was shown nothing but what goes before."""
    model = small(name, sharpness=4.0, num_classes=2).double()
    images, labels = images_of(model, 2).double(), torch.tensor([1, 0])
    conditions = [vectors(labels) for vectors in model.class_vectors]
    size, channels = model.image_size, model.channels
    expected = torch.zeros(2, dtype=torch.float64)
    for i in range(size):
        for j in range(size):
            shown = images.clone()
            shown[:, :, i + 1 :] = 0
            shown[:, :, i, j:] = 0
            if name == "pixelcnn_pp":
                params = model.network(shown, *conditions)[..., i : i + 1, j : j + 1]
                pixel = images[..., i : i + 1, j : j + 1]
                expected -= lapcore.discretized_logistic_mixture_nll(params, pixel)
                continue
            for c in range(channels):
                shown[:, :c, i, j] = images[:, :c, i, j]
                logits = model.network(shown, *conditions).view(2, channels, model.levels, size, size)[:, c, :, i, j]
                level = ((images[:, c, i, j] + 1) / 2 * (model.levels - 1)).round().long()
                expected += logits.log_softmax(1)[torch.arange(2), level]
    torch.testing.assert_close(model.log_likelihood(images, labels), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_likelihood(name: str) -> None:
    model = small(name)
    images = images_of(model, 4)
    losses = model.loss(images)
    nats = -model.log_likelihood(images).mean() / images[0].numel()
    torch.testing.assert_close(losses["loss"], nats)
    torch.testing.assert_close(losses["bpd"], nats / math.log(2))
    assert losses["loss"].requires_grad and not losses["bpd"].requires_grad
    assert not model.log_likelihood(images).requires_grad


def test_likelihoods_are_of_evaluation_mode() -> None:
    """Dropout is for `loss`."""
    model = small("pixelcnn_pp")
    images = images_of(model, 3)
    expected = model.log_likelihood(images)
    model.set_stage("all")
    assert torch.equal(model.log_likelihood(images), expected) and model.network.training
    assert not torch.equal(model.loss(images)["loss"], model.loss(images)["loss"])


@pytest.mark.parametrize("name", CATEGORICAL)
def test_images_are_rounded_to_the_levels(name: str) -> None:
    model = small(name, levels=16)
    grey = torch.arange(256, dtype=torch.uint8)
    images = (grey.float() / 127.5 - 1).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    rounded = (grey.double() / 17).round().mul(2).div(15).sub(1).float().view(-1, 1, 1, 1).expand_as(images)
    torch.testing.assert_close(model.log_likelihood(images), model.log_likelihood(rounded.contiguous()))


@pytest.mark.parametrize("name", NAMES)
def test_training_learns_what_pixels_share(name: str) -> None:
    """Images of one random value each: one value to guess, and then to copy."""
    model = small(name, channels=1, num_classes=2)
    images = images_of(model, 16)[..., :1, :1].expand(-1, -1, 4, 4).contiguous()
    labels = torch.arange(16) % 2
    optimizer = torch.optim.Adam(model.set_stage("all"), lr=2e-2)
    before = model.log_likelihood(images, labels).mean()
    for _ in range(30):
        optimizer.zero_grad()
        model.loss(images, labels)["loss"].backward()
        optimizer.step()
    after = model.log_likelihood(images, labels).mean()
    values = 16 * math.log(2)
    assert (after - before) / values > 0.9, (before / values, after / values)


def test_draws_follow_the_likelihood() -> None:
    """All 16 images of 2x2 values of 2 levels: counts of 4000 draws against probabilities, by chi-square."""
    model = small("gated_pixelcnn", sharpness=12.0, image_size=2, channels=1, levels=2, hidden=4)
    images = whole_space(model)
    p = model.log_likelihood(images).exp()
    drawn = model.sample(torch.arange(4000))
    counts = (drawn.flatten(1)[:, None] == images.flatten(1)).all(2).sum(0)
    assert counts.sum() == 4000
    chi2 = ((counts - 4000 * p) ** 2 / (4000 * p)).sum()
    assert chi2 < 37.7  # the 99.9th percentile, 15 degrees of freedom
    assert p.max() > 2 * p.min()


def test_completions_follow_the_conditional_likelihood() -> None:
    model = small("pixelcnn", sharpness=12.0, image_size=2, channels=1, levels=2, hidden=4)
    images = whole_space(model)
    given = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand(4000, 1, 2, 2)
    known = torch.tensor([[False, True], [False, False]]).expand(4000, 1, 2, 2)
    possible = images[images[:, 0, 0, 1] == -1]
    # p(x_1) p(x_3 | x_1, x_2) p(x_4 | ...): the known one's own factor falls out.
    p = model.log_likelihood(possible).exp() / _conditional(model, possible, 0, 1)
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    drawn = model.sample(torch.arange(4000), given=given, known=known)
    counts = (drawn.flatten(1)[:, None] == possible.flatten(1)).all(2).sum(0)
    assert counts.sum() == 4000
    assert ((counts - 4000 * p) ** 2 / (4000 * p)).sum() < 24.3  # the 99.9th percentile, 7 degrees of freedom


@torch.no_grad()
def _conditional(model: Any, images: Tensor, i: int, j: int) -> Tensor:
    """p(pixel (i, j) | those before), (N,), of grey images."""
    p = model.network(images).softmax(1)[:, :, i, j]
    level = ((images[:, 0, i, j] + 1) / 2 * (model.levels - 1)).round().long()
    return p[torch.arange(len(images)), level]


@pytest.mark.parametrize("name", NAMES)
def test_sampling_is_by_its_definition(name: str) -> None:
    """Drawn by the cached program and by the whole network, with classes and given pixels."""
    model = small(name, sharpness=4.0, num_classes=3)
    seeds, labels = torch.tensor([5, 0, 2**62]), torch.tensor([0, 2, 1])
    given = torch.rand(3, 3, 4, 4).mul(2).sub(1)
    known = torch.rand(3, 1, 4, 4) < 0.4
    drawn = model.sample(seeds, labels, given=given, known=known)
    assert torch.equal(drawn, model.naive_sample(seeds, labels, given=given, known=known))
    levels = (drawn + 1) / 2 * (model.levels - 1)
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert (drawn - given)[known.expand_as(given)].abs().max() <= 1 / (model.levels - 1) + 1e-6
    assert (drawn != model.sample(seeds, labels)).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_draw_depends_on_its_seed_and_label_alone(name: str) -> None:
    model = small(name, sharpness=4.0, num_classes=3)
    seeds, labels = torch.tensor([5, 0, -3, 5]), torch.tensor([0, 2, 1, 0])
    whole = model.sample(seeds, labels)
    parts = [model.sample(seeds[i : i + 1], labels[i : i + 1]) for i in range(4)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(whole[0], whole[3]) and not torch.equal(whole[0], whole[1])
    for vectors in model.class_vectors:
        torch.nn.init.normal_(vectors.weight)
    assert not torch.equal(model.sample(seeds, (labels + 1) % 3), model.sample(seeds, labels))


@pytest.mark.parametrize("name", CATEGORICAL)
def test_single_channels_can_be_given(name: str) -> None:
    """Red and green stay, blue is drawn."""
    model = small(name, sharpness=4.0)
    given = images_of(model, 2)
    known = torch.tensor([True, True, False]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    for draw in (model.sample, model.naive_sample):
        drawn = draw(torch.arange(2), given=given, known=known)
        assert torch.equal(drawn[:, :2], given[:, :2])
        assert not torch.equal(drawn[:, 2], given[:, 2])


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments_are_named(name: str) -> None:
    model = small(name)
    images, seeds = images_of(model, 2), torch.arange(2)
    known = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"images: .*\(N, 3, 4, 4\)"):
        model.log_likelihood(images[..., :3])
    with pytest.raises(ValueError, match=r"images: expected values in \[-1, 1\]"):
        model.loss(images * 2)
    with pytest.raises(ValueError, match="labels: expected None"):
        model.loss(images, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"stage: .*all"):
        model.loss(images, stage="level0")
    for draw in (model.sample, model.naive_sample):
        with pytest.raises(TypeError, match=r"seeds: .*int64"):
            draw(torch.zeros(2))
        with pytest.raises(ValueError, match="given, known: expected both"):
            draw(seeds, given=images)
        with pytest.raises(ValueError, match="given: expected 2 images"):
            draw(seeds, given=images[:1], known=known)
        with pytest.raises(ValueError, match=r"known: expected shape \(2, 1, 4, 4\)"):
            draw(seeds, given=images, known=known[:, :, :1])
        with pytest.raises(TypeError, match=r"known: expected torch.bool"):
            draw(seeds, given=images, known=known.float())
    assert not hasattr(model, "reconstruct")


def test_a_mixture_takes_whole_pixels_as_given() -> None:
    model = small("pixelcnn_pp")
    with pytest.raises(ValueError, match=r"known: expected shape \(1, 1, 4, 4\), got"):
        model.sample(torch.arange(1), given=torch.zeros(1, 3, 4, 4), known=torch.zeros(1, 3, 4, 4, dtype=torch.bool))
