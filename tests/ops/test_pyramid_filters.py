"""The filters half_pixel and area against the float64 oracle: values, gradients of every layout, any size, structure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.layouts import LAYOUTS, SHAPES
from tests.ops.pyramid_checks import (
    Tensor,
    check_gradients,
    check_resizes,
    check_values,
    crossed,
    draw,
    draw_like,
    dtypes,
    matrix_taps,
    other_sizes,
    rules,
    sizes,
)
from tests.oracle import filters as matrices
from tests.oracle import pyramid as oracle
from tests.oracle.filters import FILTERS, borders_of
from tests.tolerance import ROUND_TRIP, assert_close, assert_same_bits, bound, largest, resize_bound, to_numpy

PROBE = ("laplacian_pyramid", (1, 1, 4, 4))
OTHERS = FILTERS[1:]
others = pytest.mark.parametrize("filter", OTHERS)


# The oracle ----------------------------------------------------------------------------------------------------------------------


def test_oracle_has_the_taps_of_the_specification() -> None:
    down = matrices.down_matrix(12, filter="half_pixel") * 32
    for x in range(1, 5):
        assert down[x].tolist() == [0] * (2 * x - 2) + [1, 5, 10, 10, 5, 1] + [0] * (8 - 2 * x)
    up = matrices.up_matrix(6, 12, filter="half_pixel") * 64
    edge = [[50, 14, 0, 0, 0, 0], [41, 22, 1, 0, 0, 0], [22, 35, 7, 0, 0, 0]]
    middle = [[7, 35, 21, 1, 0, 0], [1, 21, 35, 7, 0, 0], [0, 7, 35, 21, 1, 0]]
    half = edge + middle
    assert up.tolist() == half + [row[::-1] for row in half[::-1]]
    assert (matrices.down_matrix(8, filter="area") == np.kron(np.eye(4), [0.5, 0.5])).all()
    quarters = [[4, 3, 0], [0, 1, 4]]  # 5 -> 2 would be 2.5 samples each; 7 -> 4 is 1.75
    first = matrices.down_matrix(7, size=4, filter="area")[0] * 7
    assert first[:3].tolist() == quarters[0] and not first[3:].any()


def test_oracle_equals_kornia() -> None:
    kornia = pytest.importorskip("kornia", reason="kornia is not installed")
    rng = np.random.default_rng(0)
    for h, w in product(range(3, 12), repeat=2):  # kornia cannot reflect-pad what is smaller than its kernel's reach
        x = rng.random((1, 2, h, w))
        for border in ("reflect", "replicate", "circular", "constant"):
            down = kornia.geometry.pyrdown(torch.from_numpy(x), border).numpy()
            np.testing.assert_allclose(oracle.pyr_down(x, border, "half_pixel"), down, atol=1e-14)
            up = kornia.geometry.pyrup(torch.from_numpy(x), border).numpy()
            np.testing.assert_allclose(oracle.pyr_up(x, None, border, "half_pixel"), up, atol=1e-14)


def test_oracle_equals_area_and_linear_resizing_elsewhere() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (test extra)")
    rng = np.random.default_rng(0)
    for h, w in [(8, 14), (14, 8), (5, 7), (1, 3), (28, 9)]:
        x = rng.random((h, w))
        for size in [(1, 1), (h, w), ((h + 1) // 2, (w + 1) // 2), (h - h // 3, max(1, w - 1))]:
            want = cv2.resize(x, size[::-1], interpolation=cv2.INTER_AREA)
            np.testing.assert_allclose(oracle.pyr_down(x, "reflect", "area", size), want, atol=2e-7)
        for size in [(h, w), (2 * h, 2 * w), (h + 3, 3 * w)]:
            want = torch.nn.functional.interpolate(
                torch.from_numpy(x)[None, None], size=size, mode="bilinear", align_corners=True
            )
            np.testing.assert_allclose(oracle.pyr_up(x, size, "reflect", "area"), want[0, 0].numpy(), atol=1e-14)


@rules
def test_oracle_adjoints_are_adjoint(filter: str, border: str) -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (1, 2), (2, 3), (5, 8), (13, 2)):
        x = rng.normal(size=(2, *size))
        pyramid = oracle.laplacian_pyramid(x, 3, border, filter)
        grads = [rng.normal(size=level.shape) for level in pyramid]
        inner = sum((a * b).sum() for a, b in zip(pyramid, grads, strict=True))
        back = oracle.laplacian_pyramid_adjoint(grads, border, filter)
        assert inner == pytest.approx((x * back).sum(), rel=1e-11)
        np.testing.assert_allclose(oracle.collapse(pyramid, border, filter), x, atol=1e-14)


# Values --------------------------------------------------------------------------------------------------------------------------


@rules
def test_every_size_equals_the_oracle(backend: str, slow_backend: bool, device: str, filter: str, border: str) -> None:
    for h, w in [(5, 4)] if slow_backend else crossed((1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 31, 40)):
        x = draw((2, h, w) if h % 2 else (h, w), h * 41 + w, device=device)
        check_values(x, border, 2, filter)


@pytest.mark.heavy
@rules
def test_large_images_equal_the_oracle(backend: str, device: str, filter: str, border: str) -> None:
    for h, w in [(67, 43)] if backend == "reference" else [(9, 70), (67, 43), (3, 519), (130, 257)]:
        check_values(draw((1, h, w), h, device=device), border, 4, filter)


@dtypes
@others
def test_every_dtype_equals_the_oracle(
    backend: str, slow_backend: bool, device: str, dtype: torch.dtype, filter: str
) -> None:
    for i, size in enumerate([(5, 6)] if slow_backend else [(1, 1), (1, 7), (8, 1), (5, 4), (67, 43), (64, 64)]):
        border = borders_of(filter)[i % len(borders_of(filter))]
        check_values(draw((2, *size), 3, dtype, device), border, 2, filter)


@pytest.mark.heavy
@others
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_equals_the_oracle(
    backend: str, device: str, filter: str, layout: Callable[[Tensor], Tensor]
) -> None:
    for shape in SHAPES:
        for border in borders_of(filter)[::3]:
            x = layout(draw(shape, 5, device=device))
            check_values(x, border, 2, filter)
            bands = [layout(band) for band in lapcore.laplacian_pyramid(x, 2, filter=filter, border=border)]
            plain = lapcore.collapse([b.contiguous() for b in bands], filter=filter, border=border)
            assert_same_bits(lapcore.collapse(bands, filter=filter, border=border), plain)


def test_random_images_equal_the_oracle(backend: str, slow_backend: bool, device: str) -> None:
    images = strategies.images(max_side=4, max_lead=1) if slow_backend else strategies.images(max_side=40)

    @settings(max_examples=2 if slow_backend else 80)
    @given(x=images, rule=strategies.rules, levels=st.integers(0, 2 if slow_backend else 5))
    def check(x: Tensor, rule: tuple[str, str], levels: int) -> None:
        filter, border = rule
        check_values(x.to(device), border, levels, filter)

    check()


@rules
def test_round_trip_for_every_size(backend: str, slow_backend: bool, device: str, filter: str, border: str) -> None:
    worst = {}
    sides = range(1, 41) if backend == "cpu" else (1, 2, 3, 5, 8, 17, 40)
    for h, w in [(5, 4)] if slow_backend else crossed(sides):
        x = draw((h, w), h * 41 + w, device=device)
        bands = lapcore.laplacian_pyramid(x, 3, filter=filter, border=border)
        assert [band.shape for band in bands] == oracle.sizes((h, w), 3, filter)
        back = lapcore.collapse(bands, filter=filter, border=border)
        assert back.shape == x.shape
        worst[h, w] = float((back - x).abs().max() / x.abs().max())
    size = max(worst, key=worst.__getitem__)
    assert worst[size] < ROUND_TRIP, f"{size}: {worst[size]:.3g}"


def test_ratios_of_the_lapgan(backend: str, slow_backend: bool, device: str) -> None:
    """8 -> 14 -> 28 and 64 -> 96, up and down, and ratios that no table of small sizes would hold."""
    pairs = [(3, 5)] if slow_backend else [(8, 14), (14, 28), (64, 96), (1, 7), (100, 233)]
    for small, large in pairs:
        for filter, border in [("area", "reflect"), ("half_pixel", "reflect"), ("half_pixel", "constant")]:
            x = draw((2, large, large), large, device=device)
            rows = matrices.down_matrix(large, border, small, filter)
            got = lapcore.pyr_down(x, (small, small), filter=filter, border=border)
            want = oracle.pyr_down(to_numpy(x), border, filter, (small, small))
            scale = largest(oracle.pyr_down(np.abs(to_numpy(x)), border, filter, (small, small)))
            tolerance = resize_bound(matrix_taps(iter((rows, rows))), torch.float32, scale)
            assert_close(got, want, tolerance, f"{filter} {border} {large} -> {small}")
            check_resizes(x[:, :small, :small], border, filter)


@rules
def test_constants_stay_constant(backend: str, slow_backend: bool, device: str, filter: str, border: str) -> None:
    for h, w in sizes(slow_backend, (1, 2, 3, 7, 16, 33)):
        x = torch.full((h, w), 0.1, device=device)
        down = lapcore.pyr_down(x, filter=filter, border=border)
        outputs = [down, lapcore.pyr_up(x, filter=filter, border=border)]
        if border == "constant":
            assert abs(float(down[0, 0])) < 0.1 * 0.99, "zeros outside must show at the border"
            continue
        for out in outputs:
            assert_close(out, np.full(tuple(out.shape), x[0, 0].item()), 40 * 2.0**-23 * 0.1)


@pytest.mark.heavy
@rules
def test_a_bad_pixel_spoils_only_what_its_taps_reach(backend: str, device: str, filter: str, border: str) -> None:
    """A neighbour of weight zero is not read."""
    for h, w in [(1, 6), (2, 3), (7, 9), (12, 19)]:
        for spot in [(0, 0), (h - 1, w - 1), (h // 2, w // 2)]:
            x = draw((h, w), 1, device=device)
            x[spot] = float("nan")
            spoiled = np.isnan(to_numpy(x))
            down = lapcore.pyr_down(x, filter=filter, border=border)
            up = lapcore.pyr_up(x, filter=filter, border=border)
            for got, want in (
                (down, oracle.down_reach(spoiled, border, filter)),
                (up, oracle.up_reach(spoiled, None, border, filter)),
            ):
                assert (np.isnan(to_numpy(got)) == want).all(), f"{filter} {border} {h}x{w} from {spot}"


def test_equal_to_kornia_on_even_sizes(backend: str, slow_backend: bool, device: str) -> None:
    kornia = pytest.importorskip("kornia", reason="kornia is not installed")
    for h, w in [(4, 4)] if slow_backend else [(4, 6), (8, 16), (32, 32), (50, 34)]:
        x = torch.rand(2, 3, h, w, device=device)
        down, up = lapcore.pyr_down(x, filter="half_pixel"), lapcore.pyr_up(x, filter="half_pixel")
        assert_close(down, to_numpy(kornia.geometry.pyrdown(x)), 1e-6)
        assert_close(up, to_numpy(kornia.geometry.pyrup(x)), 1e-6)
    x = torch.rand(1, 1, 8, 8, device=device) if slow_backend else torch.rand(1, 3, 64, 32, device=device)
    want = kornia.geometry.build_laplacian_pyramid(x, 3)
    for a, b in zip(lapcore.laplacian_pyramid(x, 2, filter="half_pixel"), want, strict=True):
        assert_close(a, to_numpy(b), 2e-6)


# Gradients -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
@others
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_gradients_equal_the_adjoint_for_every_layout(
    backend: str, device: str, filter: str, layout: Callable[[Tensor], Tensor]
) -> None:
    for i, shape in enumerate(SHAPES):
        border = borders_of(filter)[i % len(borders_of(filter))]
        check_gradients(layout(draw(shape, 5, device=device)), border, 2, LAYOUTS["contiguous"], filter)
        check_gradients(draw(shape, 5, device=device), border, 2, layout, filter)


@rules
def test_gradients_equal_the_adjoint_for_every_size(
    backend: str, slow_backend: bool, device: str, filter: str, border: str
) -> None:
    if slow_backend:
        check_gradients(draw((4, 5), 1, device=device), border, 2, LAYOUTS["contiguous"], filter)
        return
    for h, w in product((1, 2, 3, 4, 9, 24), repeat=2):
        check_gradients(draw((h, w), h, device=device), border, 2, LAYOUTS["contiguous"], filter)
    check_gradients(draw((1, 67, 130), 1, device=device), border, 4, LAYOUTS["contiguous"], filter)


@pytest.mark.heavy
@dtypes
@others
def test_gradients_in_every_dtype(backend: str, device: str, dtype: torch.dtype, filter: str) -> None:
    for size in [(5, 4), (17, 33)]:
        check_gradients(draw((2, *size), 1, dtype, device), "reflect", 2, LAYOUTS["contiguous"], filter)


@rules
def test_gradients_of_any_size(backend: str, slow_backend: bool, device: str, filter: str, border: str) -> None:
    """Of float64, where the adjoint must agree to a few roundings whatever the number of taps."""
    for h, w in [(3, 2)] if slow_backend else [(1, 1), (2, 3), (5, 4), (9, 14)]:
        x = draw((2, h, w), 1, torch.float64, device).requires_grad_()
        for op, adjoint in (("down", oracle.pyr_down_adjoint), ("up", oracle.pyr_up_adjoint)):
            for size in other_sizes(filter, op, h, w):
                out = getattr(lapcore, f"pyr_{op}")(x, size, filter=filter, border=border)
                grad = draw(out.shape, 2, torch.float64, device)
                (got,) = torch.autograd.grad(out, x, grad)
                want = adjoint(to_numpy(grad), (h, w), border, filter)
                assert_close(
                    got, want, 1e-13 * max(1.0, largest(want)), f"pyr_{op} {filter} {border} {h}x{w} to {size}"
                )


@pytest.mark.heavy
@others
def test_gradcheck_and_gradgradcheck(backend: str, device: str, filter: str) -> None:
    x = draw((1, 3, 5), 1, torch.float64, device).requires_grad_()
    bands = [b.detach().requires_grad_() for b in lapcore.laplacian_pyramid(x, 2, filter=filter)]
    for function, inputs in (
        (lambda x: lapcore.pyr_down(x, (2, 4), filter=filter), [x]),
        (lambda x: lapcore.pyr_up(x, (4, 11), filter=filter), [x]),
        (lambda x: lapcore.laplacian_pyramid(x, 2, filter=filter), [x]),
        (lambda x: lapcore.gaussian_pyramid(x, 2, filter=filter), [x]),
        (lambda *bands: lapcore.collapse(bands, filter=filter), bands),
    ):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.heavy
@others
def test_deterministic_algorithms_are_accepted_and_kept(backend: str, device: str, filter: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        grads = []
        for _ in range(2):
            x = draw((4, 3, 65, 50), 1, device=device).requires_grad_()
            bands = lapcore.laplacian_pyramid(x, 2, filter=filter)
            image = lapcore.collapse([band * band for band in bands], filter=filter)
            resized = lapcore.pyr_up(lapcore.pyr_down(x, (40, 41), filter=filter), (66, 70), filter=filter)
            outputs = [*bands, image, resized]
            (grad,) = torch.autograd.grad(outputs, x, draw_like(outputs))
            grads.append(grad)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_bits(grads[1], grads[0])


@pytest.mark.heavy
@others
def test_batch_split_and_layout_do_not_change_a_bit(backend: str, device: str, filter: str) -> None:
    x = draw((5, 3, 45, 38), 1, device=device)
    whole = lapcore.laplacian_pyramid(x, 2, filter=filter)
    interleaved = lapcore.laplacian_pyramid(LAYOUTS["channels_last"](x), 2, filter=filter)
    for i in range(5):
        for got, want in zip(lapcore.laplacian_pyramid(x[i], 2, filter=filter), whole, strict=True):
            assert_same_bits(got, want[i])
    for got, want in zip(interleaved, whole, strict=True):
        assert_same_bits(got, want)


def test_half_pixel_bound_is_tight_enough_to_tell_filters_apart() -> None:
    x = draw((16, 16), 1)
    values = {f: oracle.pyr_down(to_numpy(x), filter=f) for f in FILTERS}
    tolerance = max(bound("pyr_down", torch.float32, 4.0, filter=f) for f in FILTERS)
    for a, b in ((a, b) for a in FILTERS for b in FILTERS if a < b):
        assert np.abs(values[a] - values[b]).max() > 1000 * tolerance
