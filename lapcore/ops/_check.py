"""Checks of arguments, shared by the families. Every message names the argument, what was expected, and what came."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense (strided) tensor, got layout {value.layout}")


def floating(name: str, x: Tensor, dtypes: Sequence[torch.dtype] = FLOATS) -> None:
    if x.dtype not in dtypes:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name}: expected dtype {expected}, got {str(x.dtype).removeprefix('torch.')}")


def image(name: str, x: object) -> None:
    """A float tensor (..., H, W) with H, W >= 1."""
    tensor(name, x)
    assert isinstance(x, Tensor)
    floating(name, x)
    if x.dim() < 2:
        raise ValueError(f"{name}: expected shape (..., H, W), got {tuple(x.shape)}")
    if x.shape[-2] < 1 or x.shape[-1] < 1:
        raise ValueError(f"{name}: expected H and W of at least 1, got shape {tuple(x.shape)}")


def choice(name: str, value: object, options: Sequence[str]) -> None:
    if value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")


def count(name: str, value: object, least: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int of at least {least}, got {value!r} of type {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name}: expected an int of at least {least}, got {value}")


def no_tangent(*tensors: Tensor | None) -> None:
    """RuntimeError under forward-mode differentiation, for operations that would drop the tangent."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return
    if any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in tensors):  # type: ignore[no-untyped-call]
        raise RuntimeError(
            "forward-mode differentiation (torch.func.jvp, jacfwd) is not supported here; use reverse mode"
        )
