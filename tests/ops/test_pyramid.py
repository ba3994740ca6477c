"""The pyramid ops with the default filter, on every backend, against the float64 oracle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.layouts import LAYOUTS, SHAPES
from tests.ops.pyramid_checks import HALVES, Tensor, borders, check_values, draw, dtypes, sizes
from tests.oracle import pyramid as oracle
from tests.oracle.pyramid import BORDERS
from tests.tolerance import ROUND_TRIP, assert_close, assert_same_bits, bound, to_numpy

PROBE = ("laplacian_pyramid", (1, 1, 4, 4))


# The oracle ----------------------------------------------------------------------------------------------------------------------


def test_oracle_edges_are_those_of_the_specification() -> None:
    for n in range(1, 9):
        full = oracle.up_matrix(n, 2 * n, "reflect") * 8
        assert (oracle.up_matrix(n, 2 * n - 1, "reflect") * 8 == full[:-1]).all()
        want = np.zeros((2 * n, n))
        if n == 1:
            want[:] = 8
        else:
            for i in range(n):
                want[2 * i, i] += 6
                for j in (i - 1, i + 1):
                    if 0 <= j < n:
                        want[2 * i, j] += 1
                want[2 * i + 1, i] += 4
                want[2 * i + 1, min(i + 1, n - 1)] += 4
            want[0, 1] += 1
            want[2 * n - 2, n - 1] += 1
        assert (full == want).all()
    for border in set(BORDERS) - {"constant"}:
        for n in range(1, 9):
            assert (oracle.down_matrix(n, border).sum(1) == 1).all()
            assert (oracle.up_matrix(n, 2 * n, border).sum(1) == 1).all()


@borders
def test_oracle_adjoints_are_adjoint(border: str) -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (1, 2), (2, 3), (5, 8), (13, 2)):
        x = rng.normal(size=(2, *size))
        for forward, adjoint in (
            (oracle.gaussian_pyramid, oracle.gaussian_pyramid_adjoint),
            (oracle.laplacian_pyramid, oracle.laplacian_pyramid_adjoint),
        ):
            pyramid = forward(x, 3, border)
            grads = [rng.normal(size=level.shape) for level in pyramid]
            inner = sum((a * b).sum() for a, b in zip(pyramid, grads, strict=True))
            assert inner == pytest.approx((x * adjoint(grads, border)).sum(), rel=1e-12)
        np.testing.assert_allclose(oracle.collapse(oracle.laplacian_pyramid(x, 3, border), border), x, atol=1e-14)
        grad = rng.normal(size=x.shape)
        inner = (oracle.collapse(grads, border) * grad).sum()
        pairs = zip(grads, oracle.collapse_adjoint(grad, 3, border), strict=True)
        assert inner == pytest.approx(sum((a * b).sum() for a, b in pairs), rel=1e-12)


# Values --------------------------------------------------------------------------------------------------------------------------


@borders
def test_every_size_equals_the_oracle(backend: str, slow_backend: bool, device: str, border: str) -> None:
    for h, w in sizes(slow_backend, (*range(1, 10), 15, 16, 17, 31, 32, 33, 40)):
        check_values(draw((2, h, w) if h % 2 else (h, w), h * 41 + w, device=device), border, levels=2)


@pytest.mark.heavy
@borders
def test_large_images_equal_the_oracle(backend: str, device: str, border: str) -> None:
    """Wide enough for every vector width, tile and thread."""
    large = [(9, 70), (40, 17), (67, 43), (3, 1031), (130, 257)]
    if backend != "reference":
        large += [(517, 6), (256, 512)]
    for h, w in large:
        check_values(draw((1, h, w), h, device=device), border, levels=4)


@dtypes
@borders
def test_every_dtype_equals_the_oracle(
    backend: str, slow_backend: bool, device: str, dtype: torch.dtype, border: str
) -> None:
    for size in [(5, 6)] if slow_backend else [(1, 1), (1, 7), (8, 1), (5, 4), (67, 43), (64, 64)]:
        check_values(draw((2, *size), 3, dtype, device), border, levels=2)


@pytest.mark.parametrize("dtype", HALVES, ids=["float16", "bfloat16"])
def test_halves_accumulate_in_float32_and_round_once(backend: str, device: str, dtype: torch.dtype) -> None:
    """Correctly rounded but where the float32 sum lies next to a tie; sums kept in 16 bits would be off on most pixels."""
    x = draw((1, 24, 31), 1, dtype, device)
    for got, exact in (
        (lapcore.pyr_down(x), oracle.pyr_down(to_numpy(x))),
        (lapcore.pyr_up(x), oracle.pyr_up(to_numpy(x))),
    ):
        rounded = torch.from_numpy(exact).to(dtype)
        wrong = (got.cpu() != rounded).double().mean()
        assert float(wrong) < 0.01


@pytest.mark.heavy
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_equals_the_oracle(backend: str, device: str, layout: Callable[[Tensor], Tensor]) -> None:
    for shape in SHAPES:
        for border in ("reflect", "constant"):
            x = layout(draw(shape, 5, device=device))
            check_values(x, border, levels=2)
            bands = lapcore.laplacian_pyramid(x, 2, border=border)
            plain = lapcore.collapse([b.contiguous() for b in bands], border=border)
            assert_same_bits(lapcore.collapse([layout_keeping_values(layout, b) for b in bands], border=border), plain)


def layout_keeping_values(layout: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Stride-0 layouts change the numbers; leave such tensors alone."""
    return x if layout.__name__.startswith("expanded") else layout(x)


