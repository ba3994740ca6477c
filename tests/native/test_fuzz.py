"""20,000 random calls of each part of the native module under AddressSanitizer and UndefinedBehaviorSanitizer, without a report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.building import build, run

CALLS = int(os.environ.get("LAPCORE_FUZZ_CALLS", "20000"))
SEED = int(os.environ.get("LAPCORE_FUZZ_SEED", "1"))
SANITIZERS = "address,undefined"
families = pytest.mark.parametrize("family", ["pyramid", "distributions", "masked_conv"])


def fuzz(family: str, module: Path, seed: int, calls: int, **environment: str) -> subprocess.CompletedProcess[str]:
    command = sys.executable, "-m", f"tests.native.fuzz_{family}", str(module), str(seed), str(calls)
    return run(*command, OMP_NUM_THREADS="1", **environment)


@pytest.fixture(scope="module")
def runtime() -> str:
    """The sanitizer's library, which must be loaded before Python's own."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    path = run(compiler, "-print-file-name=libasan.so").stdout.strip()
    if not Path(path).is_absolute():
        pytest.skip("needs gcc's AddressSanitizer (libasan)")
    return path


@pytest.fixture(scope="module")
def module(runtime: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lapcore._C with the sanitizers in it."""
    folder = tmp_path_factory.mktemp("sanitized")
    target = folder / "out" / "_C.so"
    build(folder, target, "-DCMAKE_BUILD_TYPE=None", f"-DLAPCORE_SANITIZE={SANITIZERS}")
    return target


@pytest.mark.slow
@families
def test_random_calls_under_the_sanitizers(module: Path, runtime: str, family: str) -> None:
    done = fuzz(
        family, module, SEED, CALLS,
        LD_PRELOAD=runtime,
        ASAN_OPTIONS="detect_leaks=0:abort_on_error=0",
        UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
    )  # fmt: skip
    assert done.returncode == 0 and "ERROR" not in done.stdout and "runtime error" not in done.stdout, done.stdout[
        -8000:
    ]


@families
def test_random_calls_of_the_installed_module(family: str) -> None:
    """Other calls of the same kinds, without a sanitizer: every eighth result is compared with the oracle."""
    from lapcore import native

    if (reason := native.missing()) is not None:
        pytest.skip(reason)
    done = fuzz(family, Path(native.load().__file__), SEED + 1, CALLS // (10 if family == "pyramid" else 20))
    assert done.returncode == 0, done.stdout[-8000:]
