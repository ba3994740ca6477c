"""Ours under pytest-benchmark, to be kept and compared: `pytest tests/benchmarks.py --benchmark-autosave`.

Each case is built when its first test asks, and gone when the next one's does. Peers: `lapcore bench --peers`.
"""

from __future__ import annotations

from importlib import import_module

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lapcore.bench import FAMILIES
from lapcore.bench.harness import Case, Peers, wrong_results

CASES = {
    name: build
    for family in FAMILIES
    for name, build in import_module(f"lapcore.bench.{family}").cases(Peers(())).items()
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    built: Case = CASES[request.param]()
    return built


def test_is_right(case: Case) -> None:
    assert not wrong_results(case)


def test_benchmark(benchmark: BenchmarkFixture, case: Case) -> None:
    benchmark.extra_info["bytes"] = case.bytes
    benchmark(next(iter(case.ours.values())))
