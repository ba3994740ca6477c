"""The operations over `lapcore._C`: outputs are allocated here and pointers handed over.

`load()` gives the module, or the exception that kept it from loading.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import ModuleType


@cache
def load() -> ModuleType | Exception:
    """lapcore._C, or why it is not there."""
    try:
        from lapcore import _C
    except Exception as error:
        return error
    return _C


@cache
def build_report() -> dict[str, object]:
    """What setup.py recorded of the native build; empty when the package was never installed."""
    path = Path(__file__).parents[1] / "_build.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def missing() -> str | None:
    """Why there is no native code, with the command that mends it; None when there is."""
    error = load()
    if isinstance(error, ModuleType):
        return None
    report = build_report()
    again = "in lapcore's folder: pip install --force-reinstall ."
    if not report:
        return f"lapcore._C was never built ({error}); {again}"
    if report.get("mode") == "none":
        return "lapcore was installed with LAPCORE_BUILD=none; in its folder: LAPCORE_BUILD=cpu pip install --force-reinstall ."
    if not report.get("cpu"):
        return f"lapcore._C was not built: {report.get('reason')}; once mended, {again}"
    return f"lapcore._C failed to load: {type(error).__name__}: {error}; {again}"


def missing_cuda() -> str:
    """Why the native build has no CUDA kernels, and what to do about it."""
    reason = build_report().get("reason") or "nvcc was not found, or not asked for"
    return (
        f"lapcore._C has no CUDA kernels: {reason}; with nvcc on PATH, in lapcore's folder: "
        "LAPCORE_BUILD=cuda pip install --force-reinstall ."
    )


def isa() -> str | None:
    """The instruction set of the CPU kernels in use; None where there is no native code."""
    module = load()
    return str(module.isa()) if isinstance(module, ModuleType) else None


def has_cuda() -> bool:
    """Whether the native build has CUDA kernels."""
    module = load()
    return isinstance(module, ModuleType) and bool(module.has_cuda)
