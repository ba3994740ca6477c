"""Pyramids on the CUDA kernels of csrc/cuda/pyramid.cu: one launch for one operator."""

from __future__ import annotations

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.pyramid import BORDERS, DTYPES, OPS, describe
from lapcore.reference.pyramid import Size

MAX_LEADING = 6  # what the kernel counts through


def apply(op: str, x: Tensor, size: Size, border: str, base: Tensor | None = None, alpha: int = 1) -> Tensor:
    """op(x) of the given size, or base + alpha * op(x).

    More than six leading dimensions are flattened to one, which copies x and base where their strides do not allow a view.
    """
    out = torch.empty((*x.shape[:-2], *size), dtype=x.dtype, device=x.device)
    if x.dim() - 2 > MAX_LEADING:
        x = x.flatten(0, -3)
        base = None if base is None else base.flatten(0, -3)
    with torch.cuda.device(x.device):
        _C.cuda_pyramid_apply(
            OPS[op],
            DTYPES[x.dtype],
            BORDERS[border],
            torch.cuda.current_stream().cuda_stream,
            describe(x),
            out.data_ptr(),
            *size,
            None if base is None else describe(base),
            alpha,
        )
    return out
