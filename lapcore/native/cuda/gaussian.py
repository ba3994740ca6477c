"""Diagonal Gaussians on the CUDA kernels of csrc/cuda: one pass over memory for each function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.cuda.random import Seeds, describe_seeds
from lapcore.native.memory import DTYPES, row_by_row

NO_SEEDS: Seeds = (0, 0, False, 0)

Moments = Sequence[Tensor | None]


def reparameterize(mean: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    z = _like(mean)
    _forward(mean, (mean, logvar, None, None), describe_seeds(seeds, stream), z, None)
    return z


def gaussian_kl(mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None) -> Tensor:
    kl = _sums(mean)
    _forward(mean, (mean, logvar, prior_mean, prior_logvar), NO_SEEDS, None, kl)
    return kl


def reparameterize_kl(
    mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None, seeds: Tensor, stream: int
) -> tuple[Tensor, Tensor]:
    z, kl = _like(mean), _sums(mean)
    _forward(mean, (mean, logvar, prior_mean, prior_logvar), describe_seeds(seeds, stream), z, kl)
    return z, kl


def gaussian_nll(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    nll = _sums(x)
    if x.numel():
        parts = _parts(x)
        x, mean, logvar = row_by_row(x), row_by_row(mean), row_by_row(logvar)
        with torch.cuda.device(x.device):
            _C.cuda_gaussian_nll(*_call(x), _rows(x), _rows(mean), _rows(logvar), nll.data_ptr(), parts.data_ptr())
    return nll


def reparameterize_backward(grad: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    d_logvar = _like(logvar)
    # The mean is not looked at.
    moments = logvar, logvar, None, None
    _backward(logvar, grad, None, moments, describe_seeds(seeds, stream), (None, d_logvar, None, None))
    return d_logvar


def gaussian_kl_backward(
    grad: Tensor, mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None
) -> list[Tensor]:
    moments = mean, logvar, prior_mean, prior_logvar
    gradients = [None if x is None else _like(x) for x in moments]
    _backward(mean, None, grad, moments, NO_SEEDS, gradients)
    return [x for x in gradients if x is not None]


def reparameterize_kl_backward(
    grad_z: Tensor,
    grad_kl: Tensor,
    mean: Tensor,
    logvar: Tensor,
    prior_mean: Tensor | None,
    prior_logvar: Tensor | None,
    seeds: Tensor,
    stream: int,
) -> list[Tensor]:
    moments = mean, logvar, prior_mean, prior_logvar
    gradients = [None if x is None else _like(x) for x in moments]
    _backward(mean, grad_z, grad_kl, moments, describe_seeds(seeds, stream), gradients)
    return [x for x in gradients if x is not None]


def gaussian_nll_backward(grad: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> list[Tensor]:
    gradients = [_like(x), _like(x), _like(x)]
    if x.numel():
        grad = grad.contiguous()
        x, mean, logvar = row_by_row(x), row_by_row(mean), row_by_row(logvar)
        with torch.cuda.device(x.device):
            outputs = (y.data_ptr() for y in gradients)
            _C.cuda_gaussian_nll_backward(*_call(x), grad.data_ptr(), _rows(x), _rows(mean), _rows(logvar), *outputs)
    return gradients


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _sums(x: Tensor) -> Tensor:
    """Room for a sum of each row; zeros where there is nothing to add up."""
    make = torch.empty if x.numel() else torch.zeros
    return make(x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)


def _shape(x: Tensor) -> tuple[int, int]:
    rows = x.shape[0]
    return rows, x.numel() // rows


def _parts(x: Tensor) -> Tensor:
    """Room for the sums of what long rows are taken in."""
    return torch.empty(_C.cuda_gaussian_parts(*_shape(x)), dtype=torch.float64, device=x.device)


def _call(x: Tensor) -> tuple[int, int, tuple[int, int]]:
    return DTYPES[x.dtype], torch.cuda.current_stream().cuda_stream, _shape(x)


def _rows(x: Tensor) -> tuple[int, int]:
    return x.data_ptr(), x.stride(0)


def _all_rows(tensors: Moments) -> list[tuple[int, int] | None]:
    return [None if x is None else _rows(x) for x in tensors]


def _forward(mean: Tensor, moments: Moments, seeds: Seeds, z: Tensor | None, kl: Tensor | None) -> None:
    if mean.numel() == 0:
        return
    moments = [None if x is None else row_by_row(x) for x in moments]
    parts = None if kl is None else _parts(mean)
    z_address, kl_address, parts_address = (0 if x is None else x.data_ptr() for x in (z, kl, parts))
    with torch.cuda.device(mean.device):
        _C.cuda_gaussian_forward(*_call(mean), _all_rows(moments), seeds, z_address, kl_address, parts_address)


def _backward(
    mean: Tensor, grad_z: Tensor | None, grad_kl: Tensor | None, moments: Moments, seeds: Seeds, gradients: Moments
) -> None:
    if mean.numel() == 0:
        return
    moments = [None if x is None else row_by_row(x) for x in moments]
    grad_z = None if grad_z is None else row_by_row(grad_z)
    grad_kl = None if grad_kl is None else grad_kl.contiguous()
    with torch.cuda.device(mean.device):
        _C.cuda_gaussian_backward(
            *_call(mean),
            None if grad_z is None else _rows(grad_z),
            0 if grad_kl is None else grad_kl.data_ptr(),
            _all_rows(moments),
            seeds,
            _all_rows(gradients),
        )
