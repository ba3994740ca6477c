"""Parzen windows: how likely points are under Gaussian kernels around samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._registered import Registered, by_recomputation, save_all, saved
from lapcore.reference import parzen as reference


def parzen_log_likelihood(x: Tensor, samples: Tensor, sigma: float | Sequence[float] | Tensor) -> Tensor:
    """LL(x_n) = logmeanexp_i(-||x_n - mu_i||^2 / (2 sigma^2)) - D ln(sigma sqrt(2 pi)), in nats.

    Args:
        x, samples: (N, ...) and (M, ...), M >= 1, of one trailing shape of D >= 1 values, any strides.
        sigma: the kernels' standard deviation, in the units of x: a positive number, or S of them, as a sequence or a 1-D tensor,
            whose values are read: all S are found in one pass.

    Returns:
        (N,), or (S, N) for several sigmas: float32, or float64 for float64.

    Dtypes: float16, bfloat16, float32, float64, one for both; all arithmetic is float32 (float64 for float64), around the samples'
        mean. What is not finite, or whose square is not, is infinitely far: -inf. A NaN in x makes that row NaN, one in the
        samples every row.
    Gradient: to x and to the samples, by formula, of every order; the first in memory O(N + M). sigma is a constant.
    Memory: O(N + M), never an (N, M) table. Determinism: the same bits for the same call on one backend; no atomics. A CPU without
        fused multiply-adds gives other bits, as of masked_conv2d.
    Errors: TypeError, ValueError naming the argument.
    Source: Parzen 1962; as a measure of generative models, Breuleux, Bengio and Vincent 2011, and Goodfellow et al. 2014.
    """
    sigmas = _sigmas(sigma)
    _check_both(x, samples)
    result: Tensor = _log_likelihood(_rows(x), _rows(samples), sigmas)
    return result[0] if isinstance(sigma, int | float) else result


def _sigmas(sigma: float | Sequence[float] | Tensor) -> list[float]:
    if isinstance(sigma, float) and 0 < sigma < math.inf:
        return [float(sigma)]
    if isinstance(sigma, Tensor):
        if sigma.dim() != 1 or sigma.is_complex() or sigma.dtype == torch.bool:
            raise ValueError(f"sigma: expected a 1-D tensor of real numbers, got {sigma.dtype} {tuple(sigma.shape)}")
        numbers: Sequence[object] = sigma.tolist()
    else:
        numbers = sigma if isinstance(sigma, Sequence) and not isinstance(sigma, str) else [sigma]
    found = [float(s) for s in numbers if isinstance(s, int | float) and not isinstance(s, bool)]
    if len(found) < len(numbers):
        raise TypeError(f"sigma: expected a number, a sequence of numbers or a 1-D tensor, got {sigma!r}")
    if not found or not all(0 < s < math.inf for s in found):
        raise ValueError(f"sigma: expected positive finite numbers, at least one, got {sigma!r}")
    return found


def _check_both(x: Tensor, samples: Tensor) -> None:
    for name, tensor in (("x", x), ("samples", samples)):
        _check.tensor(name, tensor)
        _check.dtype(name, tensor)
    if x.dim() == 0 or 0 in x.shape[1:]:
        raise ValueError(f"x: expected shape (N, ...), at least one value a row, got {tuple(x.shape)}")
    if samples.dim() == 0 or samples.shape[0] == 0 or samples.shape[1:] != x.shape[1:]:
        expected = ", ".join(["M >= 1", *map(str, x.shape[1:])])
        raise ValueError(f"samples: expected shape ({expected}) like x, got {tuple(samples.shape)}")
    _check.like("samples", samples, x.dtype, x.device, "x")
    _check.no_tangent(x, samples)


def _rows(x: Tensor) -> Tensor:
    return x if x.dim() == 2 else x.reshape(x.shape[0], math.prod(x.shape[1:]))


def _run(x: Tensor, samples: Tensor, sigmas: list[float]) -> Tensor:
    room = backends.select("parzen", [x])
    found: Tensor | None = room.parzen_log_likelihood(x, samples, sigmas) if len(x) else None
    return reference.parzen_log_likelihood(x, samples, sigmas) if found is None else found


def _fake(x: Tensor, samples: Tensor, sigmas: list[float]) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.empty((len(sigmas), x.shape[0]), dtype=dtype, device=x.device)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    at_x, at_samples = _gradient(grad, *saved(ctx))
    return at_x, at_samples, None


def _fake_backward(grad: Tensor, x: Tensor, samples: Tensor, sigmas: list[float]) -> tuple[Tensor, Tensor]:
    at_x, at_samples = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (x, samples))
    return at_x, at_samples


_gradient = Registered(
    "parzen_log_likelihood_backward",
    "(Tensor grad, Tensor x, Tensor samples, float[] sigmas) -> (Tensor, Tensor)",
    reference.parzen_log_likelihood_backward,
    _fake_backward,
    save_all,
    by_recomputation(reference.parzen_log_likelihood_backward_dense),
)
_log_likelihood = Registered(
    "parzen_log_likelihood",
    "(Tensor x, Tensor samples, float[] sigmas) -> Tensor",
    _run,
    _fake,
    save_all,
    _backward,
)
