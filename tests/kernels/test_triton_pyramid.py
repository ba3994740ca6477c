"""The Triton pyramid kernels themselves: on values, and on what the compiler makes of them for the GPUs we name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.layouts import LAYOUTS
from tests.oracle import pyramid as oracle
from tests.tolerance import assert_close, bound, to_numpy

pytest.importorskip("triton", reason="triton is not installed")

from lapcore.kernels import pyramid as kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [(1, 2), (3, 1), (2, 4), (4, 7), (5, 6)]
OPERATORS = ["down", "up", "down_adjoint", "up_adjoint"]


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64).to(device=DEVICE, dtype=dtype)


Operator = tuple[Callable[[torch.Tensor], torch.Tensor], np.ndarray, np.ndarray]


def operator(name: str, size: tuple[int, int], border: str) -> Operator:
    """The launcher between a fine image of this size and its half, and its two matrices, one per axis."""
    half = oracle.sizes(size, 1)[1]
    out = size if name in ("up", "down_adjoint") else half
    if name.startswith("down"):
        rows, columns = (oracle.down_matrix(n, border) for n in size)
    else:
        rows, columns = (oracle.up_matrix(n, d, border) for n, d in zip(half, size, strict=True))
    if name.endswith("adjoint"):
        rows, columns = rows.T, columns.T
    return lambda x: kernels.apply(name, x, out, border), rows, columns


@pytest.mark.parametrize("border", oracle.BORDERS)
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_is_its_matrix(name: str, border: str) -> None:
    for size in SIZES:
        run, rows, columns = operator(name, size, border)
        x = draw(2, rows.shape[1], columns.shape[1])
        got = run(x)
        assert got.is_contiguous()
        assert_close(got, rows @ to_numpy(x) @ columns.T, 1e-14, f"{name} {size} {border}")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_rounds_once(name: str, dtype: torch.dtype) -> None:
    """Within half a unit in the last place of the result, plus what float32 sums may lose."""
    run, rows, columns = operator(name, (5, 8), "reflect")
    x = draw(3, rows.shape[1], columns.shape[1], dtype=dtype)
    got = run(x)
    assert got.dtype is dtype
    expected = rows @ to_numpy(x) @ columns.T
    lost = 25 * 2.0**-24 * (rows @ np.abs(to_numpy(x)) @ columns.T)
    half_ulp = torch.finfo(dtype).eps / 2 * (np.abs(expected) + lost)
    assert_close(got, expected, half_ulp + lost, f"{name} {dtype}")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_bands_and_collapse_round_once(dtype: torch.dtype) -> None:
    x = 1 + 0.01 * draw(6, 9, dtype=torch.float64)  # bands much smaller than the image: a rounded pyr_up would show
    x = x.to(dtype)
    coarse = kernels.apply("down", x, (3, 5), "reflect")
    band = kernels.apply("up", coarse, (6, 9), "reflect", x, -1)
    up = oracle.pyr_up(to_numpy(coarse), (6, 9))
    half_ulp = torch.finfo(dtype).eps / 2
    image = kernels.apply("up", coarse, (6, 9), "reflect", band)
    for got, expected in ((band, to_numpy(x) - up), (image, to_numpy(band) + up)):
        assert_close(got, expected, half_ulp * np.abs(expected) + 1e-6)


@pytest.mark.parametrize("border", oracle.BORDERS)
@pytest.mark.parametrize("name", OPERATORS)
def test_nan_spreads_no_further_than_its_weight(name: str, border: str) -> None:
    size = (5, 8)
    run, rows, columns = operator(name, size, border)
    spoiled = np.zeros((rows.shape[1], columns.shape[1]), dtype=bool)
    spoiled[0, 1] = spoiled[-1, -1] = True
    x = draw(*spoiled.shape)
    x[torch.from_numpy(spoiled).to(DEVICE)] = float("nan")
    np.testing.assert_array_equal(np.isnan(to_numpy(run(x))), rows @ spoiled @ columns.T > 0)


@pytest.mark.parametrize("layout", ["channels_last", "strided", "transposed", "odd_unit_strides", "expanded_all"])
def test_strides_do_not_change_the_bits(layout: str) -> None:
    x = LAYOUTS[layout](draw(2, 3, 6, 5, dtype=torch.float32))
    same = x.contiguous()
    low = kernels.apply("down", x, (3, 3), "symmetric")
    band = kernels.apply("up", low, (6, 5), "symmetric", x, -1)
    assert low.is_contiguous() and band.is_contiguous()
    assert torch.equal(low, kernels.apply("down", same, (3, 3), "symmetric"))
    assert torch.equal(band, kernels.apply("up", low, (6, 5), "symmetric", same, -1))
    assert torch.equal(
        kernels.apply("up_adjoint", x, (3, 3), "circular"), kernels.apply("up_adjoint", same, (3, 3), "circular")
    )


@pytest.mark.parametrize("order", [(2, 0, 1, 3, 4, 5), (3, 1, 2, 0, 5, 4), (1, 0, 3, 2, 4, 5)])
def test_leading_dimensions_that_do_not_merge(order: tuple[int, ...]) -> None:
    x = draw(2, 3, 2, 2, 4, 5).permute(order)
    size = oracle.sizes(tuple(x.shape[-2:]), 1)[1]
    down = kernels.apply("down", x, size, "reflect")
    assert down.shape == (*x.shape[:-2], *size)
    flat = x.reshape(-1, *x.shape[-2:])
    assert torch.equal(down.flatten(0, 3), kernels.apply("down", flat, size, "reflect"))


def test_a_result_does_not_depend_on_its_batch_or_tile() -> None:
    """Images that cross tiles of rows and of columns, against each one alone and against the oracle."""
    x = draw(3, 5, 133, dtype=torch.float32)
    batch = kernels.apply("up", x, (9, 266), "reflect")
    scale = float(x.abs().max())
    assert_close(batch, oracle.pyr_up(to_numpy(x), (9, 266)), bound("pyr_up", torch.float32, scale))
    assert torch.equal(batch[1], kernels.apply("up", x[1], (9, 266), "reflect"))
    down = kernels.apply("down", batch, (5, 133), "circular")
    assert_close(down, oracle.pyr_down(to_numpy(batch), "circular"), bound("pyr_down", torch.float32, scale))


def test_64_bit_indices_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPERATORS:
        run, rows, columns = operator(name, (5, 4), "circular")
        x = draw(2, rows.shape[1], columns.shape[1])
        narrow = run(x)
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "INT32_LIMIT", 0)
            assert torch.equal(run(x), narrow)


def test_empty_batches() -> None:
    x = draw(2, 0, 5, 4)
    assert kernels.apply("down", x, (3, 2), "reflect").shape == (2, 0, 3, 2)
    assert kernels.apply("up_adjoint", x, (3, 2), "reflect", draw(2, 0, 3, 2), -1).shape == (2, 0, 3, 2)


# Circular borders have the most taps; float64 with 64-bit indices needs the most registers.
VARIANTS = {
    80: [("fp64", "circular", "int64")],
    90: [("fp64", "circular", "int64"), ("bf16", "reflect", "int32")],
    100: [("fp64", "circular", "int64")],
}
COMPILE = """
import json, re, subprocess, sys, tempfile
from pathlib import Path
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lapcore.kernels import pyramid

