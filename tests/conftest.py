"""What every test runs under: strict backends, Triton's interpreter where there is no GPU, poisoned memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch

os.environ.setdefault("LAPCORE_STRICT", "1")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported, hence before anything else

import hypothesis
import pytest
from torch.utils._device import _device_constructors

import lapcore

if os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton"):
    from tests import interpreter

    interpreter.hasten()
# torch.device("meta"), under which models are loaded, remembers the allocators it first saw: let those be the real ones.
_device_constructors()
hypothesis.settings.register_profile("lapcore", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.load_profile("lapcore")

BACKENDS = ("reference", "cpu", "triton", "cuda")
REQUIRED = frozenset(filter(None, os.environ.get("LAPCORE_TEST_BACKENDS", "").split(",")))
"""LAPCORE_TEST_BACKENDS=cpu,triton turns "this backend cannot run here" from a skip into a failure."""


def poison(tensor: torch.Tensor) -> torch.Tensor:
    """Overwrite memory nobody has written yet with what must never reach a result."""
    if tensor.is_quantized or tensor.layout is not torch.strided:
        return tensor
    with torch.no_grad():
        if tensor.dtype is torch.bool:
            tensor.fill_(True)
        elif tensor.dtype.is_floating_point or tensor.dtype.is_complex:
            tensor.fill_(float("nan"))
        else:
            tensor.fill_(torch.iinfo(tensor.dtype).max)
    return tensor


def _poisoned(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(allocate)
    def wrapper(*args: object, **kwargs: object) -> torch.Tensor:
        return poison(allocate(*args, **kwargs))

    return wrapper


@pytest.fixture(autouse=True)
def poisoned_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.empty and its kin return NaN and the largest integers; `@pytest.mark.real_memory` opts out."""
    if request.node.get_closest_marker("real_memory"):
        return
    for owner, names in (
        (torch, ("empty", "empty_like", "empty_strided")),
        (torch.Tensor, ("new_empty", "new_empty_strided")),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(20240229)


def require_backend(name: str, op: str, *tensors: torch.Tensor) -> None:
    """Skip, with the engine's own reason, when this backend cannot run this call here."""
    reason = lapcore.explain(op, *tensors).get(name, f"lapcore has no {name} backend for {op}")
    if reason is None:
        return
    if name in REQUIRED:
        pytest.fail(f"LAPCORE_TEST_BACKENDS asks for {name}: {reason}")
    pytest.skip(f"{name}: {reason}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that takes `backend` runs once for each; `@pytest.mark.heavy` spares it Triton's interpreter."""
    if "backend" in metafunc.fixturenames:
        heavy = metafunc.definition.get_closest_marker("heavy") and not torch.cuda.is_available()
        names = [name for name in BACKENDS if not (heavy and name == "triton")]
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a backend under which the test then runs; the test's module says which op to ask about (PROBE)."""
    op, shape = request.module.PROBE
    device = "cuda" if request.param == "cuda" or (request.param == "triton" and torch.cuda.is_available()) else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("cuda: this machine has no CUDA device")
    require_backend(request.param, op, torch.zeros(shape, device=device))
    with lapcore.backend(request.param):
        yield request.param


@pytest.fixture
def device(backend: str) -> str:
    """Where a backend's tensors live."""
    return "cuda" if backend in ("triton", "cuda") and torch.cuda.is_available() else "cpu"


@pytest.fixture
def slow_backend(backend: str, device: str) -> bool:
    """Triton's interpreter runs a program in milliseconds: such tests take small shapes."""
    return backend == "triton" and device == "cpu"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes one runs a whole file, whose tests may share what one made; and one all those of a compiled program.

    Not by xdist's groups: xdist 3.8 writes a test's group where pytest 9.2 no longer reads it, and says nothing.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.split("::", 1)[0]
            return "tests/cuda" if path.startswith("tests/cuda/") else path

    return ByFile(config, log)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_memory: leave torch.empty as it is")
    config.addinivalue_line("markers", "heavy: more than Triton's interpreter, at milliseconds a program, should run")
