"""What lapcore raises besides plain ValueError and TypeError. Every message names the thing, what was expected, what came."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class LapcoreError(Exception):
    """The base of every error of lapcore's own."""


class DataError(LapcoreError, ValueError):
    """A file or folder of images that cannot be read as asked."""


class CheckpointError(LapcoreError, ValueError):
    """A saved model or training state that is missing, damaged, or of another kind."""


class BackendError(LapcoreError, RuntimeError):
    """No backend, or not the one asked for by name, can run a call."""


class MissingDependencyError(LapcoreError, ImportError):
    """An optional library is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Imports an optional `module`, or says which extra of lapcore brings it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingDependencyError(
            f'{module} is not installed; get it with: pip install "lapcore[{extra}]"', name=error.name
        ) from error
