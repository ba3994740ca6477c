"""The examples in the docstrings of the measures run, and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["distribution", "features", "sliced_wasserstein"])
def test_examples(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(importlib.import_module(f"lapcore.metrics.{name}"), optionflags=flags)
    assert tried >= 3 and failed == 0
