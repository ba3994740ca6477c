"""Triton's pyramid operators, one at a time, against their matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.layouts import LAYOUTS
from tests.oracle import filters, integer
from tests.tolerance import assert_close, to_numpy

pytest.importorskip("triton", reason="triton is not installed")

from lapcore.kernels import _launch, pyramid
from lapcore.reference.taps import tables

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OPERATORS = ["down", "up", "down_adjoint", "up_adjoint"]
HALVES = {"binomial": (3, 4), "half_pixel": (2, 3), "area": (2, 5)}  # of 5 x 7, and what else a filter allows

Size = tuple[int, int]
Operator = tuple[Callable[..., torch.Tensor], np.ndarray, np.ndarray]


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64).to(device=DEVICE, dtype=dtype)


def half(size: Size) -> Size:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def operator(name: str, size: Size, border: str, filter: str = "binomial", low: Size | None = None) -> Operator:
    """The launcher between a fine image of this size and a low one, and its two matrices, one per axis."""
    low = half(size) if low is None else low
    if name.startswith("down"):
        rows, columns = (filters.down_matrix(n, border, m, filter) for n, m in zip(size, low, strict=True))
    else:
        rows, columns = (filters.up_matrix(m, n, border, filter) for n, m in zip(size, low, strict=True))
    if name.endswith("adjoint"):
        rows, columns = rows.T, columns.T
    out = rows.shape[0], columns.shape[0]

    def run(x: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        if filter != "binomial":
            compute = torch.promote_types(x.dtype, torch.float32)
            more["tables"] = tables(name, (x.shape[-2], x.shape[-1]), out, filter, border, x.device, compute)
        return pyramid.apply(name, x, out, filter, border, *rest, **more)

    return run, rows, columns


@pytest.mark.parametrize("border", filters.BORDERS)
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_is_its_matrix(name: str, border: str) -> None:
    for size, alpha in (((1, 2), None), ((3, 1), 1), ((4, 7), -1), ((11, 6), None)):
        run, rows, columns = operator(name, size, border)
        x = draw(2, rows.shape[1], columns.shape[1])
        expected = rows @ to_numpy(x) @ columns.T
        if alpha is None:
            got = run(x)
        else:
            base = draw(2, rows.shape[0], columns.shape[0])
            got, expected = run(x, base, alpha), to_numpy(base) + alpha * expected
        assert got.is_contiguous()
        assert_close(got, expected, 1e-14, f"{name} {size} {border} {alpha}")


@pytest.mark.parametrize("filter", ["half_pixel", "area"])
@pytest.mark.parametrize("name", OPERATORS)
def test_filters_by_tables(name: str, filter: str) -> None:
    border = "symmetric" if filter == "half_pixel" else "reflect"
    run, rows, columns = operator(name, (5, 7), border, filter, HALVES[filter])
    x = draw(2, 3, rows.shape[1], columns.shape[1])
    base = draw(2, 3, rows.shape[0], columns.shape[0])
    expected = rows @ to_numpy(x) @ columns.T
    assert_close(run(x), expected, 1e-14)
    assert_close(run(x, base, -1), to_numpy(base) - expected, 1e-14)
    low = run(x.to(torch.bfloat16))
    assert low.dtype is torch.bfloat16
    exact = rows @ to_numpy(x.to(torch.bfloat16)) @ columns.T
    assert_close(low, exact, 2.0**-8 * np.abs(exact) + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_rounds_once(name: str, dtype: torch.dtype) -> None:
    """Within half a unit in the last place of the result, plus what float32 sums may lose."""
    for border in ("reflect", "circular"):
        run, rows, columns = operator(name, (5, 8), border)
        x = draw(3, rows.shape[1], columns.shape[1], dtype=dtype)
        got = run(x)
        assert got.dtype is dtype
        expected = rows @ to_numpy(x) @ columns.T
        lost = 25 * 2.0**-24 * (np.abs(rows) @ np.abs(to_numpy(x)) @ np.abs(columns).T)
        half_ulp = torch.finfo(dtype).eps / 2 * (np.abs(expected) + lost)
        assert_close(got, expected, half_ulp + lost, f"{name} {dtype} {border}")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16], ids=str)
@pytest.mark.parametrize("border", ["reflect", "constant", "circular"])
def test_integers_are_exact(dtype: torch.dtype, border: str) -> None:
    limits = torch.iinfo(dtype)
    x = torch.randint(limits.min, limits.max + 1, (2, 5, 8), dtype=torch.int32).to(device=DEVICE, dtype=dtype)
    x[0, :2] = limits.max
    exact, kind = to_numpy(x).astype(np.int64), str(dtype).removeprefix("torch.")
    low = pyramid.apply("down", x, (3, 4), "binomial", border)
    assert low.dtype is dtype
    np.testing.assert_array_equal(low.cpu().numpy(), integer.pyr_down(exact, kind, border))
    up = integer.pyr_up(low.cpu().numpy(), kind, (5, 8), border)
    np.testing.assert_array_equal(pyramid.apply("up", low, (5, 8), "binomial", border).cpu().numpy(), up)
    if dtype is not torch.uint16:
        for alpha in (1, -1):
            band = pyramid.apply("up", low, (5, 8), "binomial", border, x, alpha)
            assert band.dtype is torch.int16
            np.testing.assert_array_equal(band.cpu().numpy(), integer.saturate(exact + alpha * up, "int16"))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # lanes whose results are dropped
@pytest.mark.parametrize("border", filters.BORDERS)
@pytest.mark.parametrize("name", OPERATORS)
def test_nan_spreads_no_further_than_its_weight(name: str, border: str) -> None:
    """Nor does an infinity; the second image, beside the first in a strip, knows of neither."""
    run, rows, columns = operator(name, (5, 8), border)
    spoiled = np.zeros((2, rows.shape[1], columns.shape[1]), dtype=bool)
    spoiled[0, 0, 1] = spoiled[0, -1, -1] = True
    for value in (float("nan"), float("inf")):
        x = draw(*spoiled.shape)
        x[torch.from_numpy(spoiled).to(DEVICE)] = value
        np.testing.assert_array_equal(~np.isfinite(to_numpy(run(x))), rows @ spoiled @ columns.T > 0)


@pytest.mark.parametrize("layout", ["channels_last", "strided", "transposed", "odd_unit_strides", "expanded_all"])
@pytest.mark.parametrize("border", ["symmetric", "circular"])
def test_strides_do_not_change_the_bits(layout: str, border: str) -> None:
    x = LAYOUTS[layout](draw(2, 3, 6, 5, dtype=torch.float32))
    same = x.contiguous()
    low = pyramid.apply("down", x, (3, 3), "binomial", border)
    band = pyramid.apply("up", low, (6, 5), "binomial", border, x, -1)
    assert low.is_contiguous() and band.is_contiguous()
    assert torch.equal(low, pyramid.apply("down", same, (3, 3), "binomial", border))
    assert torch.equal(band, pyramid.apply("up", low, (6, 5), "binomial", border, same, -1))


@pytest.mark.parametrize("layout", ["channels_last", "strided", "storage_offset"])
@pytest.mark.parametrize("border", ["reflect", "circular"])
def test_results_go_where_out_says(layout: str, border: str) -> None:
    x = draw(2, 3, 6, 5, dtype=torch.float32)
    out = LAYOUTS[layout](torch.zeros(2, 3, 3, 3, device=DEVICE))
    assert pyramid.apply("down", x, (3, 3), "binomial", border, out=out) is out
    assert torch.equal(out, pyramid.apply("down", x, (3, 3), "binomial", border))


@pytest.mark.parametrize("border", ["reflect", "circular"])
def test_leading_dimensions_that_do_not_merge(border: str) -> None:
    x = draw(2, 3, 2, 2, 4, 5).permute(2, 0, 1, 3, 4, 5)
    down = pyramid.apply("down", x, (2, 3), "binomial", border)
    flat = x.reshape(-1, 4, 5)
    assert torch.equal(down.flatten(0, 3), pyramid.apply("down", flat, (2, 3), "binomial", border))
    out = torch.zeros_like(down).permute(3, 1, 2, 0, 4, 5).contiguous().permute(3, 1, 2, 0, 4, 5)
    assert torch.equal(pyramid.apply("down", x, (2, 3), "binomial", border, out=out), down)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_result_does_not_depend_on_its_batch_or_strip(name: str) -> None:
    """Images cut into strips of columns and of rows, against each one alone and against the oracle."""
    run, rows, columns = operator(name, (19, 245), "reflect")
    x = draw(2, rows.shape[1], columns.shape[1], dtype=torch.float32)
    got = run(x)
    scale = np.abs(rows) @ np.abs(to_numpy(x)) @ np.abs(columns).T
    assert_close(got, rows @ to_numpy(x) @ columns.T, 25 * 2.0**-24 * scale)
    assert torch.equal(got[1], run(x[1]))


def test_images_do_not_depend_on_the_tile_that_holds_them() -> None:
    """Circular images, which cross tiles of rows and of columns."""
    run, rows, columns = operator("up", (9, 266), "circular")
    x = draw(2, rows.shape[1], columns.shape[1], dtype=torch.float32)
    got = run(x)
    assert_close(got, rows @ to_numpy(x) @ columns.T, 25 * 2.0**-24 * 8)
    assert torch.equal(got[1], run(x[1]))


def test_64_bit_indices_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, border in (("down", "reflect"), ("up_adjoint", "circular"), ("up", "constant")):
        run, rows, columns = operator(name, (5, 4), border)
        x = draw(2, rows.shape[1], columns.shape[1])
        narrow = run(x)
        with monkeypatch.context() as patch:
            patch.setattr(_launch, "INT32_LIMIT", 0)
            assert torch.equal(run(x), narrow)


def test_empty_batches() -> None:
    x = draw(2, 0, 5, 4)
    assert pyramid.apply("down", x, (3, 2), "binomial", "reflect").shape == (2, 0, 3, 2)
    assert pyramid.apply("up_adjoint", x, (3, 2), "binomial", "circular", draw(2, 0, 3, 2), -1).shape == (2, 0, 3, 2)
