"""Checks of arguments, shared by the families. Every message names the argument, what was expected, and what came."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
IMAGES = (torch.uint8, torch.int16, *FLOATS)


def tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense (strided) tensor, got layout {value.layout}")


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def dtype(name: str, x: Tensor, dtypes: Sequence[torch.dtype] = FLOATS) -> None:
    if x.dtype not in dtypes:
        expected = ", ".join(map(dtype_name, dtypes))
        raise TypeError(f"{name}: expected dtype {expected}, got {dtype_name(x.dtype)}")


def image(name: str, x: object, dtypes: Sequence[torch.dtype] = IMAGES) -> None:
    """A tensor (..., H, W) with H, W >= 1."""
    tensor(name, x)
    assert isinstance(x, Tensor)
    dtype(name, x, dtypes)
    shape = x.shape
    if len(shape) < 2:
        raise ValueError(f"{name}: expected shape (..., H, W), got {tuple(shape)}")
    if shape[-2] < 1 or shape[-1] < 1:
        raise ValueError(f"{name}: expected H and W of at least 1, got shape {tuple(shape)}")


def like(name: str, x: Tensor, dtype: torch.dtype, device: torch.device, owner: str) -> None:
    """x has the dtype and the device of `owner`."""
    if x.dtype != dtype or x.device != device:
        raise ValueError(
            f"{name}: expected {dtype_name(dtype)} on {device} like {owner}, got {dtype_name(x.dtype)} on {x.device}"
        )


def _memory(x: Tensor) -> tuple[int, int]:
    """The first byte of a tensor's elements and the one after the last."""
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + (last + 1) * x.element_size()


def _has_own_elements(x: Tensor) -> bool:
    """Whether each element surely has a place of its own: every stride reaches past all that lies within the smaller ones."""
    reach = 0
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return False
            reach += (size - 1) * stride
    return True


def out(out: object, shape: Sequence[int], dtype: torch.dtype, x: Tensor) -> None:
    """A tensor for the result of an operation on x: its shape and dtype, on x's device, apart from x in memory."""
    tensor("out", out)
    assert isinstance(out, Tensor)
    if tuple(out.shape) != tuple(shape):
        raise ValueError(f"out: expected shape {tuple(shape)}, got {tuple(out.shape)}")
    like("out", out, dtype, x.device, "the result")
    if out.requires_grad:
        raise ValueError("out: expected a tensor without gradient, got one that requires it")
    if torch.compiler.is_compiling() or out.device.type == "meta" or not (out.numel() and x.numel()):
        return
    if not _has_own_elements(out):
        raise ValueError(f"out: expected one place in memory for each element, got strides {out.stride()}")
    (a, a_end), (b, b_end) = _memory(out), _memory(x)
    if a < b_end and b < a_end:
        raise ValueError("out: expected memory of its own, got a tensor that overlaps x")


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
