"""The levels of a LapCVAE: a VAE of the coarsest image, and conditional VAEs of the band-passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    soft_clamp,
)
from lapcore.nn.condition import Condition, LabelBias
from lapcore.nn.cosine import lapped_cosine_basis

CODE_MAP_CHANNELS = 8
"""Channels of the map that a decoder makes of a code vector."""

STRIDE = 4
"""Pixels of a level, per axis, for each place of its code map."""


class Level(nn.Module):
    """What the two kinds of level share."""

    code_shape: tuple[int, ...]
    typical_logvar: Tensor

    def __init__(self, code_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.code_shape = code_shape
        self.register_buffer("typical_logvar", torch.full(code_shape, INITIAL_CODE_LOGVAR))

    def note(self, logvar: Tensor) -> None:
        """Keeps the running mean of the posterior's log-variance, which `prior="chain"` takes for the unknown one."""
        if self.training:
            self.typical_logvar.lerp_(logvar.detach().mean(0).to(self.typical_logvar.dtype), 0.01)


class VectorLevel(Level):
    """Level K: a VAE of x_K with a code vector and the prior N(0, I)."""

    def __init__(
        self,
        channels: int,
        size: Size,
        widths: Sequence[int],
        hidden: int,
        latent: int,
        condition: Condition,
        variance: str | float,
    ) -> None:
        super().__init__((latent,))
        steps = [widths[-1], *reversed(widths)]
        self.encoder = VectorEncoder(channels, size, widths, hidden, latent, condition, linear=True)
        self.decoder = VectorDecoder(channels, size, steps, latent, condition, variance, linear=True)

    def encode(self, image: Tensor, labels: Tensor | None) -> Moments:
        moments: Moments = self.encoder(image, labels)
        return moments

    def decode(self, code: Tensor, labels: Tensor | None) -> Moments:
        moments: Moments = self.decoder(code, labels)
        return moments


class BandLevel(Level):
    """Level k < K: encoder q_k(z_k | h_k, u(x_{k+1})), prior network M_k = {R_k, S_k}, decoder p_k(h_k | z_k, ..., z_K).

    The code is a map of `latent` channels with one place for 4x4 pixels. Beside the networks, encoder and decoder have a
    linear map between band and code, 8x8 pixels with stride 4, which starts as a lapped cosine transform.

    coarser: shapes of the codes z_{k+1}, ..., z_K. start: size of the map that code vectors are unfolded to.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        width: int,
        latent: int,
        coarser: Sequence[tuple[int, ...]],
        start: Size,
        condition: Condition,
        variance: str | float,
    ) -> None:
        half, grid = halvings(size, 2)[1:]
        super().__init__((latent, *grid))
        self.size = size
        self.padding = (0, STRIDE * grid[1] - size[1], 0, STRIDE * grid[0] - size[0])
        self.encoder_in = Down(2 * channels, width)
        self.encoder_label = LabelBias(condition, width)
        self.encoder_out = nn.Sequential(Down(width, 2 * width), nn.Conv2d(2 * width, 2 * latent, 3, padding=1))
        self.encoder_linear = nn.Conv2d(channels, latent, 2 * STRIDE, STRIDE, STRIDE // 2, bias=False)
        self.prior_mean = PriorBranch(coarser[0], start, width, latent, grid)
        self.prior_logvar = PriorBranch(coarser[0], start, width, latent, grid)
        maps = [CodeMap(shape, CODE_MAP_CHANNELS, start, grid) for shape in coarser]
        self.maps = nn.ModuleList(maps)
        self.mix = nn.Conv2d(latent + sum(m.channels for m in maps), 2 * width, 3, padding=1, bias=False)
        self.decoder_label = LabelBias(condition, 2 * width)
        self.norm = nn.BatchNorm2d(2 * width)
        self.up = Up(2 * width, width, half)
        self.coarse = Down(channels, width)
        self.logvar = ImageLogvar(channels, variance)
        self.head = nn.Conv2d(width, 4 * self.logvar.outputs, 3, padding=1)
        self.decoder_linear = nn.ConvTranspose2d(latent, channels, 2 * STRIDE, STRIDE, STRIDE // 2, bias=False)
        basis, amplitude = lapped_cosine_basis(latent, channels, STRIDE)
        with torch.no_grad():
            self.encoder_linear.weight.copy_(basis / amplitude[:, None, None, None])
            self.decoder_linear.weight.copy_(basis * amplitude[:, None, None, None])

    def encode(self, band: Tensor, up: Tensor, labels: Tensor | None) -> Moments:
        """Moments of q_k; band: h_k, up: u(x_{k+1})."""
        features = self.encoder_label(self.encoder_in(torch.cat([band, up], 1)), labels)
        mean, logvar = code_moments(self.encoder_out(features))
        return mean + full_precision(self.encoder_linear(F.pad(band, self.padding))), logvar

    def prior(self, mean: Tensor, logvar: Tensor) -> Moments:
        """Moments of p(z_k) from those of q_{k+1}: the mean from the mean alone, the variance from the variance alone."""
        return self.prior_mean(mean), soft_clamp(self.prior_logvar(logvar), *CODE_LOGVAR)

    def decode(self, codes: Sequence[Tensor], up: Tensor, labels: Tensor | None) -> Moments:
        """Moments of p_k; codes: z_k, ..., z_K, up: u of the image that z_{k+1}, ..., z_K decode to."""
        maps = [to_map(code) for to_map, code in zip(self.maps, codes[1:], strict=True)]
        features = self.decoder_label(self.mix(torch.cat([codes[0], *maps], 1)), labels)
        features = self.up(F.relu(self.norm(features))) + self.coarse(up)
        height, width = self.size
        # The last transposed convolution in its sub-pixel form: all work is at half size.
        mean, logvar = self.logvar(F.pixel_shuffle(self.head(features), 2)[..., :height, :width])
        return mean + full_precision(self.decoder_linear(codes[0])[..., :height, :width]), logvar


class CodeMap(nn.Module):
    """A code as a map of a given size: vectors by a linear layer to `channels` at `start`, then bilinear."""

    def __init__(self, code_shape: tuple[int, ...], channels: int, start: Size, size: Size) -> None:
        super().__init__()
        self.size = size
        vector = len(code_shape) == 1
        self.channels = channels if vector else code_shape[0]
        self.start = (channels, *start)
        self.linear = nn.Linear(code_shape[0], channels * start[0] * start[1]) if vector else None

    def forward(self, code: Tensor) -> Tensor:
        if self.linear is not None:
            code = self.linear(code).unflatten(1, self.start)
        return F.interpolate(code, self.size, mode="bilinear", align_corners=False)


class PriorBranch(nn.Module):
    """R_k or S_k: one moment of level k+1's posterior -> that moment of level k's prior, by two 3x3 convolutions."""

    def __init__(self, code_shape: tuple[int, ...], start: Size, width: int, latent: int, size: Size) -> None:
        super().__init__()
        self.map = CodeMap(code_shape, width, start, size)
        self.hidden = nn.Conv2d(self.map.channels, width, 3, padding=1)
        self.out = nn.Conv2d(width, latent, 3, padding=1)

    def forward(self, moment: Tensor) -> Tensor:
        return full_precision(self.out(F.relu(self.hidden(self.map(moment)))))
