"""The CUDA pyramid kernel without a GPU: run as host code under the sanitizers, and compiled for every architecture.

tests/cuda/shim stands in for CUDA, one host thread for each CUDA thread. The cases below run once under AddressSanitizer and UBSan,
which see accesses beside a tensor, and once under ThreadSanitizer, which sees races between the threads of a block.
"""

from __future__ import annotations

import itertools
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lapcore import native
from tests.layouts import LAYOUTS
from tests.oracle import pyramid as oracle
from tests.oracle.pyramid import BORDERS
from tests.tolerance import Cost, assert_close, assert_same_bits, to_numpy

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
KERNEL = ROOT / "csrc/cuda/pyramid.cu"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # in the order of lapcore::DType
BORDER_NUMBERS = {"reflect": 0, "replicate": 1, "circular": 2, "constant": 3, "symmetric": 4}
OPS = ("down", "up", "down_adjoint", "up_adjoint")
SANITIZERS = ("address,undefined", "thread")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
TAPS = Cost(25 + 1)  # at most 5 x 5 taps, and the base

REFUSED_STREAM = 13
SIZES = ((1, 1), (2, 3), (5, 1), (4, 8), (9, 7), (19, 70))
"""Of the finer image: single samples and pairs, all ends and no interior, both, and more than one tile."""


@dataclass
class Case:
    op: str
    border: str
    src: torch.Tensor
    size: tuple[int, int]
    base: torch.Tensor | None = None
    alpha: int = 1
    stream: int = 0

    def __str__(self) -> str:
        based = "" if self.base is None else f", {self.alpha} * it + base {tuple(self.base.stride())}"
        src = f"{self.src.dtype} {tuple(self.src.shape)}, strides {self.src.stride()}"
        return f"{self.op} {self.border} of {src}, to {self.size}{based}"

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.src.shape[:-2], *self.size)

    def encode(self) -> bytes:
        images = [self.src] if self.base is None else [self.src, self.base]
        dtype, border = DTYPES.index(self.src.dtype), BORDER_NUMBERS[self.border]
        head = (OPS.index(self.op), dtype, border, self.stream, *self.size, self.alpha, len(images), self.src.dim())
        return struct.pack("=9q", *head) + b"".join(map(encode, images))


def encode(x: torch.Tensor) -> bytes:
    """Shape, strides, and the memory from the first element to the last."""
    last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    memory = x.as_strided((last + 1,), (1,)) if x.numel() else x.new_empty(0)
    data = memory.contiguous().view(torch.uint8).numpy().tobytes()
    return struct.pack(f"={2 * x.dim() + 1}q", *x.shape, *x.stride(), len(data)) + data


