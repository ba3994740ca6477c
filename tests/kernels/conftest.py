"""The kernels' own tests check every sum of integers for overflow; those of the operators, on the same kernels, need not again."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def overflow_is_seen() -> Iterator[None]:
    if os.environ.get("TRITON_INTERPRET") != "1":
        yield
        return
    interpreter = pytest.importorskip("tests.interpreter", reason="triton is not installed")
    interpreter.check_overflow(True)
    yield
    interpreter.check_overflow(False)
