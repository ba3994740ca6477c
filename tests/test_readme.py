"""The README's times are those of the committed results."""

from __future__ import annotations

import pytest

from bench import readme


@pytest.mark.parametrize("name", readme.TABLES)
def test_times_come_from_the_committed_results(name: str) -> None:
    assert readme.section(name) in readme.README.read_text(), "write them again with: python -m bench.readme"
