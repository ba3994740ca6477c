"""The nearest code of each row, in plain PyTorch: tile by tile, so that no (N, K) table of distances ever exists."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROWS, CODES = 1024, 1024
"""The largest tile of scores."""


def vector_quantize(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """z (N, D), codebook (K, D) of one dtype -> the nearest codes (N, D), and their indices (N,), int64.

    ||z - e||^2 / 2 is the score |e|^2 / 2 - z . e up to what is the same for all codes. It is taken in float32 (float64 for
    float64); a score that is NaN is never the least, and a row of none but such scores has index 0.
    """
    z, codebook = z.contiguous(), codebook.contiguous()
    indices = torch.cat([_nearest(rows, codebook) for rows in torch.split(z, ROWS)])
    return codebook.index_select(0, indices), indices


def _nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    compute = torch.promote_types(rows.dtype, torch.float32)
    rows = rows.to(compute)
    least = rows.new_full((len(rows),), math.inf)
    indices = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for start in range(0, len(codebook), CODES):
        scores, local = _scores(rows, codebook[start : start + CODES].to(compute)).min(1)
        closer = scores < least
        least = torch.where(closer, scores, least)
        indices = torch.where(closer, local + start, indices)
    return indices


def _scores(rows: Tensor, codes: Tensor) -> Tensor:
    """|e|^2 / 2 - z . e; infinite for a code that is not finite."""
    norms = codes.square().sum(1) / 2
    finite = norms.isfinite()
    return torch.addmm(norms.where(finite, math.inf), rows, codes.where(finite[:, None], 0).T, alpha=-1)
