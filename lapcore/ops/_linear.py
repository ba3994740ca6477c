"""Linear operations on lists of tensors: registration with torch.library, and gradients by the transpose.

An operation `name` and its transpose `name_adjoint` have one signature,
    lapcore::name(Tensor[] inputs, SymInt[] size, int levels, str border) -> Tensor[]
and each is the gradient of the other, so gradients of every order exist. Plain eager calls do not go through the dispatcher,
which would cost more than a small image's arithmetic; torch.compile, torch.export and fake tensors do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lapcore import backends

Size = tuple[int, int]
Run = Callable[[list[Tensor], Size, int, str], list[Tensor]]
Shapes = Callable[[Size, int], list[Size]]

SCHEMA = "(Tensor[] inputs, SymInt[] size, int levels, str border) -> Tensor[]"

_runs: dict[str, Run] = {}
_PLAIN = (Tensor, torch.nn.Parameter)


def transpose_of(name: str) -> str:
    return name.removesuffix("_adjoint") if name.endswith("_adjoint") else f"{name}_adjoint"


class _Linear(torch.autograd.Function):
    """y = A x: the gradient is A^T dy, the tangent A dx."""

    @staticmethod
    def forward(name: str, size: Size, levels: int, border: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(_runs[name](list(inputs), size, levels, border))

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
        info: Any, in_dims: Any, name: str, size: Size, levels: int, border: str, *inputs: Tensor
    ) -> tuple[Any, Any]:
        out = tuple(call(name, _batched(info, in_dims[4:], inputs), size, levels, border))
        return out, (0,) * len(out)


def _batched(info: Any, in_dims: Sequence[int | None], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The inputs of a vmapped call with its dimension first: one leading dimension more."""
    return [
        x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(inputs, in_dims, strict=True)
    ]


def _eager(inputs: Sequence[Tensor]) -> bool:
    """Whether these are ordinary tensors outside of every tracing mode."""
    return (
        all(type(x) in _PLAIN for x in inputs)
        and not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and inputs[0].device.type != "meta"
    )


def call(name: str, inputs: list[Tensor], size: Size, levels: int, border: str) -> list[Tensor]:
    """Runs a registered operation by the shortest way that the moment allows."""
    if not _eager(inputs):
        return list(getattr(torch.ops.lapcore, name)(inputs, size, levels, border))
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError(f"{name}: torch.jit.trace is not supported; use torch.compile or torch.export")
    differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    transformed = torch._C._functorch.peek_interpreter_stack() is not None  # torch.func
    if differentiated or transformed or forward_ad._current_level >= 0:
        return list(_Linear.apply(name, size, levels, border, *inputs))  # type: ignore[no-untyped-call]
    return _runs[name](inputs, size, levels, border)


def register(name: str, run: Run, shapes: Shapes) -> None:
    """Makes `run` the operation lapcore::name; `shapes` gives the sizes of its outputs from those of the finest image."""
    _runs[name] = run
    op = f"lapcore::{name}"
    torch.library.define(op, SCHEMA)

    def kernel(inputs: list[Tensor], size: list[int], levels: int, border: str) -> list[Tensor]:
        out = run(inputs, (size[0], size[1]), levels, border)
        return [y.clone() if any(y is x for x in inputs) else y for y in out]  # the dispatcher forbids aliases

    def fake(inputs: list[Tensor], size: list[int], levels: int, border: str) -> list[Tensor]:
        x = inputs[0]
        return [x.new_empty((*x.shape[:-2], *each)) for each in shapes((size[0], size[1]), levels)]

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.rest = inputs[1:]
        ctx.backend = backends.asked_for()

    def backward(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        with backends.asking_for(ctx.backend):
            return call(transpose_of(name), list(grads), *ctx.rest), None, None, None

    def vmap(info: Any, in_dims: Any, inputs: list[Tensor], size: Size, levels: int, border: str) -> tuple[Any, Any]:
        out = call(name, _batched(info, in_dims[0], inputs), size, levels, border)
        return out, [0] * len(out)

    torch.library.impl(op, ("CPU", "CUDA"), kernel)
    torch.library.register_fake(op, fake)
    torch.library.register_autograd(op, backward, setup_context=setup_context)
    torch.library.register_vmap(op, vmap)
