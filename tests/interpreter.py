"""Triton's interpreter without what takes two thirds of its time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction

_patch_and_call = InterpretedFunction.__call__


@functools.cache
def _languages(function: Callable[..., Any]) -> list[ModuleType]:
    """What the interpreter patches for a function: the modules that its globals name."""
    return [module for module in (tl, tl.core) if any(value is module for value in function.__globals__.values())]


def _call(self: InterpretedFunction, *args: Any, **kwargs: Any) -> Any:
    """A device function's. The whole language is looked through and patched only where its kernel's launch has not done so."""
    if any(tl.core.is_builtin(module.load) for module in _languages(self.fn)):
        return _patch_and_call(self, *args, **kwargs)
    return self.rewrite()(*args, **kwargs)


def hasten() -> None:
    InterpretedFunction.__call__ = _call
    check_overflow(False)


def check_overflow(on: bool) -> None:
    """Whether each sum of integers is computed once more in 64 bits; an overflow then ends the kernel."""
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=on)
