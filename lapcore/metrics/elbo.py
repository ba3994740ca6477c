"""The evidence lower bound of models whose likelihood is not known."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def bound_name(model: Any) -> str:
    """Names what `model.elbo` bounds: "elbo", log p(image), or "elbo_pyramid", log p of the pyramid that images decompose to.

    A pyramid has more coordinates than its image, so the two do not compare.
    """
    return "elbo_pyramid" if hasattr(model, "decompose") else "elbo"


def evaluate_elbo(
    model: Any, batches: Iterable[tuple[Tensor, Tensor | None]], seed: int = 0
) -> dict[str, dict[str, float]]:
    """`model.elbo` of `batches`, in nats an image: {"elbo" or "elbo_pyramid", see `bound_name`: mean, std over images, images}.

    A lower bound on the log density at images in [-1, 1]; that of images in [0, 255] is lower by D ln 127.5, and no bound on the
    probability of 8-bit levels, as `evaluate_bpd` measures it.

    model: with `elbo`: images, labels and, where codes are drawn, seeds -> (N,). batches: (images, labels) pairs, images
    (N, C, H, W) in [-1, 1], labels as the model takes them. Image i, counted through all batches, draws its codes from seed + i.
    Errors: ValueError without images. Deterministic, as the model is.
    """
    drawn = "seeds" in inspect.signature(model.elbo).parameters
    found: list[Tensor] = []
    for images, labels in batches:
        start = seed + sum(map(len, found))
        seeds = torch.arange(start, start + len(images), dtype=torch.int64, device=images.device)
        with torch.no_grad():
            values = model.elbo(images, labels, seeds=seeds) if drawn else model.elbo(images, labels)
        found.append(values.double().cpu())
    if not found:
        raise ValueError("batches: expected at least one image, got none")
    nats = torch.cat(found)
    return {bound_name(model): {"mean": nats.mean().item(), "std": nats.std(correction=0).item(), "images": len(nats)}}