def compiled(architecture, element, up, adjoint, border, index):
    kernel = pyramid.pyramid_kernel
    wide = element == "fp64"
    constants = dict(
        size1=1, size2=1, x_stride_w=1, base_stride_w=1, UP=up, ADJOINT=adjoint, BORDER=border, SUBTRACT=True,
        ACCUMULATE=tl.float64 if wide else tl.float32, INDEX=getattr(tl, index),
        BLOCK_R=pyramid.TILE_BYTES // (8 if wide else 4) // pyramid.MAX_TILE_WIDTH, BLOCK_W=pyramid.MAX_TILE_WIDTH,
    )
    pointers = dict.fromkeys(("out_ptr", "x_ptr", "base_ptr"), "*" + element)
    signature = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in kernel.arg_names}
    options = dict(num_warps=pyramid.NUM_WARPS, num_stages=1, enable_fp_fusion=True)
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options).asm["cubin"]

def resources(cubin):
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [tool, "--dump-resource-usage", file.name]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\\d+)", report)}

architecture, variants = json.loads(sys.argv[1])
result = {}
for element, border, index in variants:
    for up in (False, True):
        for adjoint in (False, True):
            cubin = compiled(architecture, element, up, adjoint, border, index)
            result[f"{element} {border} up={up} adjoint={adjoint}"] = resources(cubin)
print(json.dumps(result))
"""


@pytest.mark.parametrize("architecture", VARIANTS)
def test_compiles_without_spills(architecture: int, tmp_path: Path) -> None:
    """Registers that spill lie on the stack, so an empty stack and no local memory mean none do."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE, json.dumps([architecture, VARIANTS[architecture]])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report) == 4 * len(VARIANTS[architecture])
    for name, used in report.items():
        assert used["REG"] > 0 and used["STACK"] == 0 and used["LOCAL"] == 0, f"sm_{architecture}, {name}: {used}"