def draw(*shape: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def source_and_target(op: str, fine: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    coarse = ((fine[0] + 1) // 2, (fine[1] + 1) // 2)
    return (fine, coarse) if op in ("down", "up_adjoint") else (coarse, fine)


def make_cases() -> Iterator[Case]:
    """Every operator, border and size; dtypes, layouts, bases and leading dimensions take turns."""
    layouts = itertools.cycle(LAYOUTS.values())
    leads = itertools.cycle([(), (2,), (1, 3), (2, 1, 2)])
    for seed, (op, border, fine) in enumerate(itertools.product(OPS, BORDERS, SIZES)):
        dtype = DTYPES[(seed + seed // len(DTYPES)) % len(DTYPES)]
        lead = next(leads) if max(fine) < 10 else ()
        size, target = source_and_target(op, fine)
        src = next(layouts)(draw(*lead, *size, seed=seed, dtype=dtype))
        base = next(layouts)(draw(*lead, *target, seed=1000 + seed, dtype=dtype)) if seed % 3 else None
        yield Case(op, border, src, target, base, -1 if seed % 2 else 1)

    yield MANY_TILES
    # An empty batch; six leading dimensions that cannot be merged.
    yield Case("down", "reflect", draw(3, 0, 5, 4, seed=2, dtype=torch.float32), (3, 2))
    six = draw(2, 1, 2, 2, 1, 2, 2, 2, 3, 4, seed=3, dtype=torch.float64).permute(6, 1, 3, 5, 2, 4, 0, 7, 8, 9)
    yield Case("down", "circular", six, (2, 2), six[..., :2, :2], -1)

    # NaN, infinities, subnormal and overflowing halves.
    for dtype in DTYPES:
        special = draw(9, 9, seed=4, dtype=dtype)
        special[0, 0], special[4, 4], special[8, 3] = torch.nan, torch.inf, -torch.inf
        special[6, 6:] = torch.finfo(dtype).max
        special[2, 5:] = torch.finfo(dtype).tiny / 2
        yield Case("down", "replicate", special, (5, 5), special[:5, :5], 1)
        yield Case("up", "symmetric", special[:3, 5:], (6, 7))


MANY_TILES = Case("down", "reflect", draw(40, 9, 40, seed=1, dtype=torch.float64), (5, 20))
"""More than there are blocks, so that a block takes a second one."""


def expected(case: Case, src: np.ndarray, base: np.ndarray | None, alpha: int) -> np.ndarray:
    if case.op == "down":
        out = oracle.pyr_down(src, case.border)
    elif case.op == "up":
        out = oracle.pyr_up(src, case.size, case.border)
    elif case.op == "down_adjoint":
        out = oracle.pyr_down_adjoint(src, case.size, case.border)
    else:
        out = oracle.pyr_up_adjoint(src, case.size, case.border)
    return out if base is None else base + alpha * out


CASES = list(make_cases())


def compile_for_the_shim(kernel: Path, sanitizer: str, program: Path) -> subprocess.Popen[str]:
    flags = ["-std=c++17", "-O1", "-g", "-pthread", "-ffp-contract=off", "-fno-sanitize-recover=all"]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    include = [f"-I{HERE / 'shim'}", f"-I{ROOT / 'csrc'}"]
    sources = ["-x", "c++", str(kernel), str(HERE / "run_pyramid.cpp")]
    command = ["g++", *flags, *warnings, f"-fsanitize={sanitizer}", *include, *sources, "-o", str(program)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(compiler: subprocess.Popen[str]) -> None:
    _, errors = compiler.communicate()
    assert compiler.returncode == 0, errors


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The kernel and its runner as host programs, one for each sanitizer."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("cuda")
    paths = {sanitizer: folder / sanitizer.replace(",", "_") for sanitizer in SANITIZERS}
    for compiler in [compile_for_the_shim(KERNEL, sanitizer, path) for sanitizer, path in paths.items()]:
        finish(compiler)
    return paths


def run(program: Path, cases: list[Case], folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "cases").write_bytes(b"".join(case.encode() for case in cases))
    command = [str(program), str(folder / "cases"), str(folder / "outputs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if (
        "unexpected memory mapping" in done.stderr
    ):  # ThreadSanitizer, where addresses are randomised more than it can bear
        done = subprocess.run(["setarch", "-R", *command], capture_output=True, text=True, timeout=300)
    return done


def outputs(folder: Path, cases: list[Case]) -> Iterator[torch.Tensor]:
    data = torch.frombuffer(bytearray((folder / "outputs").read_bytes()), dtype=torch.uint8)
    sizes = [torch.Size(case.shape).numel() * case.src.element_size() for case in cases]
    assert len(data) == sum(sizes)
    for case, part in zip(cases, data.split(sizes), strict=True):
        yield part.clone().view(case.src.dtype).view(case.shape)


@pytest.fixture(scope="module", params=SANITIZERS)
def results(
    request: pytest.FixtureRequest, programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> list[torch.Tensor]:
    """What the kernel made of every case under one sanitizer, which had nothing to say."""
    folder = tmp_path_factory.mktemp("run")
    done = run(programs[request.param], CASES, folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return list(outputs(folder, CASES))


def test_equals_the_oracle(results: list[torch.Tensor]) -> None:
    for case, got in zip(CASES, results, strict=True):
        src, base = to_numpy(case.src), None if case.base is None else to_numpy(case.base)
        if not np.isfinite(src).all():
            continue
        want = expected(case, src, base, case.alpha)
        scale = expected(case, np.abs(src), None if base is None else np.abs(base), 1).max(initial=0.0)
        tolerance = TAPS.error(case.src.dtype, 0) * scale + torch.finfo(case.src.dtype).tiny
        assert_close(got, want, tolerance, str(case))


def test_equals_the_cpu_backend_to_the_bit(results: list[torch.Tensor]) -> None:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore.native import pyramid as cpu

    for case, got in zip(CASES, results, strict=True):
        want = cpu.apply(case.op, case.src, case.size, case.border, case.base, case.alpha)
        assert_same_bits(got, want, str(case))


def test_a_missing_barrier_is_seen(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    *most, last = KERNEL.read_text().split("__syncthreads();")
    kernel = tmp_path / "pyramid.cu"
    kernel.write_text("__syncthreads();".join(most) + last)
    finish(compile_for_the_shim(kernel, "thread", tmp_path / "program"))
    done = run(tmp_path / "program", [MANY_TILES], tmp_path)
    assert done.returncode != 0 and "data race" in done.stderr


def test_a_refused_launch_is_an_error(programs: dict[str, Path], tmp_path: Path) -> None:
    case = Case("down", "reflect", draw(4, 4, seed=0, dtype=torch.float32), (2, 2), stream=REFUSED_STREAM)
    done = run(programs[SANITIZERS[0]], [case], tmp_path)
    assert done.returncode == 2 and done.stderr == "CUDA: invalid configuration argument\n"


def test_more_leading_dimensions_than_the_kernel_counts_are_refused(programs: dict[str, Path], tmp_path: Path) -> None:
    src = draw(2, 2, 2, 2, 2, 2, 2, 1, 1, seed=0, dtype=torch.float32).permute(6, 5, 4, 3, 2, 1, 0, 7, 8)
    done = run(programs[SANITIZERS[0]], [Case("down", "reflect", src, (1, 1))], tmp_path)
    assert done.returncode == 2 and "more than 6 leading dimensions" in done.stderr


@pytest.mark.parametrize("leading", [(), (2, 3), (2, 1, 2, 1, 2, 1, 2)], ids=str)
def test_python_hands_over_what_the_kernel_expects(leading: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher of the cuda backend, with the cpu backend's kernel behind it."""
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore import _C
    from lapcore.native import pyramid as cpu
    from lapcore.native.cuda import pyramid as cuda

    def kernel(op: int, dtype: int, border: int, stream: int, src: Any, *rest: Any) -> None:
        assert stream == 7 and len(src[1]) - 2 <= cuda.MAX_LEADING
        _C.pyramid_apply(op, dtype, border, 1, src, *rest)

    monkeypatch.setattr(cuda, "_C", SimpleNamespace(cuda_pyramid_apply=kernel))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    x = draw(*leading, 5, 6, seed=5, dtype=torch.float32).mT
    for base in (None, draw(*leading, 5, 3, seed=6, dtype=torch.float32).mT.contiguous().mT[..., :3, :]):
        got = cuda.apply("down", x, (3, 3), "circular", base, -1)
        assert_same_bits(got, cpu.apply("down", x, (3, 3), "circular", base, -1))


def test_compiles_for_every_architecture_without_local_memory(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc")
    command = [
        "nvcc",
        "-std=c++17",
        "-O3",
        "-fmad=false",
        "-Xptxas",
        "-v",
        "--threads",
        "0",
        f"-I{ROOT / 'csrc'}",
        "-c",
    ]
    targets = [f"-gencode=arch={name.replace('sm', 'compute')},code={name}" for name in ARCHITECTURES]
    done = subprocess.run([*command, *targets, str(KERNEL), "-o", str(tmp_path / "o")], capture_output=True, text=True)
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    compiled = re.findall(r"Compiling entry function '\w*pyramid_kernel\w*' for '(\w+)'", report)
    assert sorted(compiled) == sorted(2 * len(DTYPES) * ARCHITECTURES), report
    memory = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert memory == len(compiled) * [("0", "0", "0")], report
