"""Draws from autoregressive networks: categorical values, and programs (see Program), run at one pixel after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._registered import Registered
from lapcore.reference.pixelcnn_program import (
    Add,
    Buffer,
    Cat,
    Categorical,
    ConcatElu,
    Conv,
    Embed,
    Gated,
    Mixture,
    Ones,
    Program,
    Relu,
    Shuffle,
)
from lapcore.reference.pixelcnn_sampler import level_indices, level_values

__all__ = [
    "Add",
    "Buffer",
    "Cat",
    "Categorical",
    "ConcatElu",
    "Conv",
    "Embed",
    "Gated",
    "Mixture",
    "Ones",
    "Program",
    "Relu",
    "Shuffle",
    "categorical",
    "level_indices",
    "level_values",
]


def categorical(logits: Tensor, u: Tensor) -> Tensor:
    """Draws an index of every row of logits by inversion: the first k with p_0 + .. + p_k > u (p_0 + .. + p_{L-1}).

    Formula: p_k = exp(logits_k - max_j logits_j), summed in ascending k; if rounding leaves no such k, the last with p_k > 0.
    Shapes: logits (N, L), L >= 1; u (N,), uniforms in (0, 1) -> (N,), int64, in [0, L).
    Dtypes: logits float16, bfloat16, float32, float64; u float32 or float64. Computed in float32 (float64 for float64).
    Extremes: a logit that is NaN has probability 0, one that equals the largest p = 1, be it infinite; of NaN alone: index 0.
    Not differentiable. Errors: TypeError, ValueError naming the argument.
    Determinism: row n depends on logits[n] and u[n] alone. On the cpu and cuda backends exp and the float32 sums are the same to
        the bit; the reference may choose the neighbour where u falls on a boundary to within rounding.
    Source: inversion; Devroye, Non-Uniform Random Variate Generation, 1986, chapter III.2.
    """
    for name, x, dtypes in (("logits", logits, _check.FLOATS), ("u", u, (torch.float32, torch.float64))):
        _check.tensor(name, x)
        _check.dtype(name, x, dtypes)
    if logits.dim() != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits: expected shape (N, L), L at least 1, got {tuple(logits.shape)}")
    if u.shape != logits.shape[:1]:
        raise ValueError(f"u: expected shape ({logits.shape[0]},) like logits, got {tuple(u.shape)}")
    if u.device != logits.device:
        raise ValueError(f"u: expected the device {logits.device} of logits, got {u.device}")
    drawn: Tensor = _categorical(logits.detach(), u.detach())
    return drawn


def _categorical_of(logits: Tensor, u: Tensor) -> Tensor:
    computed = torch.promote_types(logits.dtype, torch.float32)
    room = backends.select("pixelcnn_sampler", [logits])
    drawn: Tensor = room.categorical(logits.to(computed), u.to(computed))
    return drawn


_categorical = Registered(
    "categorical",
    "(Tensor logits, Tensor u) -> Tensor",
    _categorical_of,
    lambda logits, u: torch.empty(logits.shape[:1], dtype=torch.int64, device=logits.device),
    lambda ctx, inputs, output: ctx.mark_non_differentiable(output),
    lambda ctx, grad: (None, None),
)
