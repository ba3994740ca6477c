"""Vector quantisation: the nearest code of every vector, with a straight-through gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._registered import Registered
from lapcore.reference import vector_quantize as reference


def vector_quantize(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """quantized = e_k with k = argmin_k ||z - e_k||^2, and the indices k; the lowest of equals.

    Shapes: z (..., D), the vectors in the last dimension (of images (N, D, H, W): z.movedim(1, -1)), any strides; codebook (K, D),
        K, D >= 1 -> quantized (..., D), contiguous, and indices (...), int64, in [0, K).
    Dtypes: float16, bfloat16, float32, float64, one for both and for quantized, which holds codes to the bit. Distances are
        compared as |e|^2 / 2 - z . e in float32 (float64 for float64): codes equally far to within its rounding may change
        places. A code that is not finite is never the nearest; a vector with a NaN gets index 0; one with an infinity, any.
    Gradient: straight-through: that of quantized goes to z as it is, none to the codebook. Losses that move the codebook are
        taken of codebook[indices]; lapcore.nn.VectorQuantizer has them.
    Memory: beside the results O(N + K), never an (N, K) table. Determinism: the same bits for the same call on one backend, but
        that a CPU without fused multiply-adds may order codes that are equally far to within rounding otherwise.
    Errors: TypeError, ValueError naming the argument.
    Source: van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, 2017, equations 1 and 2.
    """
    _check_both(z, codebook)
    quantized, indices = _quantize(z, codebook.detach() if codebook.requires_grad else codebook)
    return quantized, indices


def _check_both(z: Tensor, codebook: Tensor) -> None:
    for name, x in (("z", z), ("codebook", codebook)):
        _check.tensor(name, x)
        _check.dtype(name, x)
    if codebook.dim() != 2 or 0 in codebook.shape:
        raise ValueError(f"codebook: expected shape (K, D), K and D at least 1, got {tuple(codebook.shape)}")
    if z.dim() == 0 or z.shape[-1] != codebook.shape[1]:
        raise ValueError(f"z: expected shape (..., {codebook.shape[1]}) like the codes, got {tuple(z.shape)}")
    _check.like("codebook", codebook, z.dtype, z.device, "z")
    _check.no_tangent(z, codebook)


def _run(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    rows = z if z.dim() == 2 else z.reshape(-1, codebook.shape[1])
    found = backends.select("vector_quantize", [z]).vector_quantize(rows, codebook) if len(rows) else None
    quantized, indices = reference.vector_quantize(rows, codebook) if found is None else found
    # torch takes a tuple in half the time of a torch.Size.
    return (quantized, indices) if rows is z else (quantized.view_as(z), indices.view(tuple(z.shape)[:-1]))


def _fake(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    quantized = torch.empty(z.shape, dtype=z.dtype, device=z.device)
    return quantized, torch.empty(z.shape[:-1], dtype=torch.int64, device=z.device)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor, None]:
    return grad, None


_quantize = Registered(
    "vector_quantize", "(Tensor z, Tensor codebook) -> (Tensor, Tensor)", _run, _fake, _save, _backward
)
