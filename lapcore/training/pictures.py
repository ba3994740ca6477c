"""Pictures for TensorBoard show what a model makes on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lapcore.data.images import grid, to_model_range, to_uint8
from lapcore.training.contract import takes_labels

COUNT = 8


def pictures(model: Any, dataset: Any, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Reconstructions under their originals, and samples of fixed seeds: names and uint8 (C, H, W)."""
    count = min(COUNT, len(dataset))
    items = [dataset[index] for index in range(count)]
    images = torch.stack([image for image, _ in items])
    labels = torch.stack([torch.as_tensor(label) for _, label in items]).to(device) if takes_labels(model) else None
    if hasattr(model, "reconstruct"):
        again = to_uint8(model.reconstruct(to_model_range(images.to(device)), labels=labels)).cpu()
        yield "reconstructions", grid(torch.cat([images, again]), columns=count)
    if hasattr(model, "sample"):
        yield "samples", grid(to_uint8(model.sample(torch.arange(count, device=device), labels)).cpu(), columns=count)
