"""Runs CUDA kernels without a GPU: compiled as host code over tests/cuda/shim, under a sanitizer, on cases handed over in files."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest
import torch

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
KERNELS = sorted((ROOT / "csrc/cuda").glob("*.cu"))
SOURCES = (*KERNELS, ROOT / "csrc/cuda/pyramids.cpp")
SANITIZERS = ("address,undefined", pytest.param("thread", marks=pytest.mark.slow))
"""The second compiles everything again, which takes minutes."""
FUNCTIONS = (
    "apply",
    "apply_table",
    "stream",
    "level",
    "level_adjoint",
    "laplacian_pyramid",
    "collapse",
    "laplacian_pyramid_adjoint",
    "gaussian_pyramid",
    "collapse_adjoint",
    "laplacian_loss",
    "vector_quantize",
    "parzen_log_likelihood",
    "random",
    "mixture_nll",
    "mixture_nll_backward",
    "mixture_sample",
    "gaussian_forward",
    "gaussian_backward",
    "gaussian_nll",
    "gaussian_nll_backward",
    "masked_conv",
    "masked_conv_input",
    "masked_conv_weight",
    "gated_activation",
    "gated_activation_backward",
    "concat_elu",
    "concat_elu_backward",
    "sample_program",
    "categorical",
)
"""In the order of the runner's."""

DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.uint8,
    torch.int16,
    torch.uint16,
)
"""In the order of lapcore::DType."""
BORDERS = ("reflect", "replicate", "circular", "constant", "symmetric")
OPS = ("down", "up", "down_adjoint", "up_adjoint")
REFUSED_STREAM = 13

Item = TypeVar("Item")

_folder = TemporaryDirectory(prefix="lapcore-cuda-")


@dataclass
class Case:
    """A call: numbers and tensors in the order the runner wants them; those in `outputs` come back."""

    function: str
    numbers: Sequence[int]
    tensors: Sequence[torch.Tensor | None]
    outputs: Sequence[int]
    name: str = ""
    expected: Callable[[], Sequence[torch.Tensor]] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        shapes = [None if x is None else (tuple(x.shape), x.stride()) for x in self.tensors]
        return f"{self.function} {self.name} {list(self.numbers)} {shapes}"

    def encode(self) -> bytes:
        head = [FUNCTIONS.index(self.function), len(self.numbers), *self.numbers, len(self.tensors)]
        tensors = (encode(x, i in self.outputs) for i, x in enumerate(self.tensors))
        return struct.pack(f"={len(head)}q", *head) + b"".join(tensors)


def call_numbers(dtype: torch.dtype, border: str, stream: int = 0) -> tuple[int, int, int]:
    return DTYPES.index(dtype), BORDERS.index(border), stream


def memory_of(x: torch.Tensor) -> torch.Tensor:
    """From the first element to the last, with what lies between."""
    last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    return x.as_strided((last + 1,), (1,)) if x.numel() else x.new_empty(0)


def encode(x: torch.Tensor | None, output: bool) -> bytes:
    if x is None:
        return struct.pack("=q", -1)
    data = memory_of(x).contiguous().view(torch.uint8).numpy().tobytes()
    return struct.pack(f"={2 * x.dim() + 3}q", x.dim(), *x.shape, *x.stride(), output, len(data)) + data


def options(sanitizer: str) -> list[str]:
    optimise = "-O1" if sanitizer == "thread" else "-O0"  # what takes least for compiler and program together
    flags = ["-std=c++17", optimise, "-g1", "-pthread", "-ffp-contract=off", "-fno-sanitize-recover=all"]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    include = [f"-I{HERE / 'shim'}", f"-I{ROOT / 'csrc'}"]
    # Checks of every access that AddressSanitizer's make needless, or -O0; they are a quarter of the compiler's time.
    needless = ["-fno-sanitize=null,object-size,vptr"] if "undefined" in sanitizer else []
    return [*flags, *warnings, f"-fsanitize={sanitizer}", *needless, *include]


_compilers: dict[tuple[str, Path], tuple[subprocess.Popen[str], Path]] = {}


def compiler(sanitizer: str, source: Path) -> tuple[subprocess.Popen[str], Path]:
    """The compiler of one file, which may still be running, and its product."""
    if (sanitizer, source) not in _compilers:
        product = Path(_folder.name) / f"{len(_compilers)}.o"
        command = ["g++", *options(sanitizer), "-x", "c++", "-c", str(source), "-o", str(product)]
        _compilers[sanitizer, source] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True), product
    return _compilers[sanitizer, source]


