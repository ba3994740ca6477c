"""Gaussians fitted to what passes by in training: to codes, and to the errors of decoded images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lapcore.nn.blocks import IMAGE_LOGVAR
from lapcore.nn.processes import processes, summed

SLOWEST = 0.01
"""The least weight of a batch: networks change while they train, and what old weights gave has to be forgotten."""


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
        with torch.autocast(away.device.type, enabled=False):
            shift, moment = summed(away.sum(0)) / count, summed(away.T @ away) / count
        self.batches.add_(1)
        weight = (1 / self.batches.to(away.dtype)).clamp(min=SLOWEST)
        self.mean.add_(weight * shift)
        # The second moment about the old mean, less the square of the way to the new one.
        self.covariance.lerp_(moment, weight).sub_(weight**2 * shift.outer(shift))

    def draw(self, noise: Tensor) -> Tensor:
        """Codes (N, dim) of standard normal noise (N, dim)."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        codes: Tensor = self.mean + noise @ root
        return codes


class ErrorVariance(nn.Module):
    """The mean squared error of each channel of images (N, C, H, W), averaged over batches as `CodeGaussian` does.

    Of all variances it gives p(x|z) = N(f(z), variance I) the greatest likelihood.
    """

    variance: Tensor
    batches: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, errors: Tensor) -> None:
        """Takes in the errors of a batch, of as many images in each of torch.distributed's processes."""
        squares = summed(errors.to(self.variance.dtype).square().mean((0, 2, 3))) / processes()
        self.batches.add_(1)
        self.variance.lerp_(squares, (1 / self.batches.to(squares.dtype)).clamp(min=SLOWEST))

    def logvar(self) -> Tensor:
        """(C, 1, 1), at least that of one grey level, as `lapcore.nn.blocks.IMAGE_LOGVAR` has it."""
        return self.variance.log().clamp(min=IMAGE_LOGVAR[0])[:, None, None]
