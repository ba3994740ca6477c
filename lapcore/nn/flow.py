"""A normalising flow over code vectors: a prior that is learned, for codes that are not N(0, I) taken over the data."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.nn.blocks import full_precision
from lapcore.nn.condition import Condition, LabelBias

LARGEST_LOG_SCALE = 2.0
"""Bounds one coupling's log-scale, so that a code far from all seen in training is not thrown to infinity."""


class Coupling(nn.Module):
    """(a, b) -> (a, (b - t(a)) exp(-s(a))), which a network of two hidden layers and the labels gives; Dinh et al. 2017."""

    def __init__(self, length: int, width: int, condition: Condition) -> None:
        super().__init__()
        self.kept = length // 2
        self.first = nn.Linear(self.kept, width)
        self.label = LabelBias(condition, width)
        self.second = nn.Linear(width, width)
        self.out = nn.Linear(width, 2 * (length - self.kept))
        nn.init.normal_(self.out.weight, std=1e-3)  # close to the identity, to start from
        nn.init.zeros_(self.out.bias)

    def _shift_and_log_scale(self, a: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        features = F.relu(self.second(F.relu(self.label(self.first(a), labels))))
        shift, log_scale = full_precision(self.out(features)).chunk(2, 1)
        return shift, LARGEST_LOG_SCALE * torch.tanh(log_scale / LARGEST_LOG_SCALE)

    def forward(self, z: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Goes towards noise; returns the result and the logarithm of the Jacobian's determinant, (N,)."""
        a, b = z[:, : self.kept], z[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(a, labels)
        return torch.cat([a, (b - shift) * torch.exp(-log_scale)], 1), -log_scale.sum(1)

    def inverse(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        a, b = noise[:, : self.kept], noise[:, self.kept :]
        shift, log_scale = self._shift_and_log_scale(a, labels)
        return torch.cat([a, b * torch.exp(log_scale) + shift], 1)


class CouplingFlow(nn.Module):
    """p(z) = N(f(z); 0, I) |det df/dz|, f a chain of couplings, before each of which the vector is rotated.

    Rotations are drawn once and stay: every coupling keeps another half. Without couplings, and at the start, p is N(0, I).
    Source: Real NVP (Dinh, Sohl-Dickstein and Bengio, ICLR 2017); as the prior of an autoencoder, Chen et al. 2017.
    """

    rotations: Tensor

    def __init__(self, length: int, layers: int, width: int, condition: Condition) -> None:
        super().__init__()
        self.couplings = nn.ModuleList([Coupling(length, width, condition) for _ in range(layers)])
        drawn = torch.randn(layers, length, length)
        self.register_buffer("rotations", drawn if drawn.is_meta else torch.linalg.qr(drawn)[0].contiguous())

    def log_prob(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """log p(z) in nats, (N,), of codes (N, length)."""
        log_det = torch.zeros(len(z), dtype=z.dtype, device=z.device)
        for rotation, coupling in zip(self.rotations, self.couplings, strict=True):
            z, one = coupling(z @ rotation, labels)
            log_det = log_det + one
        return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def draw(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """The codes (N, length) that standard normal noise (N, length) stands for."""
        for rotation, coupling in zip(self.rotations.flip(0), reversed(list(self.couplings)), strict=True):
            noise = cast(Coupling, coupling).inverse(noise, labels) @ rotation.T
        return noise
