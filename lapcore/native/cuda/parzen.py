"""Parzen windows on the CUDA kernels of csrc/cuda: memory O(N + M), of which float32 copies of the rows are the most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import DTYPES
from lapcore.native.pyramid import describe

ALIGNED = 4
"""Values to whose multiple rows are padded, for the kernels to read them sixteen bytes at a time."""


def parzen_log_likelihood(x: Tensor, samples: Tensor, sigmas: Sequence[float]) -> Tensor:
    """x (N, D), samples (M, D) -> (S, N) nats, float32, or float64 for float64, as lapcore.reference.parzen has it."""
    compute = torch.promote_types(x.dtype, torch.float32)
    samples = samples.contiguous()  # the mean's bits are not to depend on strides
    centre = samples.mean(0, dtype=compute).nan_to_num_(0, 0, 0)
    rows, centres = centred(x, centre), centred(samples, centre)
    result = torch.empty((len(sigmas), len(x)), dtype=compute, device=x.device)
    dtype = DTYPES[compute]
    with torch.cuda.device(x.device):
        work = torch.empty(
            _C.cuda_parzen_work(dtype, len(x), len(samples), len(sigmas)), dtype=torch.uint8, device=x.device
        )
        _C.cuda_parzen_log_likelihood(
            dtype,
            torch.cuda.current_stream().cuda_stream,
            describe(rows),
            describe(centres),
            sigmas,
            result.data_ptr(),
            work.data_ptr(),
        )
    return result


def centred(x: Tensor, centre: Tensor) -> Tensor:
    """x - centre in the centre's dtype, its rows padded."""
    depth = x.shape[1]
    padded = -(-depth // ALIGNED) * ALIGNED
    rows = torch.empty((len(x), padded), dtype=centre.dtype, device=x.device)[:, :depth]
    return torch.sub(x, centre, out=rows)
