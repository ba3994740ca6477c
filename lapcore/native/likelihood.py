"""Mixtures of discretised logistics on the C++ kernels of csrc/cpu/: one pass over params for each function."""

from __future__ import annotations

from torch import Tensor

from lapcore import _C
from lapcore.native.memory import DTYPES, like, reusing
from lapcore.native.random import describe_seeds
from lapcore.native.threads import threads
from lapcore.reference.likelihood import computed


def discretized_logistic_mixture_nll(params: Tensor, x: Tensor, mode: str) -> Tensor:
    nll = x.new_empty(len(x))
    if len(x):
        params, x = side_by_side(params), side_by_side(x)
        _C.mixture_nll(*_call(params, x.shape[1]), mode == "official", describe(params), describe(x), nll.data_ptr())
    return nll


def discretized_logistic_mixture_nll_backward(
    grad: Tensor, params: Tensor, x: Tensor, mode: str, with_x: bool
) -> list[Tensor]:
    gradients = [like(t) for t in ((params, x) if with_x else (params,))]
    if len(x):
        grad, params, x = grad.contiguous(), side_by_side(params), side_by_side(x)
        d_params, d_x = [*(d.data_ptr() for d in gradients), 0][:2]
        call = *_call(params, x.shape[1]), mode == "official", grad.data_ptr()
        _C.mixture_nll_backward(*call, describe(params), describe(x), d_params, d_x)
    return gradients


def sample_discretized_logistic_mixture(
    params: Tensor, channels: int, seeds: Tensor, stream: int, snap: bool
) -> Tensor:
    n, _, height, width = params.shape
    out = reusing(params, (n, channels, height, width), n * channels * height * width, computed(params.dtype))
    if n:
        params = side_by_side(params)
        described = describe(params), describe_seeds(seeds, stream)
        _C.mixture_sample(*_call(params, channels), snap, *described, out.data_ptr())
    return out


def _call(params: Tensor, channels: int) -> tuple[int, int, int]:
    return DTYPES[params.dtype], threads(), channels


def side_by_side(x: Tensor) -> Tensor:
    """x, whose pixels lie at one distance from each other; a copy where they do not."""
    *_, height, width = x.shape
    return x if height == 1 or width == 1 or x.stride(2) == width * x.stride(3) else x.contiguous()


def describe(x: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """(N, rows, L)"""
    n, rows, height, width = x.shape
    *outer, line, pixel = x.stride()
    return x.data_ptr(), (n, rows, height * width), (*outer, line if width == 1 else pixel)
