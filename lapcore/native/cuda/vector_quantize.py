"""Vector quantisation on the CUDA kernels of csrc/cuda: three launches, memory O(N + K)."""

from __future__ import annotations

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import DTYPES, unit_rows
from lapcore.native.pyramid import describe


def vector_quantize(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """z (N, D), codebook (K, D) of one dtype -> the nearest codes (N, D), and their indices (N,), int64.

    Rows that are not next to each other in memory are copied first.
    """
    z, codebook = unit_rows(z), unit_rows(codebook)
    quantized = torch.empty(z.shape, dtype=z.dtype, device=z.device)
    indices = torch.empty(len(z), dtype=torch.int64, device=z.device)
    dtype = DTYPES[z.dtype]
    with torch.cuda.device(z.device):
        work = torch.empty(
            _C.cuda_vector_quantize_work(dtype, len(z), len(codebook)), dtype=torch.uint8, device=z.device
        )
        _C.cuda_vector_quantize(
            dtype,
            torch.cuda.current_stream().cuda_stream,
            describe(z),
            describe(codebook),
            describe(quantized),
            indices.data_ptr(),
            work.data_ptr(),
        )
    return quantized, indices
