"""The VQ-VAE's networks, between images and maps of codes a quarter of their size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.nn.blocks import full_precision

STRIDE = 4
"""Pixels, per axis, for each place of a code map."""


def code_side(image_size: int) -> int:
    """Places of a code map, per axis: image_size / 4, rounded up."""
    return -(-image_size // STRIDE)


class ResidualBlock(nn.Module):
    """x + (ReLU, 3x3 convolution, ReLU, 1x1 convolution)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1)
        self.narrow = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(F.relu(self.wide(F.relu(x))))
        return x + y


class MapEncoder(nn.Module):
    """Image (N, C, H, W) -> (N, dim, H/4, W/4), rounded up: two 4x4 convolutions of stride 2, residual blocks, a 1x1 convolution.

    Images whose size is no multiple of 4 are continued to the right and below by their last pixels.
    """

    def __init__(self, channels: int, size: int, hidden: int, blocks: int, dim: int) -> None:
        super().__init__()
        self.padding = STRIDE * code_side(size) - size
        self.downs = nn.Sequential(
            nn.Conv2d(channels, hidden, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 4, stride=2, padding=1),
        )
        self.blocks = nn.Sequential(*[ResidualBlock(hidden) for _ in range(blocks)])
        self.codes = nn.Conv2d(hidden, dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        if self.padding:
            images = F.pad(images, (0, self.padding, 0, self.padding), mode="replicate")
        return full_precision(self.codes(torch.relu(self.blocks(self.downs(images)))))


class MapDecoder(nn.Module):
    """(N, dim, H/4, W/4) -> image (N, C, H, W): the mirror image of `MapEncoder`."""

    def __init__(self, channels: int, size: int, hidden: int, blocks: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.codes = nn.Conv2d(dim, hidden, 3, padding=1)
        self.blocks = nn.Sequential(*[ResidualBlock(hidden) for _ in range(blocks)])
        self.ups = nn.Sequential(
            nn.ConvTranspose2d(hidden, hidden, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden, channels, 4, stride=2, padding=1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        image = full_precision(self.ups(torch.relu(self.blocks(self.codes(codes)))))
        return image[..., : self.size, : self.size]
