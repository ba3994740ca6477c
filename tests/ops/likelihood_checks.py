"""What the tests of mixtures of discretised logistics share: params, images, and how steep a pixel is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import lapcore
from tests.oracle import likelihood as oracle

MODES = ("exact", "official")
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# N, K, C, H, W
SHAPES = [(2, 3, 3, 3, 5), (1, 1, 1, 1, 1), (3, 5, 1, 2, 9), (1, 10, 3, 1, 67)]

ALL = torch.arange(256).double() / 127.5 - 1  # what a pixel may be

Tensor = torch.Tensor
Shape = tuple[int, int, int, int, int]
modes = pytest.mark.parametrize("mode", MODES)


def size_of(components: int, channels: int) -> int:
    return components * (10 if channels == 3 else 3)


def draw_params(shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Log-scales between -8 and 1, so that some are below the floor; means inside the image and beyond."""
    n, k, c, h, w = shape
    generator = torch.Generator().manual_seed(seed)
    params = torch.randn(n, size_of(k, c), h, w, generator=generator, dtype=torch.float64)
    groups = params[:, k:].view(n, c, 3 if c == 3 else 2, k, h, w)
    groups[:, :, 1] = groups[:, :, 1] * 1.5 - 3
    return params.to(dtype)


def draw_image(shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """On the grid; every seventh value at one of its ends."""
    n, _, c, h, w = shape
    levels = torch.randint(0, 256, (n, c, h, w), generator=torch.Generator().manual_seed(seed + 1))
    levels.view(-1)[::7] = 0
    levels.view(-1)[3::7] = 255
    return (levels.double() / 127.5 - 1).to(dtype)


def nll(params: Tensor, x: Tensor, mode: str = "exact") -> Tensor:
    return lapcore.discretized_logistic_mixture_nll(params, x, mode=mode)


def sample(params: Tensor, seeds: int | Tensor, **options: Any) -> Tensor:
    return lapcore.sample_discretized_logistic_mixture(params, seeds, **options)


def each_pixel(params: Tensor, x: Tensor, mode: str = "exact") -> Tensor:
    """Of images of one row, as images of one pixel."""
    return nll(*(t.permute(0, 3, 1, 2).flatten(0, 1)[..., None] for t in (params, x)), mode).double()


def gradients(params: Tensor, x: Tensor, grad: Tensor, mode: str = "exact") -> tuple[Tensor, Tensor]:
    params, x = params.detach().requires_grad_(), x.detach().requires_grad_()
    return torch.autograd.grad(nll(params, x, mode), (params, x), grad)


def near_threshold(params: np.ndarray, x: np.ndarray) -> bool:
    """Whether float32 may take the other side of the official code's threshold, where its value jumps."""
    mixture = oracle.unpack(params, x.shape[1])
    centred = oracle._centred(mixture, x)
    a, b, _ = oracle._ends(centred)
    inside = abs(centred.x) < 0.999
    return bool((inside & (abs(np.log(np.maximum(oracle.sigmoid(a) - oracle.sigmoid(b), 1e-30) / 1e-5)) < 1e-2)).any())


def steepness(params: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, 1, H, W): how much a rounding error of a mean, in units of the scale, may move the derivatives of a pixel."""
    mixture = oracle.unpack(params, x.shape[1])
    centred = oracle._centred(mixture, x)
    ends = (
        centred.inv * (abs(mixture.means) + 4) * (1 + abs(centred.log_scale))
        + abs(mixture.logits).max(1)[:, None, None]
    )
    return ((1 + ends.max((1, 2))) * (1 + centred.inv.max((1, 2))))[:, None]
