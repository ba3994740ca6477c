"""The levels of a LapCVAE: a VAE of the coarsest image, and conditional VAEs of the band-passes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.nn.autoregressive_prior import AutoregressivePrior
from lapcore.nn.batch_norm import BatchNorm1d, BatchNorm2d
from lapcore.nn.blocks import (
    CODE_LOGVAR,
    INITIAL_CODE_LOGVAR,
    Down,
    ImageLogvar,
    Moments,
    Size,
    Up,
    VectorDecoder,
    VectorEncoder,
    code_moments,
    full_precision,
    halvings,
    linear_from,
    soft_clamp,
)
from lapcore.nn.condition import Condition, LabelBias
from lapcore.nn.pixel_likelihood import PixelLikelihood
from lapcore.nn.processes import processes, summed
from lapcore.ops.gaussian import gaussian_nll

LARGEST_START = 8
"""Pixels on a side of the map that code vectors are unfolded to, at most: its linear layer grows with their number."""


class Terms(NamedTuple):
    """A level's loss has these terms: nats (N,), and means over the batch."""

    nll: Tensor
    kl: Tensor
    mse: Tensor
    guide: Tensor | None
    perceptual: Tensor | None

    def loss(self, kl_weight: float, guide_weight: float, values: int) -> Tensor:
        """Weighs the terms, a scalar in nats per value of the band, of which there are `values`."""
        nats = self.nll + kl_weight * self.kl
        nats = nats if self.guide is None else nats + guide_weight * self.guide
        loss = nats.mean() / values
        return loss if self.perceptual is None else loss + self.perceptual

    def logged(self) -> dict[str, Tensor]:
        """Gives the means of the terms that there are, for the log."""
        return {name: term.detach().mean() for name, term in self._asdict().items() if term is not None}


class Level(nn.Module):
    """Both kinds of level have a code, which is a vector, and a likelihood: of independent pixels, or `pixels`."""

    typical_logvar: Tensor

    def __init__(self, latent: int, pixels: PixelLikelihood | None) -> None:
        super().__init__()
        self.latent = latent
        self.pixels = pixels
        self.register_buffer("typical_logvar", torch.full((latent,), INITIAL_CODE_LOGVAR))

    def nll(self, h: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor | None]:
        """-log p(h | z), (N,), by what z decodes to, and beside a PixelCNN its guide's."""
        gaussian = gaussian_nll(h, mean, logvar)
        return (gaussian, None) if self.pixels is None else (self.pixels.nll(h, mean), gaussian)

    def note(self, logvar: Tensor) -> None:
        """Keeps the running mean of the posterior's log-variance, which `prior="chain"` takes for the unknown one."""
        if self.training:
            mean = summed(logvar.detach().mean(0).to(self.typical_logvar.dtype)) / processes()
            self.typical_logvar.lerp_(mean, 0.01)


