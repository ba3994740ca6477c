"""Orthonormal cosine bases: where the linear maps between images and codes start.

Each function comes with the amplitude that photographs have there, up to a factor: about (1 + f)^-p at a frequency of f half cycles
across the function's support, and a third of it for each step along the colour axis. Codes divided by it start with about unit
variance, that of their prior.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

CHROMA_COST = 0.5
"""The spatial frequency, in half cycles per pixel, before which no function of the first colour difference is taken."""


def cosine_basis(count: int, channels: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The lowest `count` functions of the discrete cosine transform of (channels, height, width) images in [-1, 1].

    Returns (count, channels, height, width), orthonormal, zero beyond the transform's dimension, and their amplitudes, (count,).
    Over three channels it is grey, red minus blue, and green minus the mean of both.
    """
    scale = 0.6 * math.sqrt(size[0] * size[1])
    return _lowest(count, _dct(channels), _dct(size[0]), _dct(size[1]), scale, decay=1.5)


def lapped_cosine_basis(count: int, channels: int, stride: int) -> tuple[Tensor, Tensor]:
    """The lowest `count` functions of the modified discrete cosine transform, for Laplacian bands.

    Returns (count, channels, 2 stride, 2 stride) and amplitudes, (count,). All of them and their shifts by multiples of
    `stride` are orthonormal, so the transform inverts itself, and windows overlap, so no blocks show. Source: Princen and Bradley
    1986, with the sine window.
    """
    n = torch.arange(2 * stride, dtype=torch.float64) + 0.5
    k = torch.arange(stride, dtype=torch.float64)[:, None] + 0.5
    window = torch.sin(torch.pi * n / (2 * stride))
    basis: Tensor = window * math.sqrt(2 / stride) * torch.cos(torch.pi / stride * (n + stride / 2) * k)
    return _lowest(count, _dct(channels), basis, basis, 0.3, decay=0.75)


def _dct(length: int) -> Tensor:
    """(frequency, place), orthonormal."""
    n, k = torch.arange(length, dtype=torch.float64) + 0.5, torch.arange(length, dtype=torch.float64)[:, None]
    basis: Tensor = math.sqrt(2 / length) * torch.cos(torch.pi / length * n * k)
    basis[0] /= math.sqrt(2)
    return basis


def _lowest(
    count: int, colour: Tensor, rows: Tensor, columns: Tensor, scale: float, decay: float
) -> tuple[Tensor, Tensor]:
    def cost(index: tuple[int, int, int]) -> float:
        c, u, v = index
        return CHROMA_COST * c + math.hypot(u / len(rows), v / len(columns))

    chosen = sorted(product(range(len(colour)), range(len(rows)), range(len(columns))), key=cost)[:count]
    basis = torch.zeros(count, colour.shape[1], rows.shape[1], columns.shape[1])
    amplitude = torch.full((count,), scale)
    for i, (c, u, v) in enumerate(chosen):
        basis[i] = torch.einsum("i,j,k->ijk", colour[c], rows[u], columns[v]).float()
        amplitude[i] *= 3.0**-c * (1 + math.hypot(u, v)) ** -decay
    return basis, amplitude
