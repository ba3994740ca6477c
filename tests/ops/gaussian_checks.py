"""What the tests of the Gaussian family share: moments of any shape, and how exact a sum over a row is."""

from __future__ import annotations

import numpy as np
import torch

SHAPES = [(4, 6), (3, 2, 5, 7), (1, 1), (5,), (2, 0), (0, 3), (2, 1, 3, 1, 2)]
HALVES = [torch.float16, torch.bfloat16]
FLOATS = [*HALVES, torch.float32, torch.float64]
SEEDS = 2**40 + 11
EPS = torch.finfo(torch.float32).eps
ROWS = 16 * EPS  # a row's sum, relative to the sum of the absolute terms: a few roundings a term, then a pairwise sum


def draw(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, device: str = "cpu"
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(device, dtype)


def leaves(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [t.detach().clone().requires_grad_() for t in tensors]


def four(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[torch.Tensor]:
    """mean, logvar, prior_mean, prior_logvar."""
    return [draw(shape, seed, dtype, device=device) for seed in (1, 2, 3, 4)]


def summed(dtype: torch.dtype) -> torch.dtype:
    """What a sum over a row comes in: float32 for all but float64."""
    return torch.promote_types(dtype, torch.float32)


def sum_tolerance(magnitude: np.ndarray, dtype: torch.dtype = torch.float32) -> np.ndarray:
    return ROWS / EPS * torch.finfo(summed(dtype)).eps * magnitude + 1e-30
