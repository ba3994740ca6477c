"""Every CUDA kernel compiles for every architecture, and the compiler's report shows no spills and no local memory."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cuda.harness import KERNELS, ROOT

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda path: path.stem)
def test_compiles_for_every_architecture_without_local_memory(kernel: Path, tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc")
    options = ["-std=c++17", "-O3", "-fmad=false", "-Xptxas", "-v", "--threads", "0", "-Werror", "all-warnings"]
    targets = [f"-gencode=arch={name.replace('sm', 'compute')},code={name}" for name in ARCHITECTURES]
    command = ["nvcc", *options, f"-I{ROOT / 'csrc'}", *targets, "-c", str(kernel), "-o", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True)
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    compiled = re.findall(r"Compiling entry function '\w+' for '(\w+)'", report)
    assert len(compiled) >= 3 and len(compiled) % 3 == 0 and sorted(set(compiled)) == sorted(ARCHITECTURES), report
    memory = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert memory == len(compiled) * [("0", "0", "0")], report
