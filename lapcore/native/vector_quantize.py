"""The nearest code of each row on the C++ kernels of csrc/cpu/."""

from __future__ import annotations

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import CPU, DTYPES, like, unit_rows
from lapcore.native.threads import threads


def vector_quantize(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    z, codebook = unit_rows(z), unit_rows(codebook)
    quantized = like(z)
    indices = torch.empty(len(z), dtype=torch.int64, device=CPU)
    _C.vector_quantize(
        DTYPES[z.dtype],
        threads(),
        (z.data_ptr(), z.shape, z.stride()),
        (codebook.data_ptr(), codebook.shape, codebook.stride()),
        quantized.data_ptr(),
        indices.data_ptr(),
    )
    return quantized, indices
