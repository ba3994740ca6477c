"""Mixtures of discretised logistics on the CUDA kernels of csrc/cuda."""

from __future__ import annotations

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.cuda.random import describe_seeds
from lapcore.native.likelihood import describe, side_by_side
from lapcore.native.memory import DTYPES
from lapcore.reference.likelihood import computed


def discretized_logistic_mixture_nll(params: Tensor, x: Tensor, mode: str) -> Tensor:
    nll = torch.empty(len(x), dtype=x.dtype, device=x.device)
    if len(x):
        params, x = side_by_side(params), side_by_side(x)
        parts = torch.empty(len(x) * _C.cuda_mixture_parts(x[0, 0].numel()), dtype=torch.float64, device=x.device)
        with torch.cuda.device(x.device):
            call = *_call(params, x.shape[1]), mode == "official"
            _C.cuda_mixture_nll(*call, describe(params), describe(x), parts.data_ptr(), nll.data_ptr())
    return nll


def discretized_logistic_mixture_nll_backward(
    grad: Tensor, params: Tensor, x: Tensor, mode: str, with_x: bool
) -> list[Tensor]:
    gradients = [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in ((params, x) if with_x else (params,))]
    if len(x):
        grad, params, x = grad.contiguous(), side_by_side(params), side_by_side(x)
        d_params, d_x = [*(d.data_ptr() for d in gradients), 0][:2]
        with torch.cuda.device(x.device):
            call = *_call(params, x.shape[1]), mode == "official", grad.data_ptr()
            _C.cuda_mixture_nll_backward(*call, describe(params), describe(x), d_params, d_x)
    return gradients


def sample_discretized_logistic_mixture(
    params: Tensor, channels: int, seeds: Tensor, stream: int, snap: bool
) -> Tensor:
    n, _, height, width = params.shape
    out = torch.empty((n, channels, height, width), dtype=computed(params.dtype), device=params.device)
    if n:
        params = side_by_side(params)
        with torch.cuda.device(params.device):
            call = *_call(params, channels), snap
            _C.cuda_mixture_sample(*call, describe(params), describe_seeds(seeds, stream), out.data_ptr())
    return out


def _call(params: Tensor, channels: int) -> tuple[int, int, int]:
    return DTYPES[params.dtype], torch.cuda.current_stream().cuda_stream, channels
