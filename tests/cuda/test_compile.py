"""No CUDA kernel spills registers or has local memory, by the compilers' report: those that are built, and for every architecture.

Compiling them all takes minutes, which is for the slow tests; the built module is what `make` compiled for one architecture.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from lapcore import native
from tests.cuda.harness import KERNELS, ROOT

BINDINGS = sorted((ROOT / "csrc/cuda").glob("*.cpp"))


def cuobjdump() -> str | None:
    """The one that comes with Triton, or CUDA's own."""
    triton = importlib.util.find_spec("triton")
    folders = [] if triton is None else [str(Path(str(triton.origin)).parent / "backends/nvidia/bin")]
    return shutil.which("cuobjdump", path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))


def test_what_is_built_has_no_local_memory() -> None:
    if not native.has_cuda():
        pytest.skip(native.missing_cuda())
    tool = cuobjdump()
    if tool is None:
        pytest.skip("needs cuobjdump (CUDA or the triton extra)")
    done = subprocess.run([tool, "-res-usage", native.load().__file__], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kernels = [path for path in KERNELS if "__global__" in path.read_text()]
    assert done.stdout.count("Fatbin elf code") % len(kernels) == 0
    used = re.findall(r"Function (\w+):\s+REG:\d+ STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", done.stdout)
    assert len(used) >= len(kernels)
    assert [each for each in used if each[1:] != ("0", "0")] == []


@pytest.mark.parametrize("source", BINDINGS, ids=lambda path: path.stem)
def test_bindings_compile(source: Path) -> None:
    """`make` builds them only where there is a card."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on PATH, beside which CUDA's headers lie")
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed (test extra)")
    python = sysconfig.get_path("include")
    folders = (ROOT / "csrc", Path(nvcc).resolve().parents[1] / "include", python, pybind11.get_include())
    command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *(f"-I{each}" for each in folders)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda path: path.stem)
def test_compiles_without_local_memory(kernel: Path, architecture: str, tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc")
    options = ["-std=c++17", "-O3", "-fmad=false", "-Xptxas", "-v", "-Werror", "all-warnings", f"-arch={architecture}"]
    command = ["nvcc", *options, f"-I{ROOT / 'csrc'}", "-cubin", str(kernel), "-o", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True)
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    compiled = re.findall(r"Compiling entry function '\w+' for '(\w+)'", report)
    assert compiled and set(compiled) == {architecture}, report
    memory = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert memory == len(compiled) * [("0", "0", "0")], report