def test_layout_does_not_change_a_bit(backend: str, device: str) -> None:
    x = draw((2, 3, 9, 11), 5, device=device)
    plain = lapcore.laplacian_pyramid(x, 2)
    for layout in LAYOUTS.values():
        for got, want in zip(lapcore.laplacian_pyramid(layout_keeping_values(layout, x), 2), plain, strict=True):
            assert_same_bits(got, want, layout.__name__)


def test_random_images_equal_the_oracle(backend: str, slow_backend: bool, device: str) -> None:
    images = strategies.images(max_side=4, max_lead=1) if slow_backend else strategies.images(max_side=40)

    @settings(max_examples=6 if slow_backend else 80)
    @given(x=images, border=strategies.borders, levels=st.integers(0, 2 if slow_backend else 5))
    def check(x: Tensor, border: str, levels: int) -> None:
        check_values(x.to(device), border, levels)

    check()


@borders
def test_round_trip_for_every_size(backend: str, slow_backend: bool, device: str, border: str) -> None:
    worst = {}
    for h, w in sizes(slow_backend, range(1, 41) if backend == "cpu" else (1, 2, 3, 5, 8, 17, 33, 40)):
        x = draw((h, w), h * 41 + w, device=device)
        back = lapcore.collapse(lapcore.laplacian_pyramid(x, 3, border=border), border=border)
        assert back.shape == x.shape
        worst[h, w] = float((back - x).abs().max() / x.abs().max())
    size = max(worst, key=worst.__getitem__)
    assert worst[size] < ROUND_TRIP, f"{size}: {worst[size]:.3g}"


@borders
def test_zero_levels(backend: str, device: str, border: str) -> None:
    x = draw((2, 5, 4), device=device)
    (only,) = lapcore.laplacian_pyramid(x, 0, border=border)
    assert_same_bits(only, x)
    (first,) = lapcore.gaussian_pyramid(x, 0, border=border)
    assert first is x
    assert_same_bits(lapcore.collapse((x,), border=border), x)
    leaf = x.clone().requires_grad_()
    lapcore.collapse(lapcore.laplacian_pyramid(leaf, 0, border=border), border=border).sum().backward()
    assert_same_bits(leaf.grad, torch.ones_like(x))


