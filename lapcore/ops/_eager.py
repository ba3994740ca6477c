"""Whether a call is a plain eager one: it need not go through torch's dispatcher, which costs more than a small tensor's work."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

PLAIN = (Tensor, torch.nn.Parameter)


def eager(tensors: Sequence[Tensor]) -> bool:
    """Whether these are ordinary tensors outside of every tracing mode."""
    for x in tensors:
        if type(x) not in PLAIN:
            return False
    return not (tensors[0].is_meta or torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack())


def tracing() -> bool:
    """Whether torch.compile, torch.export, a mode of torch's dispatcher or torch.jit.trace watches this call."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
    )


def transformed() -> bool:
    """Whether this call is inside a transform of torch.func, or has tangents."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def wants_gradient(tensors: Sequence[Tensor]) -> bool:
    if torch.is_grad_enabled():
        for x in tensors:
            if x.requires_grad:
                return True
    return False
