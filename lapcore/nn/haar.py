"""The Haar transform of images: one level of an orthonormal pyramid."""

from __future__ import annotations

import torch
from torch import Tensor


def haar_split(images: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, H, W), H and W even -> low (N, C, H/2, W/2) and high (N, C, 3, H/2, W/2), an orthonormal change of coordinates.

    Of each 2x2 block a b / c d: low is (a + b + c + d) / 2, twice its mean, and high the details (a - b + c - d) / 2,
    (a + b - c - d) / 2 and (a - b - c + d) / 2. Floating-point; ValueError for odd sides. Inverse: `haar_merge`.
    Source: Haar 1910; as LAPGAN's split of an image, Denton et al. 2015, appendix A.
    """
    if not images.is_floating_point():
        raise TypeError(f"images: expected a floating-point tensor, got {images.dtype}")
    if images.dim() != 4 or images.shape[2] % 2 or images.shape[3] % 2:
        raise ValueError(f"images: expected (N, C, H, W) with H and W even, got {tuple(images.shape)}")
    a, b = images[:, :, 0::2, 0::2] / 2, images[:, :, 0::2, 1::2] / 2
    c, d = images[:, :, 1::2, 0::2] / 2, images[:, :, 1::2, 1::2] / 2
    return a + b + c + d, torch.stack([a - b + c - d, a + b - c - d, a - b - c + d], 2)


def haar_merge(low: Tensor, high: Tensor) -> Tensor:
    """The inverse of `haar_split`, up to rounding: low (N, C, h, w), high (N, C, 3, h, w) -> (N, C, 2h, 2w)."""
    if low.dim() != 4 or high.shape != (*low.shape[:2], 3, *low.shape[2:]):
        shapes = f"{tuple(low.shape)} and {tuple(high.shape)}"
        raise ValueError(f"low, high: expected (N, C, h, w) and (N, C, 3, h, w), got {shapes}")
    low, (across, down, diagonal) = low / 2, (high / 2).unbind(2)
    top = torch.stack([low + across + down + diagonal, low - across + down - diagonal], -1)
    bottom = torch.stack([low + across - down - diagonal, low - across - down + diagonal], -1)
    return torch.stack([top, bottom], 3).reshape(*low.shape[:2], 2 * low.shape[2], 2 * low.shape[3])