def test_the_first_gaussian_level_is_the_image_itself(backend: str, device: str) -> None:
    x = draw((2, 5, 4), device=device)
    assert lapcore.gaussian_pyramid(x, 2)[0] is x


def test_outputs_are_new_memory(backend: str, device: str) -> None:
    """Nothing an op returns, but gaussian_pyramid's first level, may share memory with its input or change it."""
    x = draw((1, 1, 4), device=device).expand(2, 1, 4).contiguous()
    before = x.clone()
    outputs = [lapcore.pyr_down(x), lapcore.pyr_up(x), *lapcore.gaussian_pyramid(x, 2)[1:]]
    outputs += [*lapcore.laplacian_pyramid(x, 2), lapcore.collapse(lapcore.laplacian_pyramid(x, 2))]
    for out in outputs:
        out.fill_(7.0)
    assert_same_bits(x, before)


def test_more_levels_than_the_image_has(backend: str, device: str) -> None:
    x = draw((3, 2), device=device)
    pyramid = lapcore.laplacian_pyramid(x, 6)
    assert [tuple(band.shape) for band in pyramid] == oracle.sizes((3, 2), 6)
    for got, want in zip(pyramid, oracle.laplacian_pyramid(to_numpy(x), 6), strict=True):
        assert_close(got, want, bound("laplacian_pyramid", torch.float32, 8.0, 6))
    assert_close(lapcore.collapse(pyramid), to_numpy(x), 1e-6 * float(x.abs().max()))


def test_default_size_is_twice_the_source(backend: str, device: str) -> None:
    x = draw((2, 3, 4), device=device)
    assert_same_bits(lapcore.pyr_up(x), lapcore.pyr_up(x, (6, 8)))
    assert_same_bits(lapcore.pyr_up(x, size=[6, 8]), lapcore.pyr_up(x, torch.Size((6, 8))))


def test_defaults_are_binomial_and_reflect(backend: str, device: str) -> None:
    x, named = draw((3, 5, 6), device=device), {"filter": "binomial", "border": "reflect"}
    assert_same_bits(lapcore.pyr_down(x), lapcore.pyr_down(x, **named))
    assert_same_bits(lapcore.pyr_up(x), lapcore.pyr_up(x, **named))
    for plain, explicit in (
        (lapcore.gaussian_pyramid(x, 2), lapcore.gaussian_pyramid(x, 2, **named)),
        (lapcore.laplacian_pyramid(x, 2), lapcore.laplacian_pyramid(x, 2, **named)),
    ):
        for a, b in zip(plain, explicit, strict=True):
            assert_same_bits(a, b)
    assert_same_bits(lapcore.collapse(plain), lapcore.collapse(list(plain), **named))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 5, 4), (0, 4, 4), (2, 3, 0, 1, 2)])
def test_empty_batches(backend: str, device: str, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape, device=device, requires_grad=True)
    *lead, h, w = shape
    pyramid = lapcore.laplacian_pyramid(x, 2)
    assert [tuple(band.shape) for band in pyramid] == [(*lead, *size) for size in oracle.sizes((h, w), 2)]
    assert [tuple(g.shape) for g in lapcore.gaussian_pyramid(x, 2)] == [tuple(band.shape) for band in pyramid]
    assert tuple(lapcore.pyr_up(x).shape) == (*lead, 2 * h, 2 * w)
    image = lapcore.collapse(pyramid)
    assert image.shape == shape
    image.sum().backward()
    assert x.grad is not None and x.grad.shape == shape


def test_many_leading_dimensions(backend: str, slow_backend: bool, device: str) -> None:
    shape = (2, 1, 2, 3, 4) if slow_backend else (2, 1, 3, 2, 5, 7)
    x = draw(shape, device=device)
    flat = x.reshape(-1, *shape[-2:])
    for got, want in zip(lapcore.laplacian_pyramid(x, 2), lapcore.laplacian_pyramid(flat, 2), strict=True):
        assert_same_bits(got.reshape(want.shape), want)
