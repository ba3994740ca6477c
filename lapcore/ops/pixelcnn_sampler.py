"""Draws from autoregressive networks: categorical values, and programs (see Program), run at one pixel after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._registered import Registered
from lapcore.ops.random import seed_tensor
from lapcore.reference.pixelcnn_program import (
    Add,
    Buffer,
    Cat,
    Categorical,
    ConcatElu,
    Conv,
    Embed,
    Gated,
    Head,
    Instruction,
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
    "Head",
    "Instruction",
    "Mixture",
    "Ones",
    "Program",
    "Relu",
    "Shuffle",
    "categorical",
    "level_indices",
    "level_values",
    "sample_program",
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


def sample_program(
    program: Program,
    seeds: Tensor,
    conditions: Sequence[Tensor] = (),
    *,
    given: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Draws an image for each seed from an autoregressive network, which runs once in all: (N, C, H, W), float32, in [-1, 1].

    Formula: rows from the top, in each the pixels from the left, in each the colour groups in order: with the instructions that are
        due (see Program) the head's input at this place is known, and its channels are drawn: by `categorical` from the logits
        with u = lapcore.random.uniform((N, C, H, W), seeds)[n, c, y, x]; or by sample_discretized_logistic_mixture (snapped), with
        the noise that it takes there for whole maps. So the result is that of running the whole network again for every pixel and
        group, with the same seeds.
    Args:
        program: what lapcore.nn.tracing.program_of makes of a network.
        seeds: int64, (N,), on the program's device.
        conditions: as many as `program.conditions`, each float32 (N, *shape).
        given, known: pixels that are not drawn but taken: where known, bool (N, 1, H, W) or (N, C, H, W), is true, the values of
            given, float32 (N, C, H, W). Of a Mixture, which draws a pixel's channels together, known is (N, 1, H, W).
    Dtypes: everything is float32. Not differentiable. Errors: TypeError, ValueError naming the argument.
    Determinism: image n depends on the program, seeds[n], its conditions and what is given of it alone: batches and threads do not
        count. On the cpu backend, and on cuda, the same bits as the network itself on that backend; those of a CPU without fused
        multiply-adds are others, as of masked_conv2d. The reference's logits are as near to the network's as torch's sums of
        products.
    Source: Ramachandran et al., Fast Generation for Convolutional Autoregressive Models, 2017.
    """
    if not isinstance(program, Program):
        raise TypeError(f"program: expected a Program, got {type(program).__name__}")
    _check.tensor("seeds", seeds)
    if seeds.dim() != 1:
        raise ValueError(f"seeds: expected shape (N,), got {tuple(seeds.shape)}")
    seed_tensor(seeds, seeds.shape, program.device)
    conditions = _checked_conditions(program, seeds, conditions)
    if (given is None) != (known is None):
        raise ValueError("known: expected given and known together, got one of them")
    if given is not None and known is not None:
        known = _checked_known(program, seeds, given, known)
        given = given.detach()
    if len(seeds) == 0:
        return torch.empty(0, program.channels, *program.size, dtype=torch.float32, device=program.device)
    room = backends.select("pixelcnn_sampler", [seeds])
    drawn: Tensor = room.sample_program(program, seeds, conditions, given, known)
    return drawn


def _checked_conditions(program: Program, seeds: Tensor, conditions: Sequence[Tensor]) -> list[Tensor]:
    if len(conditions) != len(program.conditions):
        raise ValueError(f"conditions: expected {len(program.conditions)} tensors, got {len(conditions)}")
    for i, (condition, shape) in enumerate(zip(conditions, program.conditions, strict=True)):
        name = f"conditions[{i}]"
        _check.tensor(name, condition)
        if tuple(condition.shape) != (len(seeds), *shape):
            raise ValueError(f"{name}: expected shape {(len(seeds), *shape)}, got {tuple(condition.shape)}")
        _check.like(name, condition, torch.float32, program.device, "the program")
    return [condition.detach() for condition in conditions]


def _checked_known(program: Program, seeds: Tensor, given: Tensor, known: Tensor) -> Tensor:
    """known as (N, C, H, W)."""
    shape = len(seeds), program.channels, *program.size
    _check.tensor("given", given)
    _check.tensor("known", known)
    if tuple(given.shape) != shape:
        raise ValueError(f"given: expected shape {shape}, got {tuple(given.shape)}")
    _check.like("given", given, torch.float32, program.device, "the program")
    one = shape[0], 1, *shape[2:]
    allowed = (one,) if isinstance(program.head, Mixture) else (one, shape)
    if tuple(known.shape) not in allowed:
        raise ValueError(f"known: expected shape {' or '.join(map(str, allowed))}, got {tuple(known.shape)}")
    _check.like("known", known, torch.bool, program.device, "the program")
    return known.expand(shape)
