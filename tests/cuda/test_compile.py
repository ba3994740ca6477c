"""Every CUDA kernel compiles for every architecture, and the compiler's report shows no spills and no local memory.

`make test` compiles for the H200's; the others, minutes more, are among the slow tests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cuda.harness import KERNELS, ROOT

slow = pytest.mark.slow
ARCHITECTURES = ("sm_90", pytest.param("sm_80", marks=slow), pytest.param("sm_100", marks=slow))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
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
