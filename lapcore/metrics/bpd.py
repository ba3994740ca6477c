"""Bits per dimension, the measure of models whose likelihood is exact, and of the simplest of them: independent values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from lapcore.data.images import to_model_range
from lapcore.ops.pixelcnn_sampler import level_indices


class Likelihood(Protocol):
    """A model with an exact `log_likelihood` of images in [-1, 1], rounded to its levels, in nats (N,)."""

    def log_likelihood(self, images: Tensor, labels: Tensor | None = None) -> Tensor: ...


def evaluate_bpd(model: Likelihood, batches: Iterable[tuple[Tensor, Tensor | None]]) -> dict[str, dict[str, float]]:
    """-log2 p(image) over the number of its values, of `batches`: {"bpd": mean, std over the images, images}.

    batches: (images, labels) pairs, images (N, C, H, W) in [-1, 1], labels int64 (N,), or None for a model without classes. A
    model of fewer than 256 levels is measured on images rounded to its own: compare it with models of as many levels.
    Errors: ValueError without images. Deterministic, as the model is.
    """
    bits = [
        -model.log_likelihood(images, labels).double().cpu() / (math.log(2) * images[0].numel())
        for images, labels in batches
    ]
    if not bits:
        raise ValueError("batches: expected at least one image, got none")
    return {"bpd": _summary(torch.cat(bits))}


def independent_bpd(train: Tensor, test: Tensor, levels: int = 256) -> dict[str, dict[str, float]]:
    """Bits per dimension of `test` if values did not depend on each other: {"bpd_independent": as `evaluate_bpd`}.

    A histogram of levels for every channel of every place, of the images `train`, each count plus one, so that no level is
    impossible. What a model is below this it has learned about how pixels go together.

    train, test: uint8 (N, C, H, W), rounded to `levels` levels as models do. Errors: TypeError unless uint8, ValueError for shapes
    that differ or no images. Deterministic.
    """
    for name, images in (("train", train), ("test", test)):
        if images.dtype != torch.uint8:
            raise TypeError(f"{name}: expected uint8, got {images.dtype}")
        if images.dim() != 4 or len(images) == 0 or images.shape[1:] != train.shape[1:]:
            raise ValueError(f"{name}: expected images (N, {', '.join(map(str, train.shape[1:]))}), got {images.shape}")
    level_of = level_indices(to_model_range(torch.arange(256, dtype=torch.uint8)), levels)
    places = train[0].numel()
    first = levels * torch.arange(places)
    counts = torch.ones(places * levels, dtype=torch.int64)
    for images in torch.split(train, 4096):
        counts += torch.bincount((level_of[images.flatten(1).int()] + first).flatten(), minlength=len(counts))
    bits = math.log2(len(train) + levels) - counts.double().log2()
    per_image = [bits[level_of[images.flatten(1).int()] + first].mean(1) for images in torch.split(test, 4096)]
    return {"bpd_independent": _summary(torch.cat(per_image))}


def _summary(values: Tensor) -> dict[str, float]:
    return {"mean": values.mean().item(), "std": values.std(correction=0).item(), "images": len(values)}
