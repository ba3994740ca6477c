"""Noise of the levels of a pyramid: one seed serves all of them."""

from __future__ import annotations

from torch import Tensor

from lapcore.ops import random

PRIOR, CHOICE, POSTERIOR, PIXELS = range(4)
"""Kinds of noise: of codes from their prior, of the choice of its Gaussians, of codes from their posterior, and of pixels."""


def noise_stream(level: int, kind: int) -> int:
    """Numbers a stream of noise for each level and kind."""
    return 4 * level + kind


def pixel_seeds(seeds: Tensor, level: int) -> Tensor:
    """Derives the seeds (N,) that the pixels of a level are drawn with."""
    high, low = random.bits((len(seeds), 2), seeds, stream=noise_stream(level, PIXELS)).long().unbind(1)
    return (high << 32) | (low & 0xFFFFFFFF)
