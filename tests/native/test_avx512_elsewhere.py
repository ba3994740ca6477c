"""The AVX-512 kernels on processors without: compiled for AVX2 over a stand-in for AVX-512's instructions (shim/avx512.h)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from lapcore import native
from tests.native.building import ROOT, build, run

if reason := native.missing():
    pytest.skip(reason, allow_module_level=True)

from lapcore import _C

TESTS = [
    *("gaussian_paths", "likelihood_paths", "masked_conv_paths", "nearest_codes", "parzen_windows"),
    *("pixelcnn_programs", "pyramid_paths"),
]
SHIM = Path(__file__).parent / "shim"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of this project, over such a module."""
    if "avx512" in _C.isas():
        pytest.skip("this processor has AVX-512: the tests beside these run its kernels")
    if "avx2" not in _C.isas():
        pytest.skip("needs a processor with AVX2")
    folder = tmp_path_factory.mktemp("avx512")
    for part in ("lapcore", "kernels", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    build(
        folder / "build",
        folder / "lapcore" / "_C.so",
        "-DCMAKE_BUILD_TYPE=None",
        f"-DLAPCORE_AVX512=-march=x86-64-v3;-O1;-Wno-psabi;-include;{SHIM / 'avx512.h'}",
        f"-DCMAKE_CXX_FLAGS=-include {SHIM / 'every_instruction.h'}",
    )
    done = run(sys.executable, "-c", "from lapcore import _C; print(_C.__file__, *_C.isas())", cwd=folder)
    assert done.stdout.split() == [str(folder / "lapcore" / "_C.so"), "baseline", "avx2", "avx512"], done.stdout
    return folder


@pytest.mark.parametrize("family", ["pyramid", "distributions", "masked_conv"])
def test_random_calls(project: Path, family: str) -> None:
    module = str(project / "lapcore" / "_C.so")
    done = run(sys.executable, "-m", f"tests.native.fuzz_{family}", module, "3", "1000")
    assert done.returncode == 0, done.stdout[-8000:]


@pytest.mark.parametrize("name", TESTS)
def test_what_holds_for_every_instruction_set(project: Path, name: str) -> None:
    """The tests that name this one, and those that name none and compare them all."""
    wanted = "avx512 or not (baseline or avx2)"
    done = run(sys.executable, "-m", "pytest", f"tests/native/test_{name}.py", "-k", wanted, cwd=project)
    assert done.returncode == 0, done.stdout[-8000:]
