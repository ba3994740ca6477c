"""The nearest code of each row on the C++ kernels of csrc/cpu/."""

from __future__ import annotations

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.pyramid import DTYPES, describe


def vector_quantize(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    z, codebook = rows(z), rows(codebook)
    quantized = torch.empty(z.shape, dtype=z.dtype)
    indices = torch.empty(len(z), dtype=torch.int64)
    _C.vector_quantize(
        DTYPES[z.dtype],
        torch.get_num_threads(),
        describe(z),
        describe(codebook),
        quantized.data_ptr(),
        indices.data_ptr(),
    )
    return quantized, indices


def rows(x: Tensor) -> Tensor:
    """x (N, D) with each row contiguous, any stride apart."""
    return x if x.stride(1) == 1 else x.contiguous()
