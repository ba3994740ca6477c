"""Triton's interpreter, faster: it patches triton.language for a launch, and again at every call of a device function inside it.

Looking through the whole language each time takes two fifths of what interpreted kernels take.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

_patch_and_call = InterpretedFunction.__call__


@functools.cache
def _languages(function: Callable[..., Any]) -> list[ModuleType]:
    """What the interpreter patches for a function: the modules that its globals name."""
    return [module for module in (tl, tl.core) if any(value is module for value in function.__globals__.values())]


def _call(self: InterpretedFunction, *args: Any, **kwargs: Any) -> Any:
    if any(tl.core.is_builtin(module.load) for module in _languages(self.fn)):
        return _patch_and_call(self, *args, **kwargs)
    return self.rewrite()(*args, **kwargs)


def patch_once() -> None:
    InterpretedFunction.__call__ = _call
