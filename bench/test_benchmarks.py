"""Every benchmark case under pytest-benchmark: `pytest bench/test_benchmarks.py`, with --benchmark-json to keep the times."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import gaussian, pyramid, random
from bench.harness import Case, Work

CASES = [*pyramid.cases(), *gaussian.cases(), *random.cases()]
WORKS = [(case, who, work) for case in CASES for who, work in {"lapcore": case.ours, **case.peers}.items()]


@pytest.mark.parametrize(("case", "who", "work"), WORKS, ids=[f"{case.name}-{who}" for case, who, _ in WORKS])
def test_benchmark(benchmark: BenchmarkFixture, case: Case, who: str, work: Work) -> None:
    benchmark.group = case.name
    benchmark.extra_info["bytes"] = case.bytes
    benchmark(work)
