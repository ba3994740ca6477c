"""Parzen windows on the C++ kernels of csrc/cpu/."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.pyramid import DTYPES, describe
from lapcore.native.vector_quantize import rows


def parzen_log_likelihood(x: Tensor, samples: Tensor, sigmas: Sequence[float]) -> Tensor:
    x, samples = rows(x), rows(samples)
    result = torch.empty((len(sigmas), len(x)), dtype=torch.promote_types(x.dtype, torch.float32))
    _C.parzen_log_likelihood(
        DTYPES[x.dtype], torch.get_num_threads(), describe(x), describe(samples), sigmas, result.data_ptr()
    )
    return result
