"""LapCVAE with PixelCNN layers as the likelihood of a level."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lapcore.models import LapCVAE, load_model
from lapcore.nn.level_noise import POSTERIOR, PRIOR, noise_stream, pixel_seeds
from lapcore.ops import random
from lapcore.ops.gaussian import gaussian_nll, reparameterize
from lapcore.ops.pyramid import pyr_up
from tests.models.lapcvae_models import CLOSE, small, smooth_images, warmed

PIXELCNN = {"pixelcnn_hidden": 8, "pixelcnn_layers": 2}


def model_of(*levels: int, **options: object) -> LapCVAE:
    torch.manual_seed(0)
    return warmed(pixelcnn=levels, **PIXELCNN, **options)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_loss_is_the_pixelcnn_s_with_the_gaussian_beside_it(level: int) -> None:
    model, images, seeds = model_of(level, pixelcnn_guide=0.3, kl_weight=0.5), smooth_images(3), torch.arange(3)
    with torch.no_grad():
        losses = model.loss(images, stage=f"level{level}", seeds=seeds)
        moments = model.encode(images)
        streams = [noise_stream(k, POSTERIOR) for k in range(3)]
        codes = [
            mean + torch.exp(logvar / 2) * random.normal(mean.shape, seeds, stream=stream)
            for (mean, logvar), stream in zip(moments, streams, strict=True)
        ]
        image = None
        for k in reversed(range(level, 3)):
            mean, logvar, image = model._likelihood(k, codes[k:], image, None)
        parts = model.decompose(images)
        band = parts.images[2] if level == 2 else parts.bands[level]
        pixels = model._level(level).pixels
        assert pixels is not None
        nll, guide = pixels.nll(band, mean).mean(), gaussian_nll(band, mean, logvar).mean()
    torch.testing.assert_close(losses[f"nll{level}"], nll)
    torch.testing.assert_close(losses[f"guide{level}"], guide)
    expected = (nll + 0.5 * losses[f"kl{level}"] + 0.3 * guide) / band[0].numel()
    torch.testing.assert_close(losses["loss"], expected)


def test_the_bound_has_no_guide_in_it() -> None:
    images, seeds = smooth_images(3), torch.arange(3)
    one, other = model_of(2, pixelcnn_guide=0.1), model_of(2, pixelcnn_guide=7.0)
    with torch.no_grad():
        losses = one.loss(images, stage="joint", seeds=seeds)
        bound = one.elbo(images, seeds=seeds)
        torch.testing.assert_close(bound, other.elbo(images, seeds=seeds))
    total = torch.stack([losses[f"{name}{k}"] for name in ("nll", "kl") for k in range(3)]).sum()
    torch.testing.assert_close(-bound.mean(), total)


def test_a_level_s_stage_trains_its_pixelcnn_and_no_other() -> None:
    model = small(pixelcnn=[0, 2], **PIXELCNN)
    model.set_stage("level0")
    model.loss(smooth_images(4), stage="level0")["loss"].backward()
    assert _moved(model._level(0).pixels) and not _moved(model._level(2).pixels)


def _moved(module: torch.nn.Module | None) -> bool:
    assert module is not None
    return any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in module.parameters())


@pytest.mark.parametrize("prior", ["reencode", "chain"])
def test_a_sample_depends_on_its_seed_alone(prior: str) -> None:
    model, seeds = model_of(2, 0), torch.tensor([3, 1, 2**50])
    whole = model.sample(seeds, prior=prior)
    assert torch.equal(whole, model.sample(seeds, prior=prior))
    torch.testing.assert_close(model.sample(seeds[1:2], prior=prior), whole[1:2], **CLOSE)
    assert not torch.equal(whole, model.sample(seeds + 1, prior=prior))


@pytest.mark.parametrize("options", [{}, {"channels": 1}, {"num_classes": 3}, {"image_size": 13}])
def test_each_level_s_pixels_are_drawn_from_what_the_codes_decode_to(options: dict[str, int]) -> None:
    """The chain of `sample` again: codes, what they decode to, pixels, and the moments of what is drawn so far."""
    model, seeds = model_of(0, 2, **options), torch.tensor([3, 1, 2**50])
    labels = None if model.num_classes is None else torch.tensor([0, 2, 1])
    with torch.no_grad():
        codes = [model._coarsest_code(seeds, labels, 1.0)]
        decoded = model._likelihood(2, codes, None, labels)[2]
        image = model.coarsest.pixels.draw(decoded, pixel_seeds(seeds, 2))  # type: ignore[union-attr]
        for k in (1, 0):
            mean, logvar = model._band(k).prior(*model._posteriors(image, k + 1, labels)[0])
            noise = reparameterize(torch.zeros_like(mean), logvar, seeds, stream=noise_stream(k, PRIOR))
            codes.insert(0, mean + noise)
            band, _, decoded = model._likelihood(k, codes, decoded, labels)
            if k == 0:
                band = model._band(0).pixels.draw(band, pixel_seeds(seeds, 0))  # type: ignore[union-attr]
            image = band + pyr_up(image, model.sizes[k])
    assert torch.equal(model.sample(seeds, labels), image)


def test_the_coarse_image_of_a_sample_is_on_the_levels() -> None:
    model = model_of(2)
    drawn: list[Tensor] = []
    pixels = model.coarsest.pixels
    assert pixels is not None
    draw = pixels.draw
    pixels.draw = lambda m, seeds: drawn.append(draw(m, seeds)) or drawn[-1]  # type: ignore[method-assign,func-returns-value]
    model.sample(torch.arange(2))
    levels = (drawn[0] + 1) / 2 * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=4 * 255 * 2**-24)  # four roundings


def test_seeds_of_pixels_differ_by_level_and_seed() -> None:
    seeds = torch.arange(100)
    every = torch.cat([pixel_seeds(seeds, k) for k in range(4)])
    assert len(every.unique()) == 400
    assert torch.equal(pixel_seeds(seeds[7:8], 2), pixel_seeds(seeds, 2)[7:8])


def test_partial_samples_edits_and_codes_work_as_without(tmp_path: Path) -> None:
    model, images, seeds = model_of(0, 1, 2), smooth_images(2), torch.arange(2)
    coarse = model.decompose(images).images[1]
    partial = model.sample(seeds, coarse=coarse, from_level=1)
    assert partial.shape == images.shape and partial.isfinite().all()
    assert model.edit(images, coarse.flip(-1), None, 1, seeds).shape == images.shape
    codes = [mean for mean, _ in model.encode(images)]
    torch.testing.assert_close(model.reconstruct(images), model.decode(codes))
    model.save_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert torch.equal(again.sample(seeds), model.sample(seeds))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixelcnn": [3]}, "pixelcnn: expected a list of levels, 0 to 2, got"),
        ({"pixelcnn": [-1]}, "pixelcnn: expected a list of levels"),
        ({"pixelcnn": 1}, "pixelcnn: expected a list of levels, 0 to 2, got 1"),
        ({"pixelcnn": None}, "pixelcnn: expected a list of levels"),
        ({"pixelcnn": [True]}, "pixelcnn: expected a list of levels"),
        ({"pixelcnn_guide": "a"}, "pixelcnn_guide: expected a number above 0, got 'a'"),
        ({"pixelcnn_guide": True}, "pixelcnn_guide: expected a number above 0"),
        ({"pixelcnn": [1], "channels": 2}, "channels: expected 3 or 1"),
        ({"pixelcnn": [1], "pixelcnn_guide": 0}, "pixelcnn_guide: expected a number above 0"),
        ({"pixelcnn": [1], "pixelcnn_layers": 0}, "pixelcnn_layers: expected"),
    ],
)
def test_settings_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
