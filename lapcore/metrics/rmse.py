"""sqrt(MSE) of reconstructions in 8-bit grey levels, as Dorta et al. (CVMP 2017) measured it on CelebA."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from lapcore.data.images import to_uint8


class Reconstructs(Protocol):
    """A model with `reconstruct`: images -> images through the mean code, or with seeds through a sampled one."""

    def reconstruct(self, images: Tensor, seeds: Tensor | None = None, labels: Tensor | None = None) -> Tensor: ...


def to_uint8_truncated(images: Tensor) -> Tensor:
    """uint8 of (x + 1) / 2 * 255 with the fraction dropped, for float images in [-1, 1], evaluated in their own dtype.

    A decoder that ends in a sum, as a collapsed pyramid does, may leave [-1, 1]; such values take the nearest end,
    where a bare cast would wrap around. float32 rounding puts 63 of the 256 grey levels of x = u / 127.5 - 1 just
    below u, so they come back one level darker: part of the published protocol. Raises ValueError for NaN or
    infinity, TypeError unless floating point. Deterministic.
    """
    if not images.is_floating_point():
        raise TypeError(f"images: expected a floating-point tensor in [-1, 1], got {images.dtype}")
    if not torch.isfinite(images).all():
        raise ValueError("images: expected finite values, got NaN or infinity")
    return ((images + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)


def rmse(input: Tensor, target: Tensor) -> Tensor:
    """sqrt(mean((input - target)**2)) of each image: uint8 (N, ...) and (N, ...) -> float64 (N,), in grey levels.

    The mean runs over channels, rows and columns. Raises TypeError unless both are uint8, ValueError unless the
    shapes are equal and no image is empty. Exact up to float64's rounding; deterministic.
    """
    if input.dtype != torch.uint8 or target.dtype != torch.uint8:
        raise TypeError(f"input and target: expected uint8, got {input.dtype} and {target.dtype}")
    if input.shape != target.shape:
        raise ValueError(f"input and target: expected equal shapes, got {tuple(input.shape)} and {tuple(target.shape)}")
    if input.ndim < 2 or (input[:1].numel() == 0 and input.shape[0] > 0):
        raise ValueError(f"input: expected (N, ...) images of at least one value, got {tuple(input.shape)}")
    difference = input.double() - target.double()
    return difference.square().flatten(1).mean(1).sqrt()


def evaluate_rmse(
    model: Reconstructs, batches: Iterable[tuple[Tensor, Tensor | None]], seed: int = 0
) -> dict[str, dict[str, float]]:
    """The paper's sqrt(MSE), and a kinder variant, of reconstructions of `batches`: (images, labels) pairs, images
    (N, C, H, W) in [-1, 1], labels int64 (N,), or None for a model without classes.

    * `rmse`: reconstruction from a sampled code; image and reconstruction truncated to uint8; per-image MSE; sqrt.
    * `rmse_mean_rounded`: from the mean code, both rounded to uint8. Lower, and not the published protocol.

    Each gives `mean` and `std` (population, as numpy.std) over the images, in grey levels, and their number `images`.
    Image i (counted through all batches) draws its code from seed + i, so the batch size is no part of the result
    beyond the network's own rounding. Raises ValueError when there is no image. Source: Dorta et al. 2017; published
    for CelebA's test split at 64x64: VAE 22.78 +- 4.64, LapCVAE 20.60 +- 4.81.
    """
    sampled, mean_code = [], []
    count = 0
    for images, labels in batches:
        seeds = torch.arange(seed + count, seed + count + len(images), dtype=torch.int64, device=images.device)
        count += len(images)
        with torch.no_grad():
            drawn = model.reconstruct(images, seeds=seeds, labels=labels)
            centre = model.reconstruct(images, labels=labels)
        sampled.append(rmse(to_uint8_truncated(drawn), to_uint8_truncated(images)).cpu())
        mean_code.append(rmse(to_uint8(centre), to_uint8(images)).cpu())
    if count == 0:
        raise ValueError("batches: expected at least one image, got none")
    return {"rmse": _summary(torch.cat(sampled)), "rmse_mean_rounded": _summary(torch.cat(mean_code))}


def celeba_crop(image: Tensor, size: int) -> Tensor:
    """The paper's preparation of an aligned CelebA picture: uint8 (C, 218, 178) -> uint8 (C, size, size).

    Crop rows 40:188 and columns 15:163; Gaussian blur, sigma = sqrt(148 / size) / 2, cut at 4 sigma; bicubic resize
    (Catmull-Rom, pixel centres, no further low-pass), clipped to the blurred image's range; times 255, truncated.
    Borders are replicated. These are scikit-image's `filters.gaussian` and `transform.warp(order=3)`, which the
    authors' code used. Raises ValueError unless the picture is 218x178 uint8. Deterministic.
    """
    if image.dtype != torch.uint8 or image.ndim != 3 or tuple(image.shape[1:]) != (218, 178):
        raise ValueError(
            f"image: expected uint8 (C, 218, 178), CelebA's aligned size, got {image.dtype} {tuple(image.shape)}"
        )
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    crop = image[:, 40:188, 15:163].double() / 255
    blur = _blur_matrix(148, math.sqrt(148 / size) / 2)
    resize = _cubic_matrix(148, size)
    smooth = blur @ crop @ blur.T
    resized = (resize @ smooth @ resize.T).clamp(smooth.min(), smooth.max())
    return (resized * 255).to(torch.uint8)


def _summary(values: Tensor) -> dict[str, float]:
    return {"mean": values.mean().item(), "std": values.std(correction=0).item(), "images": len(values)}


def _blur_matrix(length: int, sigma: float) -> Tensor:
    """(length, length): Gaussian blur of a line with its ends replicated."""
    radius = int(4 * sigma + 0.5)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    return _band_matrix(torch.arange(length)[:, None] + torch.arange(-radius, radius + 1), taps / taps.sum(), length)


def _cubic_matrix(length: int, size: int) -> Tensor:
    """(size, length): Keys' cubic convolution with a = -1/2 at the pixel centres of a line of `size`."""
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * (length / size) - 0.5
    left = centre.floor()
    distance = (centre - left)[:, None] - torch.arange(-1, 3, dtype=torch.float64)
    d = distance.abs()
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return _band_matrix(left.long()[:, None] + torch.arange(-1, 3), torch.where(d <= 1, near, far), length)


def _band_matrix(columns: Tensor, weights: Tensor, length: int) -> Tensor:
    """Adds `weights` at `columns` of each row; columns outside the line count for its ends."""
    matrix = torch.zeros(len(columns), length, dtype=torch.float64)
    return matrix.scatter_add_(1, columns.clamp(0, length - 1), weights.expand(columns.shape).contiguous())
