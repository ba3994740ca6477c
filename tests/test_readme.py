"""The README's times are those of the committed results."""

from __future__ import annotations

from bench import readme


def test_times_come_from_the_committed_results() -> None:
    assert readme.section() in readme.README.read_text(), "write them again with: python -m bench.readme"
