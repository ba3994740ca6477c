"""Operations with a gradient of their own, known to torch.library, that plain eager calls reach without its dispatcher.

An operation's gradient is an operation too, of one pass; what that one's gradient is, its plain PyTorch reference knows
(`by_recomputation`), so that derivatives of every order exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops._eager import PLAIN, tracing, transformed

OTHERS = frozenset({type(None), bool, int, str, list, tuple})
"""What arguments usually are, if not tensors."""

Save = Callable[[Any, tuple[Any, ...], Any], None]
Backward = Callable[..., Any]


class Registered:
    """lapcore::name, called as a function.

    schema: of its arguments and results, as torch.library takes it. run: computes it, on tensors of any backend. fake: the
    same for torch.compile, shapes and dtypes only. save(ctx, inputs, output) and backward(ctx, *grads): as in an
    autograd.Function; without them there is no gradient. A gradient is computed on the backend that was asked for forward.
    """

    def __init__(
        self,
        name: str,
        schema: str,
        run: Callable[..., Any],
        fake: Callable[..., Any],
        save: Save | None = None,
        backward: Backward | None = None,
    ) -> None:
        op = f"lapcore::{name}"
        torch.library.define(op, schema)
        torch.library.impl(op, "CompositeExplicitAutograd", run)
        torch.library.register_fake(op, fake)
        self._run = run
        self._dispatched = getattr(torch.ops.lapcore, name).default
        self._function: type[torch.autograd.Function] | None = None
        if save is not None and backward is not None:
            function = _function(run, save, backward)
            torch.library.register_autograd(op, function.backward, setup_context=_remembering(save))
            self._function = function

    def __call__(self, *arguments: Any) -> Any:
        differentiable = False
        for x in arguments:
            kind = type(x)
            if kind in PLAIN:
                if x.is_meta:
                    return self._dispatched(*arguments)
                differentiable = differentiable or x.requires_grad
            elif kind not in OTHERS and isinstance(x, Tensor):
                return self._dispatched(*arguments)
        if tracing() or transformed():
            return self._dispatched(*arguments)
        if differentiable and self._function is not None and torch.is_grad_enabled():
            return self._function.apply(*arguments)  # type: ignore[no-untyped-call]
        return self._run(*arguments)


def _remembering(save: Save) -> Callable[..., None]:
    def remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.backend = backends.asked_for()
        save(ctx, inputs, output)

    return remember


def _function(run: Callable[..., Any], save: Save, backward: Backward) -> type[torch.autograd.Function]:
    """The older form of a Function, which costs a third of what one with setup_context does."""
    differentiate = backward

    class Plain(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            output = run(*arguments)
            ctx.backend = backends.asked_for()
            save(ctx, arguments, output)
            return tuple(output) if type(output) is list else output  # autograd sees nothing in a list

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            if ctx.backend == backends.asked_for():
                return differentiate(ctx, *grads)
            with backends.asking_for(ctx.backend):
                return differentiate(ctx, *grads)

    return Plain


def save_all(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keeps the tensors among the inputs, and the rest as `ctx.rest`: `saved(ctx)` gives them all back in order."""
    ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in inputs))
    ctx.rest = [None if isinstance(x, Tensor) else x for x in inputs]


def saved(ctx: Any) -> list[Any]:
    return [x if x is not None else other for x, other in zip(ctx.saved_tensors, ctx.rest, strict=True)]


def by_recomputation(reference: Callable[..., Any]) -> Backward:
    """The gradient of an operation that saved all its inputs: computed again in plain PyTorch, which autograd knows."""

    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        inputs, further = saved(ctx), torch.is_grad_enabled()
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad) if needed]
        with torch.enable_grad():
            for i in wanted:
                inputs[i] = inputs[i].view_as(inputs[i]) if further else inputs[i].detach().requires_grad_()
            outputs, incoming = _flat(reference(*inputs)), _flat(grads)
            found = torch.autograd.grad(
                outputs, [inputs[i] for i in wanted], incoming, allow_unused=True, create_graph=further
            )
        result: list[Tensor | None] = [None] * len(inputs)
        for i, grad in zip(wanted, found, strict=True):
            result[i] = grad
        return tuple(result)

    return backward


def _flat(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    return [x for each in outputs for x in _flat(each)]
