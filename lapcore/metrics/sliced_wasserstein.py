"""The sliced Wasserstein distance between patches of Laplacian pyramids: one number a scale, and no network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lapcore.ops import random
from lapcore.ops.pyramid import laplacian_pyramid

SIDE = 7
COARSEST = 16
IMAGES, DIRECTIONS = 256, 64
"""So many images and directions are taken at a time, which bounds the memory."""


def sliced_wasserstein(
    real: Tensor, fake: Tensor, *, levels: int | None = None, patches: int = 128, directions: int = 512, seed: int = 0
) -> dict[str, float]:
    """1000 times the sliced Wasserstein distance of 7x7 patches at every level of `lapcore.laplacian_pyramid`, and their mean.

    At each level `patches` patches an image are drawn, at places that depend on the seed alone, the same for both sets. Each set is
    normalised by itself: every channel of its patches has mean 0 and variance 1. Then

        distance = mean over directions w of mean_p |sort(A w)_p - sort(B w)_p|,   w uniform on the unit sphere

    Distances compare if number of images, size and `levels` are equal: of equal distributions, too, it falls as images are added.

    Args:
        real, fake: uint8 (N, C, H, W) and (M, C, H, W), sides at least 7 at every level. Of the larger set fewer patches an
            image are drawn: both give patches * min(N, M), spread over all of their images.
        levels: K, of band-passes; default as many as leave the coarsest low-pass at least 16 wide and high.
        patches, directions: numbers of them; the source has 128 and 512. seed: of `lapcore.random`'s places, stream 2 k of level k,
            and directions, stream 2 k + 1.

    Returns "level0", the finest band, to "level{K}", the low-pass, and "mean" of these.
    Errors: TypeError, ValueError naming the argument. Deterministic. Memory: 64 projections of all patches of one level.
    Source: Karras, Aila, Laine and Lehtinen, Progressive Growing of GANs, 2018, section 5, on 16,384 images.

    Example:
        >>> import torch
        >>> from lapcore.metrics import sliced_wasserstein
        >>> images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8)
        >>> sliced_wasserstein(images, images)
        {'level0': 0.0, 'level1': 0.0, 'mean': 0.0}
    """
    for name, images in (("real", real), ("fake", fake)):
        if images.dtype != torch.uint8:
            raise TypeError(f"{name}: expected uint8, got {images.dtype}")
        if images.dim() != 4 or images.numel() == 0 or images.shape[1:] != real.shape[1:]:
            expected = f"images (N, {', '.join(map(str, real.shape[1:]))})" if name == "fake" else "images (N, C, H, W)"
            raise ValueError(f"{name}: expected {expected}, got {tuple(images.shape)}")
    for name, value in (("patches", patches), ("directions", directions)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    height, width = real.shape[2:]
    top = _levels(min(height, width)) if levels is None else levels
    if top < 0:
        raise ValueError(f"levels: expected at least 0, got {levels}")
    if (min(height, width) - 1 >> top) + 1 < SIDE:
        raise ValueError(f"real: expected sides of at least {SIDE} at level {top}, got {height}x{width}")
    count = patches * min(len(real), len(fake))
    found = {f"level{k}": _distance(real, fake, k, top, count, directions, seed) for k in range(top + 1)}
    return found | {"mean": sum(found.values()) / len(found)}


class _Patches(NamedTuple):
    """Patches of one level: of patch p image p * N // count, at a row and a column of uniforms[:, p]."""

    images: Tensor
    level: int
    top: int
    uniforms: Tensor

    def blocks(self) -> Iterator[Tensor]:
        """(n, C, 49), float32, some images' after the others'."""
        total, count = len(self.images), self.uniforms.shape[1]
        for start in range(0, total, IMAGES):
            part = self.images[start : start + IMAGES]
            x = laplacian_pyramid(part.float(), self.top)[self.level]
            first, last = -(-start * count // total), -(-(start + len(part)) * count // total)
            image = torch.arange(first, last, device=x.device) * total // count - start
            places = torch.tensor(x.shape[2:], device=x.device)[:, None] - (SIDE - 1)
            row, column = (self.uniforms[:, first:last].double() * places).long()
            yield x.unfold(2, SIDE, 1).unfold(3, SIDE, 1)[image, :, row, column].flatten(2)

    def scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, (C, 1)."""
        sums = torch.stack(
            [torch.stack([x.sum((0, 2)), x.square().sum((0, 2))]) for x in map(Tensor.double, self.blocks())]
        )
        mean, square = sums.sum(0)[..., None] / (self.uniforms.shape[1] * SIDE * SIDE)
        variance = square - mean.square()
        # A channel of one value, up to rounding, is divided by 1: there is nothing to normalise.
        return mean, variance.where(variance > 1e-9 * (1 + square), 1).sqrt()

    def projected(self, directions: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """(directions, count) of the normalised patches, each row in ascending order."""
        # ((x - m) / s) w = (x - m) (w / s): patches need not be divided one by one.
        scaled = (directions.reshape(len(directions), len(mean), -1) / std).flatten(1).float()
        blocks = [scaled @ x.sub_(mean.float()).flatten(1).T for x in self.blocks()]
        return _sorted(torch.cat(blocks, 1))


def _distance(real: Tensor, fake: Tensor, level: int, top: int, count: int, directions: int, seed: int) -> float:
    uniforms = random.uniform((2, count), seed, stream=2 * level, device=real.device)
    sets = [_Patches(images, level, top, uniforms) for images in (real, fake)]
    scales = [patches.scale() for patches in sets]
    shape = (directions, real.shape[1] * SIDE * SIDE)
    normals = random.normal(shape, seed, stream=2 * level + 1, device=real.device)
    total = 0.0
    for part in torch.split(normals / normals.norm(dim=1, keepdim=True), DIRECTIONS):
        a, b = (patches.projected(part, *scale) for patches, scale in zip(sets, scales, strict=True))
        total += a.sub_(b).abs_().mean(1, dtype=torch.float64).sum().item()
    return 1000 * total / directions


def _sorted(rows: Tensor) -> Tensor:
    if rows.is_cuda:
        return rows.sort(1).values
    rows.numpy().sort(axis=1)  # in place, at several times torch's speed
    return rows


def _levels(side: int) -> int:
    levels = 0
    while -(-side // 2) >= COARSEST:
        levels, side = levels + 1, -(-side // 2)
    return levels
