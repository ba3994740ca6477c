"""lapcore._C built aside, other than it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a folder, without this process's LAPCORE_ variables."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("LAPCORE_")} | environment
    return subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )


def build(folder: Path, target: Path, *options: str) -> None:
    """Builds the module in a folder, with CMake's options, to a file."""
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed (test extra)")
    if cmake is None:
        pytest.skip("needs cmake (test extra)")
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    configured = run(
        cmake, "-S", str(ROOT), "-B", str(folder),
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DLAPCORE_MODULE={target}",
        "-DCMAKE_CXX_COMPILER=g++",
        *options,
    )  # fmt: skip
    assert configured.returncode == 0, configured.stdout
    built = run(cmake, "--build", str(folder), "--parallel", str(os.cpu_count() or 1))
    assert built.returncode == 0, built.stdout
