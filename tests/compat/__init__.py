"""The drop-ins against what they stand for.

RIFE, RobustVideoMatting and LPTN share one way of writing Burt and Adelson's pyramid, in float64 here: a 5x5 convolution of the
image padded by reflection, then every second sample; zeros between the samples, then the same convolution times four.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_ROW = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64) / 16


def folk_blur(image: torch.Tensor) -> torch.Tensor:
    channels = image.shape[1]
    kernel = torch.outer(_ROW, _ROW).to(image.dtype).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(image, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)


def folk_down(image: torch.Tensor) -> torch.Tensor:
    return folk_blur(image)[:, :, ::2, ::2]


def folk_up(image: torch.Tensor) -> torch.Tensor:
    n, c, h, w = image.shape
    zeros = image.new_zeros(n, c, 2 * h, 2 * w)
    zeros[:, :, ::2, ::2] = 4 * image
    return folk_blur(zeros)


def random_images(*shape: int, count: int = 2, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Leaves that require a gradient, in [0, 1)."""
    generator = torch.Generator().manual_seed(sum(shape))
    return [torch.rand(shape, generator=generator, dtype=dtype).requires_grad_() for _ in range(count)]
