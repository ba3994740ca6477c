"""Draws of autoregressive networks in plain PyTorch: the readable definition of how a program (pixelcnn_program.py) is run."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def categorical(logits: Tensor, u: Tensor) -> Tensor:
    """logits (N, L), u (N,), of one of float32 and float64 -> (N,), int64."""
    largest = logits.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf).amax(1, keepdim=True)
    p = torch.where(logits == largest, 1.0, (logits - largest).exp().nan_to_num(nan=0.0))
    sums = p.cumsum(1)
    past = sums > u[:, None] * sums[:, -1:]
    order = torch.arange(logits.shape[1], device=logits.device)
    last = torch.where(p > 0, order, 0).amax(1)
    return torch.where(past.any(1), past.to(torch.uint8).argmax(1), last)


def level_values(levels: int, device: torch.device) -> Tensor:
    """(levels,): the image's values 2 k / (levels - 1) - 1, each operation rounded to float32, by the CPU's division."""
    return (torch.arange(levels, dtype=torch.float32) * 2 / (levels - 1) - 1).to(device)


def level_indices(values: Tensor, levels: int) -> Tensor:
    """The nearest levels, int64; of NaN 0."""
    scaled = (values.nan_to_num(nan=-1.0) + 1) / 2 * (levels - 1)
    return scaled.round().clamp(0, levels - 1).long()
