"""A new run from the weights of another model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from lapcore.errors import CheckpointError
from lapcore.models import load_model


@torch.no_grad()
def take_weights(model: nn.Module, folder: Path) -> str:
    """Copies every tensor of the model or run in `folder` whose name and shape fit; returns what to tell of it.

    CheckpointError when it is of another class, or none fits.
    """
    other = load_model(folder)
    name = getattr(model, "name", type(model).__name__)
    if other.name != name:
        raise CheckpointError(f"{folder}: expected the weights of a {name} to start from, got those of a {other.name}")
    theirs, own = other.state_dict(), model.state_dict()
    fitting = [key for key in own if key in theirs and theirs[key].shape == own[key].shape]
    if not any(own[key].dim() for key in fitting):  # a count of batches says nothing
        raise CheckpointError(f"{folder}: none of its {len(theirs)} tensors fits this model's {len(own)}")
    for key in fitting:
        own[key].copy_(theirs[key])
    left = [key for key in own if key not in fitting]
    kept = f"; {len(left)} did not fit and start anew: {', '.join(left[:4])}{' ...' * (len(left) > 4)}" if left else ""
    return f"starts from {folder}: {len(fitting)} of {len(own)} tensors taken{kept}"
