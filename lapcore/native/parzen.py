"""Parzen windows on the C++ kernels of csrc/cpu/."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import CPU, DTYPES, unit_rows
from lapcore.native.threads import threads


def parzen_log_likelihood(x: Tensor, samples: Tensor, sigmas: Sequence[float]) -> Tensor:
    x, samples = unit_rows(x), unit_rows(samples)
    result = torch.empty((len(sigmas), len(x)), dtype=torch.promote_types(x.dtype, torch.float32), device=CPU)
    _C.parzen_log_likelihood(
        DTYPES[x.dtype],
        threads(),
        (x.data_ptr(), x.shape, x.stride()),
        (samples.data_ptr(), samples.shape, samples.stride()),
        sigmas,
        result.data_ptr(),
    )
    return result
