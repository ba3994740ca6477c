"""Linear operations on lists of tensors: registration with torch.library, and gradients by the transpose.

An operation `name` and its transpose `name_adjoint` have one signature,
    lapcore::name(Tensor[] inputs, SymInt[] sizes, str filter, str border) -> Tensor[]
where sizes are those of every level, fine to coarse, height and width in turn; and each is the gradient of the other, so
gradients of every order exist. Plain eager calls do not go through the dispatcher, which would cost more than a small
image's arithmetic; torch.compile, torch.export and fake tensors do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops._eager import eager, transformed, wants_gradient

Size = tuple[int, int]
Sizes = tuple[Size, ...]
Run = Callable[[list[Tensor], Sizes, str, str], list[Tensor]]

SCHEMA = "(Tensor[] inputs, SymInt[] sizes, str filter, str border) -> Tensor[]"

_runs: dict[str, Run] = {}


def transpose_of(name: str) -> str:
    return name.removesuffix("_adjoint") if name.endswith("_adjoint") else f"{name}_adjoint"


class _Plain(torch.autograd.Function):
    """y = A x: the gradient is A^T dy. Its older form costs a third of what one with setup_context does."""

    @staticmethod
    def forward(ctx: Any, name: str, sizes: Sizes, filter: str, border: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.name, ctx.rest = name, (sizes, filter, border)
        ctx.backend = backends.asked_for()
        return tuple(_runs[name](list(inputs), sizes, filter, border))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        with backends.asking_for(ctx.backend):
            return (None, None, None, None, *call(transpose_of(ctx.name), list(grads), *ctx.rest))


class _Linear(torch.autograd.Function):
    """The same under transforms of torch.func and for tangents: that of y = A x is A dx."""

    @staticmethod
    def forward(name: str, sizes: Sizes, filter: str, border: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(_runs[name](list(inputs), sizes, filter, border))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.name, *ctx.rest = inputs[:4]
        ctx.backend = backends.asked_for()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        with backends.asking_for(ctx.backend):
            return (None, None, None, None, *call(transpose_of(ctx.name), list(grads), *ctx.rest))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        return tuple(call(ctx.name, list(tangents[4:]), *ctx.rest))

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, name: str, sizes: Sizes, filter: str, border: str, *inputs: Tensor
    ) -> tuple[Any, Any]:
        out = tuple(call(name, _batched(info, in_dims[4:], inputs), sizes, filter, border))
        return out, (0,) * len(out)


def _batched(info: Any, in_dims: Sequence[int | None], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The inputs of a vmapped call with its dimension first: one leading dimension more."""
    return [
        x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(inputs, in_dims, strict=True)
    ]


def differentiated(tensors: Sequence[Tensor]) -> bool:
    """Whether a gradient, a tangent or a transform of torch.func follows this call."""
    return wants_gradient(tensors) or transformed()


def call(name: str, inputs: list[Tensor], sizes: Sizes, filter: str, border: str) -> list[Tensor]:
    """Runs a registered operation by the shortest way that the moment allows."""
    if not eager(inputs):
        flat = [side for size in sizes for side in size]
        return list(getattr(torch.ops.lapcore, name)(inputs, flat, filter, border))
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError(f"{name}: torch.jit.trace is not supported; use torch.compile or torch.export")
    if transformed():
        return list(_Linear.apply(name, sizes, filter, border, *inputs))  # type: ignore[no-untyped-call]
    if wants_gradient(inputs):
        return list(_Plain.apply(name, sizes, filter, border, *inputs))  # type: ignore[no-untyped-call]
    return _runs[name](inputs, sizes, filter, border)


def _pairs(flat: Sequence[int]) -> Sizes:
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def register(name: str, run: Run, outputs: slice, dtype: Callable[[torch.dtype], torch.dtype]) -> None:
    """Makes `run` the operation lapcore::name, whose outputs have the sizes sizes[outputs] and a dtype that follows the
    input's."""
    _runs[name] = run
    op = f"lapcore::{name}"
    torch.library.define(op, SCHEMA)

    def kernel(inputs: list[Tensor], sizes: list[int], filter: str, border: str) -> list[Tensor]:
        out = run(inputs, _pairs(sizes), filter, border)
        return [y.clone() if any(y is x for x in inputs) else y for y in out]  # the dispatcher forbids aliases

    def fake(inputs: list[Tensor], sizes: list[int], filter: str, border: str) -> list[Tensor]:
        x = inputs[0]
        return [x.new_empty((*x.shape[:-2], *size), dtype=dtype(x.dtype)) for size in _pairs(sizes)[outputs]]

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, sizes, *rules = inputs
        ctx.rest = (_pairs(sizes), *rules)
        ctx.backend = backends.asked_for()

    def backward(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        with backends.asking_for(ctx.backend):
            return call(transpose_of(name), list(grads), *ctx.rest), None, None, None

    def vmap(info: Any, in_dims: Any, inputs: list[Tensor], sizes: list[int], *rules: str) -> tuple[Any, Any]:
        out = call(name, _batched(info, in_dims[0], inputs), _pairs(sizes), *rules)
        return out, [0] * len(out)

    torch.library.impl(op, ("CPU", "CUDA"), kernel)
    torch.library.register_fake(op, fake)
    torch.library.register_autograd(op, backward, setup_context=setup_context)
    torch.library.register_vmap(op, vmap)
