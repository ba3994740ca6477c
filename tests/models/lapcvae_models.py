"""Small LapCVAEs and images for their tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lapcore.models import LapCVAE

CLOSE = {"rtol": 0.0, "atol": 2e-5}
"""Pixels of two batch shapes differ by a few hundred float32 roundings of values near 1, at most."""


def small(**options: Any) -> LapCVAE:
    settings = dict(
        image_size=16,
        levels=2,
        latent=12,
        band_latent=4,
        widths=(8,),
        hidden=16,
        band_width=8,
        band_hidden=16,
        prior_layers=2,
    )
    return LapCVAE(**(settings | options))


def smooth_images(count: int, size: int = 16, channels: int = 3, noise: float = 0.4) -> Tensor:
    """Images with energy at every level, within [-1, 1]."""
    coarse = torch.rand(count, channels, 4, 4)
    image = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear") + noise * torch.rand(
        count, channels, size, size
    )
    return image / (1 + noise) * 2 - 1


def warmed(**options: Any) -> LapCVAE:
    """A model with batch-norm statistics of real batches, in evaluation mode."""
    model = small(**options)
    size, channels = model.image_size, model.channels
    model.set_stage("joint")
    labels = None if model.num_classes is None else torch.arange(8) % model.num_classes
    with torch.no_grad():
        for _ in range(20):
            model.loss(smooth_images(8, size, channels), labels)
    return model.eval()


def state_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def level_of(model: LapCVAE, k: int) -> torch.nn.Module:
    return model.coarsest if k == model.top else model.bands[k]


def priors_of(model: LapCVAE) -> list[torch.nn.Module]:
    return [model.coarsest.prior, *(branch for band in model.bands for branch in (band.prior_mean, band.prior_logvar))]
