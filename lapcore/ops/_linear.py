"""Linear operations on lists of tensors: registration with torch.library, and gradients by the transpose.

An operation `name` and its transpose `name_adjoint` have one signature,
    lapcore::name(Tensor[] inputs, SymInt[] size, int levels, str border) -> Tensor[]
and each is the gradient of the other, so gradients of every order exist. Plain eager calls do not go through the dispatcher,
which would cost more than a small image's arithmetic; torch.compile, torch.export, vmap and fake tensors do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

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
    def forward(ctx: Any, name: str, size: Size, levels: int, border: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.call = (name, size, levels, border)
        return tuple(_runs[name](list(inputs), size, levels, border))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        name, size, levels, border = ctx.call
        return (None, None, None, None, *call(transpose_of(name), list(grads), size, levels, border))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        name, size, levels, border = ctx.call
        return tuple(call(name, list(tangents[4:]), size, levels, border))


def _eager(inputs: Sequence[Tensor]) -> bool:
    """Whether these are ordinary tensors outside of every tracing and transforming mode."""
    return (
        all(type(x) in _PLAIN for x in inputs)
        and not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and inputs[0].device.type != "meta"
    )


def call(name: str, inputs: list[Tensor], size: Size, levels: int, border: str) -> list[Tensor]:
    """Runs a registered operation by the shortest way that the moment allows."""
    if not _eager(inputs):
        return list(getattr(torch.ops.lapcore, name)(inputs, size, levels, border))
    differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    if differentiated or forward_ad._current_level >= 0:
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
        _, ctx.size, ctx.levels, ctx.border = inputs

    def backward(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        return call(transpose_of(name), list(grads), ctx.size, ctx.levels, ctx.border), None, None, None

    def vmap(info: Any, in_dims: Any, inputs: list[Tensor], size: Size, levels: int, border: str) -> tuple[Any, Any]:
        moved = [
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(inputs, in_dims[0], strict=True)
        ]
        out = call(name, moved, size, levels, border)
        return out, [0] * len(out)

    torch.library.impl(op, ("CPU", "CUDA"), kernel)
    torch.library.register_fake(op, fake)
    torch.library.register_autograd(op, backward, setup_context=setup_context)
    torch.library.register_vmap(op, vmap)
