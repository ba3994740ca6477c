"""A Gaussian fitted to the codes that pass by in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lapcore.nn.processes import summed

SLOWEST = 0.01
"""The least weight of a batch: codes change while their network trains, and those of old weights have to be forgotten."""


class CodeGaussian(nn.Module):
    """N(mean, covariance) of codes (N, dim): moving averages over batches, with weight 1/t for batch t until that is `SLOWEST`.

    The batch is that of all of torch.distributed's processes. All state is in `state_dict()`.
    """

    mean: Tensor
    covariance: Tensor
    batches: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("covariance", torch.eye(dim))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, codes: Tensor) -> None:
        """Takes in a batch."""
        away = codes.to(self.mean.dtype) - self.mean
        count = summed(away.new_tensor(float(len(away))))
        shift, moment = summed(away.sum(0)) / count, summed(away.T @ away) / count
        self.batches.add_(1)
        weight = (1 / self.batches).clamp(min=SLOWEST).to(away.dtype)
        self.mean.add_(weight * shift)
        # The second moment about the old mean, less the square of the way to the new one.
        self.covariance.lerp_(moment, weight).sub_(weight**2 * shift.outer(shift))

    def draw(self, noise: Tensor) -> Tensor:
        """Codes (N, dim) of standard normal noise (N, dim)."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        codes: Tensor = self.mean + noise @ root
        return codes