@cache
def program(sanitizer: str, kernels: tuple[Path, ...] = SOURCES) -> Path:
    """The kernels and the runner as a host program."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    compilers = [compiler(sanitizer, source) for source in (*kernels, HERE / "runner.cpp")]
    for process, product in compilers:
        _, errors = process.communicate() if process.returncode is None else ("", "")
        assert process.returncode == 0 and product.is_file(), errors
    linked = Path(_folder.name) / f"program-{len(list(Path(_folder.name).glob('program-*')))}"
    command = ["g++", *options(sanitizer), *(str(product) for _, product in compilers), "-o", str(linked)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return linked


def run(program: Path, cases: Sequence[Case], folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "cases").write_bytes(b"".join(case.encode() for case in cases))
    command = [str(program), str(folder / "cases"), str(folder / "outputs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if (
        "unexpected memory mapping" in done.stderr
    ):  # ThreadSanitizer, where addresses are randomised more than it can bear
        done = subprocess.run(["setarch", "-R", *command], capture_output=True, text=True, timeout=300)
    return done


def outputs(folder: Path, cases: Sequence[Case]) -> Iterator[list[torch.Tensor]]:
    """What each case wrote; that it wrote nothing between the elements of its outputs is asserted."""
    data = torch.frombuffer(bytearray((folder / "outputs").read_bytes()), dtype=torch.uint8)
    for case in cases:
        results = []
        for i in case.outputs:
            given = case.tensors[i]
            assert given is not None
            before = memory_of(given).contiguous()
            size = before.numel() * before.element_size()
            after, data = data[:size].clone().view(given.dtype), data[size:]
            got = after.as_strided(given.shape, given.stride())
            results.append(got.clone())
            got.copy_(before.as_strided(given.shape, given.stride()))
            assert after.view(torch.uint8).equal(before.view(torch.uint8)), f"{case}: wrote beside output {i}"
        yield results
    assert not len(data)


def run_all(sanitizer: str, cases: Sequence[Case], folder: Path) -> list[list[torch.Tensor]]:
    """The results of the cases under one sanitizer, which had nothing to say."""
    done = run(program(sanitizer), cases, folder)
    assert done.returncode == 0 and not done.stderr, done.stderr[-10_000:]
    return list(outputs(folder, cases))


def share(sanitizer: str, items: list[Item]) -> list[Item]:
    """All under AddressSanitizer; of kernels whose threads all do alike, a third under ThreadSanitizer, which is slow."""
    return items[::3] if sanitizer == "thread" else items


def barrier_removed(text: str, which: int) -> str:
    parts = text.split("__syncthreads();")
    assert which < len(parts) - 1
    return "__syncthreads();".join(parts[: which + 1]) + "__syncthreads();".join(parts[which + 1 :])


def without_barrier(kernel: Path, which: int, folder: Path) -> tuple[Path, ...]:
    """The kernels, the `which`-th barrier of one of them taken out."""
    mutilated = folder / kernel.name
    mutilated.write_text(barrier_removed(kernel.read_text(), which))
    return tuple(mutilated if path == kernel else path for path in SOURCES)


def without_barrier_of_header(header: str, which: int, folder: Path) -> tuple[Path, ...]:
    """The kernels, the `which`-th barrier of a header taken out in all that include it: of a template the linker keeps one copy."""
    include = f'#include "{header}"\n'
    text = barrier_removed((ROOT / "csrc" / header).read_text(), which).replace("#pragma once\n", "")
    sources = []
    for path in SOURCES:
        if include in path.read_text():
            (folder / path.name).write_text(path.read_text().replace(include, text))
            path = folder / path.name
        sources.append(path)
    assert tuple(sources) != SOURCES
    return tuple(sources)


def draw(*shape: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    """Normal floats; integers over the whole range."""
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    limits = torch.iinfo(dtype)
    return torch.randint(limits.min, limits.max + 1, shape, generator=generator).to(dtype)


def blank(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """To be written: NaN, or the largest integer."""
    return torch.full(shape, torch.nan if dtype.is_floating_point else torch.iinfo(dtype).max, dtype=dtype)


def level_sizes(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    sizes = [size]
    for _ in range(levels):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes
