"""Triton's fused pyramids: a level in one launch, and all levels of small images in one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.layouts import LAYOUTS
from tests.oracle import integer
from tests.oracle import pyramid as oracle
from tests.tolerance import assert_close, assert_same_bits, bound, largest, to_numpy

pytest.importorskip("triton", reason="triton is not installed")

from lapcore.kernels import _levels, pyramid

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FUSED = [
    "gaussian_pyramid",
    "laplacian_pyramid",
    "collapse",
    "gaussian_pyramid_adjoint",
    "laplacian_pyramid_adjoint",
    "collapse_adjoint",
]
SMALL, WIDE = (7, 10), (4, 131)

Size = tuple[int, int]


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64).to(device=DEVICE, dtype=dtype)


def inputs_of(name: str, sizes: list[Size], dtype: torch.dtype = torch.float64, images: int = 2) -> list[torch.Tensor]:
    if name in ("gaussian_pyramid", "laplacian_pyramid", "collapse_adjoint"):
        sizes = sizes[:1]
    elif name == "gaussian_pyramid_adjoint":
        sizes = sizes[1:]
    return [draw(images, *size, dtype=dtype) for size in sizes]


def run(
    name: str, inputs: list[torch.Tensor], sizes: list[Size], border: str = "reflect", **more: object
) -> list[torch.Tensor]:
    result = getattr(pyramid, name)(inputs, sizes, "binomial", border, **more)
    assert result is not None
    return result


def expected(name: str, inputs: list[torch.Tensor], sizes: list[Size], border: str) -> list[np.ndarray]:
    levels, arrays = len(sizes) - 1, [to_numpy(x) for x in inputs]
    if name == "gaussian_pyramid":
        return oracle.gaussian_pyramid(arrays[0], levels, border)[1:]
    if name == "laplacian_pyramid":
        return oracle.laplacian_pyramid(arrays[0], levels, border)
    if name == "collapse_adjoint":
        return oracle.collapse_adjoint(arrays[0], levels, border)
    if name == "gaussian_pyramid_adjoint":
        arrays = [np.zeros((len(arrays[0]), *sizes[0])), *arrays]
    return [getattr(oracle, name)(arrays, border)]


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["one launch", "strips"])
@pytest.mark.parametrize("border", ["reflect", "constant"])
@pytest.mark.parametrize("name", FUSED)
def test_fused_is_its_definition(name: str, border: str, size: Size) -> None:
    sizes = oracle.sizes(size, 2 if size == WIDE else 3)
    inputs = inputs_of(name, sizes)
    for level, (got, want) in enumerate(
        zip(run(name, inputs, sizes, border), expected(name, inputs, sizes, border), strict=True)
    ):
        assert_close(got, want, 2e-14, f"{name} {border}, level {level}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FUSED)
def test_one_launch_and_many_give_the_same_bits(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = oracle.sizes((9, 6), 3)
    inputs = inputs_of(name, sizes, dtype)
    together = run(name, inputs, sizes)
    alone = run(name, [x[1:] for x in inputs], sizes)
    monkeypatch.setattr(_levels, "ONE_LAUNCH_SIDE", 0)
    monkeypatch.setattr(_levels, "ONE_LAUNCH_LARGE_SIDE", 0)
    for got, want, single in zip(run(name, inputs, sizes), together, alone, strict=True):
        assert_same_bits(got, want, name)
        assert_same_bits(single, want[1:], name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_rounding(dtype: torch.dtype) -> None:
    """Every g is rounded once, every band once; collapse inverts the pyramid of the rounded levels."""
    sizes = oracle.sizes(SMALL, 2)
    x = draw(3, *SMALL, dtype=dtype)
    bands = run("laplacian_pyramid", [x], sizes)
    scale = [largest(level) for level in oracle.laplacian_pyramid(np.abs(to_numpy(x)), 2, sign=1.0)]
    for level, (got, want) in enumerate(zip(bands, oracle.laplacian_pyramid(to_numpy(x), 2), strict=True)):
        assert got.dtype is dtype
        assert_close(got, want, bound("laplacian_pyramid", dtype, scale[level], 2), f"level {level}")
    image = run("collapse", bands, sizes)[0]
    assert_close(image, oracle.collapse([to_numpy(band) for band in bands]), bound("collapse", dtype, sum(scale), 2))
    assert_close(image, to_numpy(x), 4 * torch.finfo(dtype).eps * sum(scale))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16], ids=str)
@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["one launch", "strips"])
def test_integer_pyramids_are_exact(dtype: torch.dtype, size: Size) -> None:
    sizes = oracle.sizes(size, 2)
    limits = torch.iinfo(dtype)
    x = torch.randint(limits.min, limits.max + 1, (2, *size), dtype=torch.int32).to(device=DEVICE, dtype=dtype)
    bands = run("laplacian_pyramid", [x], sizes)
    exact = integer.laplacian_pyramid(x.cpu().numpy(), 2, str(dtype).removeprefix("torch."))
    for got, want in zip(bands, exact, strict=True):
        assert got.dtype is torch.int16
        np.testing.assert_array_equal(got.cpu().numpy(), want)
    image = run("collapse", bands, sizes)[0]
    np.testing.assert_array_equal(image.cpu().numpy(), integer.collapse(exact))
    if dtype is torch.uint8:
        assert torch.equal(image, x.to(torch.int16))


@pytest.mark.parametrize("name", FUSED)
def test_out_and_work_are_filled(name: str) -> None:
    """Of any strides; the bits are those of contiguous ones."""
    sizes = oracle.sizes(SMALL, 2)
    inputs = [x.unflatten(0, (1, 2)) for x in inputs_of(name, sizes, torch.float32)]
    want = run(name, inputs, sizes)
    strange = [LAYOUTS["channels_last"](x) for x in inputs]
    out = [LAYOUTS["strided"](torch.zeros_like(x)) for x in want]
    work = [LAYOUTS["transposed"](torch.zeros(1, 2, *size, device=DEVICE)) for size in sizes[1:-1]]
    got = run(name, strange, sizes, out=out, work=work)
    for here, there, result in zip(got, out, want, strict=True):
        assert here is there
        assert_same_bits(here, result, name)
    if name == "laplacian_pyramid":
        assert_same_bits(work[0], run("gaussian_pyramid", inputs, sizes)[0])


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # lanes whose results are dropped
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", FUSED)
def test_a_spoiled_image_spoils_no_other(name: str, value: float) -> None:
    sizes = oracle.sizes((8, 5), 2)
    inputs = inputs_of(name, sizes, torch.float32, images=3)
    clean = run(name, inputs, sizes)
    spoiled = [x.clone() for x in inputs]
    for x in spoiled:
        x[1] = value
    for got, want in zip(run(name, spoiled, sizes), clean, strict=True):
        assert not got[1].isfinite().any()
        assert_same_bits(got[::2], want[::2])


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_nan_reaches_what_reads_it() -> None:
    x = draw(1, *WIDE)
    x[0, 2, 120] = float("nan")
    for got, want in zip(
        run("laplacian_pyramid", [x], oracle.sizes(WIDE, 2)),
        oracle.laplacian_reach(to_numpy(x.isnan()), 2),
        strict=True,
    ):
        np.testing.assert_array_equal(to_numpy(got.isnan()), want)


def test_what_is_not_fused_is_left_to_a_composition() -> None:
    sizes = oracle.sizes(SMALL, 2)
    for name in FUSED:
        for filter, border in (("binomial", "circular"), ("area", "reflect"), ("half_pixel", "reflect")):
            assert getattr(pyramid, name)(inputs_of(name, sizes), sizes, filter, border) is None


def test_empty_batches() -> None:
    sizes = oracle.sizes(SMALL, 2)
    assert [band.shape for band in run("laplacian_pyramid", [draw(0, *SMALL)], sizes)] == [(0, *size) for size in sizes]
