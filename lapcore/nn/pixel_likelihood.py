"""PixelCNN layers as the likelihood of a decoder (PixelVAE, Gulrajani et al., ICLR 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lapcore.nn.blocks import Size, full_precision
from lapcore.nn.gated_pixelcnn import GatedNetwork
from lapcore.nn.tracing import program_of
from lapcore.ops.likelihood import discretized_logistic_mixture_nll
from lapcore.ops.pixelcnn_sampler import Mixture, level_indices, level_values, sample_program

LEVELS = 256
MIXTURES = 5


def check_pixelcnn(pixelcnn: Sequence[int], levels: int, channels: int, guide: float) -> None:
    """Raises ValueError, naming the argument, unless levels 0 to `levels` of such images can have these settings."""
    listed = isinstance(pixelcnn, list | tuple)
    if not listed or any(isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= levels for k in pixelcnn):
        raise ValueError(f"pixelcnn: expected a list of levels, 0 to {levels}, got {pixelcnn!r}")
    if pixelcnn and channels not in (1, 3):
        raise ValueError(f"channels: expected 3 or 1 where a level's likelihood is a PixelCNN, got {channels}")
    if isinstance(guide, bool) or not isinstance(guide, int | float) or not 0 < guide < math.inf:
        raise ValueError(f"pixelcnn_guide: expected a number above 0, got {guide!r}")


class PixelLikelihood(nn.Module):
    """p(h | m) = prod_t p(h_t | h_1, ..., h_{t-1}, m), pixels h_t of a band or image row by row, m what a code decodes to.

    A Gated PixelCNN, to every gate of which convolutions of m are added, gives each pixel a mixture of logistics. Values are
    rounded to 256 levels of [-bound, bound], and their probabilities are divided by the levels' width, so that p is a density, as
    the other likelihoods of levels are.

    channels, size: of h, 3 channels or 1. hidden, layers: of the Gated PixelCNN.
    """

    def __init__(self, channels: int, size: Size, hidden: int, layers: int, bound: float) -> None:
        super().__init__()
        self.size, self.channels, self.bound = size, channels, bound
        outputs = MIXTURES * (10 if channels == 3 else 3)
        self.network = GatedNetwork(channels, hidden, layers, 2 * hidden, outputs, color_groups=1, conditioned=True)
        self.conditions = 2 * layers
        self.condition_shape = (2 * hidden, *size)
        self.features = nn.Conv2d(channels, 2 * hidden, 5, padding=2)
        self.tell = nn.Conv2d(2 * hidden, self.conditions * 2 * hidden, 1)

    def nll(self, h: Tensor, m: Tensor) -> Tensor:
        """-log p(h | m) in nats, (N,); h, m: (N, C, H, W)."""
        levels = level_values(LEVELS, h.device)
        values = levels[level_indices(h / self.bound, LEVELS)]
        parameters = full_precision(self.network(values.to(m.dtype), *self._conditions(m)))
        width = 2 * self.bound / (LEVELS - 1)
        nll: Tensor = discretized_logistic_mixture_nll(parameters, values.to(parameters.dtype))
        return nll + h[0].numel() * math.log(width)

    def draw(self, m: Tensor, seeds: Tensor) -> Tensor:
        """h (N, C, H, W), on the levels: row n depends on m[n] and seeds[n] alone."""
        shapes = [self.condition_shape] * self.conditions
        program = program_of(self.network, self.size, self.channels, Mixture, conditions=shapes)
        conditions = [condition.float().contiguous() for condition in self._conditions(m)]
        return self.bound * sample_program(program, seeds, conditions).to(m.dtype)

    def _conditions(self, m: Tensor) -> tuple[Tensor, ...]:
        told = self.tell(torch.relu(self.features(m / self.bound)))
        return cast(tuple[Tensor, ...], told.chunk(self.conditions, 1))
