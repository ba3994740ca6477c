"""Tests of the native module may choose an instruction set and a number of threads: both are put back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lapcore import native


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    threads, isa = torch.get_num_threads(), None if native.missing() else native.load().isa()
    yield
    torch.set_num_threads(threads)
    if isa is not None:
        native.load().use_isa(isa)
