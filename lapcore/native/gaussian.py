"""Diagonal Gaussians on the C++ kernels of csrc/cpu/: one pass over memory for each function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import CPU, DTYPES, like, row_by_row
from lapcore.native.random import describe_seeds
from lapcore.native.threads import threads

NO_SEEDS = (0, 0, False, 0)

Moments = Sequence[Tensor | None]


def reparameterize(mean: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    z = like(mean)
    _forward((mean, logvar, None, None), describe_seeds(seeds, stream), z, None)
    return z


def gaussian_kl(mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None) -> Tensor:
    kl = _sums(mean)
    _forward((mean, logvar, prior_mean, prior_logvar), NO_SEEDS, None, kl)
    return kl


def reparameterize_kl(
    mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None, seeds: Tensor, stream: int
) -> tuple[Tensor, Tensor]:
    z, kl = like(mean), _sums(mean)
    _forward((mean, logvar, prior_mean, prior_logvar), describe_seeds(seeds, stream), z, kl)
    return z, kl


def gaussian_nll(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    nll = _sums(x)
    if x.numel() == 0:
        return nll
    x, mean, logvar = row_by_row(x), row_by_row(mean), row_by_row(logvar)
    _C.gaussian_nll(*_call(x), _rows(x), _rows(mean), _rows(logvar), nll.data_ptr())
    return nll


def reparameterize_backward(grad: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    d_logvar = like(logvar)
    # The mean is not looked at.
    _backward(grad, None, (logvar, logvar, None, None), describe_seeds(seeds, stream), (None, d_logvar, None, None))
    return d_logvar


def gaussian_kl_backward(
    grad: Tensor, mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None
) -> list[Tensor]:
    moments = mean, logvar, prior_mean, prior_logvar
    gradients = [None if x is None else like(x) for x in moments]
    _backward(None, grad, moments, NO_SEEDS, gradients)
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
    gradients = [None if x is None else like(x) for x in moments]
    _backward(grad_z, grad_kl, moments, describe_seeds(seeds, stream), gradients)
    return [x for x in gradients if x is not None]


def gaussian_nll_backward(grad: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> list[Tensor]:
    gradients = [like(x), like(x), like(x)]
    if x.numel():
        grad = grad.contiguous()
        x, mean, logvar = row_by_row(x), row_by_row(mean), row_by_row(logvar)
        outputs = (y.data_ptr() for y in gradients)
        _C.gaussian_nll_backward(*_call(x), grad.data_ptr(), _rows(x), _rows(mean), _rows(logvar), *outputs)
    return gradients


def _call(x: Tensor) -> tuple[int, int, tuple[int, int]]:
    rows = x.shape[0]
    return DTYPES[x.dtype], threads(), (rows, x.numel() // rows)


def _rows(x: Tensor) -> tuple[int, int]:
    return x.data_ptr(), x.stride(0)


def _all_rows(tensors: Moments, length: int) -> tuple[list[tuple[int, int] | None], list[Tensor]]:
    """The rows of each tensor, and the copies that have to live as long where rows were not contiguous."""
    rows: list[tuple[int, int] | None] = []
    copies: list[Tensor] = []
    for x in tensors:
        if x is None:
            rows.append(None)
        elif x.is_contiguous():
            rows.append((x.data_ptr(), length))
        else:
            x = row_by_row(x)
            copies.append(x)
            rows.append(_rows(x))
    return rows, copies


def _sums(x: Tensor) -> Tensor:
    """Room for a sum of each row; zeros where there is nothing to add up."""
    if x.numel() and x.dtype in (torch.float32, torch.float64):
        return torch.empty(x.shape[0], dtype=x.dtype, device=CPU)
    return x.new_zeros(x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32))


def _forward(moments: Moments, seeds: tuple[int, int, bool, int], z: Tensor | None, kl: Tensor | None) -> None:
    mean = moments[0]
    assert mean is not None
    if mean.numel() == 0:
        return
    call = _call(mean)
    rows, _copies = _all_rows(moments, call[2][1])
    z_address = 0 if z is None else z.data_ptr()
    kl_address = 0 if kl is None else kl.data_ptr()
    _C.gaussian_forward(*call, rows, seeds, z_address, kl_address)


def _backward(
    grad_z: Tensor | None,
    grad_kl: Tensor | None,
    moments: Moments,
    seeds: tuple[int, int, bool, int],
    gradients: Moments,
) -> None:
    mean = moments[0]
    assert mean is not None
    if mean.numel() == 0:
        return
    call = _call(mean)
    length = call[2][1]
    (of_grad_z, *rows), _copies = _all_rows((grad_z, *moments), length)
    grad_kl = None if grad_kl is None else grad_kl.contiguous()
    _C.gaussian_backward(
        *call,
        of_grad_z,
        0 if grad_kl is None else grad_kl.data_ptr(),
        rows,
        seeds,
        _all_rows(gradients, length)[0],
    )