class CoarsestLevel(Level):
    """Level K: a VAE of x_K, whose codes have a learned prior of `prior_layers` layers; with none it is N(0, I).

    linear: see `VectorEncoder`.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        widths: Sequence[int],
        hidden: int,
        latent: int,
        prior_layers: int,
        condition: Condition,
        variance: str | float,
        linear: bool,
        pixels: PixelLikelihood | None,
    ) -> None:
        super().__init__(latent, pixels)
        steps = [widths[-1], *reversed(widths)]
        self.encoder = VectorEncoder(channels, size, widths, hidden, latent, condition, linear=linear)
        self.prior = AutoregressivePrior(latent, prior_layers, hidden, condition)
        self.decoder = VectorDecoder(channels, size, steps, latent, condition, variance, linear=linear)

    def encode(self, image: Tensor, labels: Tensor | None) -> Moments:
        moments: Moments = self.encoder(image, labels)
        return moments

    def decode(self, code: Tensor, labels: Tensor | None) -> Moments:
        moments: Moments = self.decoder(code, labels)
        return moments


class BandLevel(Level):
    """Level k < K: encoder q_k(z_k | h_k, u(x_{k+1})), prior network M_k = {R_k, S_k}, decoder p_k(h_k | z_k, ..., z_K).

    The encoder is that of a VAE. The decoder unfolds all codes to a map of an eighth of the size or, of larger images, at most
    `LARGEST_START` on a side, doubles it, and on the way joins to it what convolutions make of the coarse image at a quarter and
    at half of the size; the last doubling is a convolution to four times the channels, in its sub-pixel form: all work is at
    half size or less.

    coarser: lengths of the codes z_{k+1}, ..., z_K. width: channels at half size; the encoder has twice that at a quarter and four
    times at what is smaller, the decoder twice that. linear: also linear maps from h_k to the mean of z_k, and from z_k to the mean
    of h_k, beside the networks; they start at 0, for only the data can say what a band consists of.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        width: int,
        hidden: int,
        latent: int,
        coarser: Sequence[int],
        condition: Condition,
        variance: str | float,
        linear: bool,
        pixels: PixelLikelihood | None,
    ) -> None:
        super().__init__(latent, pixels)
        times = max(3, (max(size) - 1).bit_length() - (LARGEST_START - 1).bit_length())
        _, half, quarter, *smaller, start = halvings(size, times)
        self.size, self.start_shape = size, (2 * width, *start)
        places = start[0] * start[1]
        channels_down = [2 * channels, width, 2 * width, *[4 * width] * (times - 2)]
        self.encoder = nn.Sequential(*[Down(a, b) for a, b in pairwise(channels_down)])
        self.hidden = nn.Linear(4 * width * places, hidden, bias=False)
        self.encoder_label = LabelBias(condition, hidden)
        self.encoder_norm = BatchNorm1d(hidden)
        self.moments = nn.Linear(hidden, 2 * latent)
        self.prior_mean = PriorBranch(coarser[0], 2 * hidden, latent)
        self.prior_logvar = PriorBranch(coarser[0], 2 * hidden, latent)
        self.start = nn.Linear(latent + sum(coarser), 2 * width * places, bias=False)
        self.decoder_label = LabelBias(condition, 2 * width)
        self.start_norm = BatchNorm2d(2 * width)
        larger = [*reversed(smaller), quarter]
        self.up_to_quarter = nn.Sequential(*[Up(2 * width, 2 * width, to) for to in larger])
        self.coarse_half = Down(channels, width)
        self.coarse_quarter = Down(width, 2 * width)
        self.join_quarter = Join(4 * width, 2 * width)
        self.up_to_half = Up(2 * width, width, half)
        self.join_half = Join(2 * width, width)
        self.logvar = ImageLogvar(channels, variance)
        self.head = nn.Conv2d(width, 4 * self.logvar.outputs, 3, padding=1)
        self.band_shape = (channels, *size)
        values = channels * size[0] * size[1]
        self.code_of_band = linear_from(torch.zeros(latent, values)) if linear else None
        self.band_of_code = linear_from(torch.zeros(values, latent)) if linear else None

    def encode(self, band: Tensor, up: Tensor, labels: Tensor | None) -> Moments:
        """Moments of q_k; band: h_k, up: u(x_{k+1})."""
        features = self.hidden(self.encoder(torch.cat([band, up], 1)).flatten(1))
        mean, logvar = code_moments(self.moments(F.relu(self.encoder_norm(self.encoder_label(features, labels)))))
        if self.code_of_band is not None:
            mean = mean + full_precision(self.code_of_band(band.flatten(1)))
        return mean, logvar

    def prior(self, mean: Tensor, logvar: Tensor) -> Moments:
        """Moments of p(z_k) from those of q_{k+1}: the mean from the mean alone, the variance from the variance alone."""
        return self.prior_mean(mean), soft_clamp(self.prior_logvar(logvar), *CODE_LOGVAR)

    def decode(self, codes: Sequence[Tensor], up: Tensor, labels: Tensor | None) -> Moments:
        """Moments of p_k; codes: z_k, ..., z_K, up: u of the image that z_{k+1}, ..., z_K decode to."""
        start = self.start(torch.cat(list(codes), 1)).unflatten(1, self.start_shape)
        features = F.relu(self.start_norm(self.decoder_label(start, labels)))
        half = self.coarse_half(up)
        features = self.join_quarter(torch.cat([self.up_to_quarter(features), self.coarse_quarter(half)], 1))
        features = self.join_half(torch.cat([self.up_to_half(features), half], 1))
        height, width = self.size
        mean, logvar = self.logvar(F.pixel_shuffle(self.head(features), 2)[..., :height, :width])
        if self.band_of_code is not None:
            mean = mean + full_precision(self.band_of_code(codes[0]).unflatten(1, self.band_shape))
        return mean, logvar


class Join(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class PriorBranch(nn.Module):
    """R_k or S_k: one moment of level k+1's posterior -> that moment of level k's prior, by a hidden layer beside a linear map."""

    def __init__(self, coarser: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(coarser, hidden)
        self.out = nn.Linear(hidden, latent)
        self.linear = nn.Linear(coarser, latent, bias=False)

    def forward(self, moment: Tensor) -> Tensor:
        return full_precision(self.out(F.relu(self.hidden(moment))) + self.linear(moment))
