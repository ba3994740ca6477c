"""The definitions once more, in float64 NumPy: slow, obvious, and independent of every line of lapcore."""

from __future__ import annotations

from tests.oracle import gaussian, pyramid, random

__all__ = ["gaussian", "pyramid", "random"]
