"""The pyramid ops on every backend against the float64 oracle: values, structure, gradients, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.layouts import LAYOUTS, SHAPES
from tests.oracle import pyramid as oracle
from tests.oracle.pyramid import BORDERS
from tests.tolerance import OPENCV, ROUND_TRIP, assert_close, assert_same_bits, bound, largest, to_numpy

PROBE = ("laplacian_pyramid", (1, 1, 4, 4))

Tensor = torch.Tensor
FLOATS = strategies.DTYPES
HALVES = (torch.float16, torch.bfloat16)

borders = pytest.mark.parametrize("border", BORDERS)
dtypes = pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: str(dtype).removeprefix("torch."))
SMALL = ((1, 1), (1, 3), (5, 4))  # all that Triton's interpreter is asked to run


def draw(shape: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype).to(device)


def draw_like(tensors: Sequence[Tensor], seed: int = 100) -> list[Tensor]:
    return [draw(t.shape, seed + i, t.dtype, str(t.device)) for i, t in enumerate(tensors)]


def arrays(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    return [to_numpy(t) for t in tensors]


def sizes(slow: bool, sides: Sequence[int]) -> list[tuple[int, int]]:
    """Every height with every width, or the few for a slow backend."""
    return list(SMALL) if slow else list(product(sides, repeat=2))


def up_sizes(h: int, w: int) -> Iterator[tuple[int, int]]:
    for height in (2 * h - 1, 2 * h):
        for width in (2 * w - 1, 2 * w):
            yield height, width


# One checker for values and one for gradients, which the tests below call on what they vary --------------------------------------


def check_values(x: Tensor, border: str, levels: int) -> None:
    """All five ops on x."""
    values, dtype = to_numpy(x), x.dtype
    absolute = np.abs(values)
    where = f"{tuple(x.shape)} {dtype} {border}"

    down = lapcore.pyr_down(x, border=border)
    assert down.dtype == dtype and down.device == x.device
    scale = largest(oracle.pyr_down(absolute, border))
    assert_close(down, oracle.pyr_down(values, border), bound("pyr_down", dtype, scale), f"pyr_down {where}")

    for size in up_sizes(*x.shape[-2:]):
        up = lapcore.pyr_up(x, size, border=border)
        assert up.dtype == dtype and up.device == x.device
        scale = largest(oracle.pyr_up(absolute, size, border))
        assert_close(
            up, oracle.pyr_up(values, size, border), bound("pyr_up", dtype, scale), f"pyr_up {where} to {size}"
        )

    gaussian = lapcore.gaussian_pyramid(x, levels, border=border)
    assert isinstance(gaussian, tuple) and len(gaussian) == levels + 1
    scale = largest(*oracle.gaussian_pyramid(absolute, levels, border))
    tolerance = bound("gaussian_pyramid", dtype, scale, levels)
    for level, (got, want) in enumerate(zip(gaussian, oracle.gaussian_pyramid(values, levels, border), strict=True)):
        assert_close(got, want, tolerance, f"gaussian_pyramid {where} level {level}")

    laplacian = lapcore.laplacian_pyramid(x, levels, border=border)
    assert isinstance(laplacian, tuple) and len(laplacian) == levels + 1
    scale = largest(*oracle.laplacian_pyramid(absolute, levels, border, sign=1.0))
    tolerance = bound("laplacian_pyramid", dtype, scale, levels)
    for level, (got, want) in enumerate(zip(laplacian, oracle.laplacian_pyramid(values, levels, border), strict=True)):
        assert got.dtype == dtype
        assert_close(got, want, tolerance, f"laplacian_pyramid {where} level {level}")

    bands = draw_like(laplacian)
    image = lapcore.collapse(bands, border=border)
    assert image.dtype == dtype and image.shape == x.shape
    scale = largest(oracle.collapse([np.abs(band) for band in arrays(bands)], border))
    want = oracle.collapse(arrays(bands), border)
    assert_close(image, want, bound("collapse", dtype, scale, levels), f"collapse {where}")


def check_gradients(x: Tensor, border: str, levels: int, layout: Callable[[Tensor], Tensor]) -> None:
    """All five backward passes for incoming gradients of this layout; x may have any."""
    dtype, size = x.dtype, tuple(x.shape[-2:])
    where = f"{tuple(x.shape)} {dtype} {border} {layout.__name__}"

    def compare(op: str, got: Tensor, want: np.ndarray, scale: float) -> None:
        assert got.dtype == dtype
        assert_close(got, want, bound(f"{op}_backward", dtype, scale, levels), f"{op} backward {where}")

    def backward(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[list[np.ndarray], tuple[Tensor, ...]]:
        grads = [layout(g) for g in draw_like(outputs, 200)]
        return arrays(grads), torch.autograd.grad(outputs, inputs, grads)

    leaf = x.detach().requires_grad_()
    (g,), (got,) = backward([lapcore.pyr_down(leaf, border=border)], [leaf])
    scale = largest(oracle.pyr_down_adjoint(np.abs(g), size, border))
    compare("pyr_down", got, oracle.pyr_down_adjoint(g, size, border), scale)

    for target in up_sizes(*size):
        (g,), (got,) = backward([lapcore.pyr_up(leaf, target, border=border)], [leaf])
        scale = largest(oracle.pyr_up_adjoint(np.abs(g), size, border))
        compare("pyr_up", got, oracle.pyr_up_adjoint(g, size, border), scale)

    g, (got,) = backward(lapcore.gaussian_pyramid(leaf, levels, border=border), [leaf])
    scale = largest(oracle.gaussian_pyramid_adjoint([np.abs(a) for a in g], border))
    compare("gaussian_pyramid", got, oracle.gaussian_pyramid_adjoint(g, border), scale)

    pyramid = lapcore.laplacian_pyramid(leaf, levels, border=border)
    g, (got,) = backward(pyramid, [leaf])
    scale = largest(oracle.laplacian_pyramid_adjoint([np.abs(a) for a in g], border, sign=1.0))
    compare("laplacian_pyramid", got, oracle.laplacian_pyramid_adjoint(g, border), scale)

    bands = [band.detach().requires_grad_() for band in pyramid]
    (g,), grads = backward([lapcore.collapse(bands, border=border)], bands)
    scale = largest(*oracle.collapse_adjoint(np.abs(g), levels, border))
    for got, want in zip(grads, oracle.collapse_adjoint(g, levels, border), strict=True):
        compare("collapse", got, want, scale)


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


def opencv_borders() -> dict[str, int]:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (test extra)")
    return {
        "reflect": cv2.BORDER_REFLECT_101,
        "symmetric": cv2.BORDER_REFLECT,
        "replicate": cv2.BORDER_REPLICATE,
        "circular": cv2.BORDER_WRAP,
    }


def test_oracle_equals_opencv_in_float64() -> None:
    names = opencv_borders()
    import cv2

    rng = np.random.default_rng(0)
    for h in range(1, 20):
        for w in range(1, 20):
            x = rng.random((h, w))
            for border, code in names.items():
                np.testing.assert_allclose(oracle.pyr_down(x, border), cv2.pyrDown(x, borderType=code), atol=1e-15)
            for height, width in up_sizes(h, w):
                up = cv2.pyrUp(x, dstsize=(width, height))
                np.testing.assert_allclose(oracle.pyr_up(x, (height, width)), up, atol=1e-15)


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
    images = strategies.images(max_side=4, max_lead=1) if slow_backend else strategies.images(max_side=24)

    @settings(max_examples=6 if slow_backend else 80)
    @given(x=images, border=strategies.borders, levels=st.integers(0, 2 if slow_backend else 5))
    def check(x: Tensor, border: str, levels: int) -> None:
        check_values(x.to(device), border, levels)

    check()


@borders
def test_round_trip_for_every_size(backend: str, slow_backend: bool, device: str, border: str) -> None:
    worst = {}
    for h, w in sizes(slow_backend, range(1, 41)):
        x = draw((h, w), h * 41 + w, device=device)
        back = lapcore.collapse(lapcore.laplacian_pyramid(x, 3, border=border), border=border)
        assert back.shape == x.shape
        worst[h, w] = float((back - x).abs().max() / x.abs().max())
    size = max(worst, key=worst.__getitem__)
    assert worst[size] < ROUND_TRIP, f"{size}: {worst[size]:.3g}"


def test_equal_to_opencv(backend: str, slow_backend: bool, device: str) -> None:
    names = opencv_borders()
    import cv2

    rng = np.random.default_rng(1)
    for h, w in sizes(slow_backend, (*range(1, 18), 33, 64, 101)):
        image = rng.random((h, w), dtype=np.float32)
        x = torch.from_numpy(image).to(device)
        for border, code in names.items():
            want = cv2.pyrDown(image, borderType=code)
            assert_close(lapcore.pyr_down(x, border=border), want, OPENCV, f"pyr_down {h}x{w} {border}")
        for height, width in up_sizes(h, w):
            want = cv2.pyrUp(image, dstsize=(width, height))
            assert_close(lapcore.pyr_up(x, (height, width)), want, OPENCV, f"pyr_up {h}x{w} to {height}x{width}")


def test_laplacian_equal_to_opencv(backend: str, slow_backend: bool, device: str) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (test extra)")
    image = np.random.default_rng(2).random((11, 13) if slow_backend else (150, 211), dtype=np.float32)
    want = cv2.detail.createLaplacePyr(
        cv2.UMat(image), 3, None
    )  # given a bare float array, it subtracts only some of the levels
    got = lapcore.laplacian_pyramid(torch.from_numpy(image).to(device), 3)
    for level, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_close(a, b.get(), OPENCV, f"level {level}")


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


# Structure -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("special", [float("nan"), float("inf"), float("-inf")], ids=["nan", "inf", "-inf"])
@borders
def test_a_bad_pixel_spoils_only_what_its_taps_reach(backend: str, device: str, border: str, special: float) -> None:
    for h, w in [(1, 1), (1, 6), (2, 3), (7, 9), (12, 19)]:
        spots = [(0, 0), (h - 1, w - 1), (h // 2, w // 2), (0, w // 3)]
        for spot in spots:
            x = draw((h, w), 1, device=device)
            x[spot] = special
            spoiled = ~np.isfinite(to_numpy(x))

            def compare(got: Tensor, want: np.ndarray, what: str, spot: tuple[int, int] = spot) -> None:
                actual = ~np.isfinite(to_numpy(got))
                assert (actual == want).all(), f"{what} {border} {got.shape} from {spot}:\n{actual}\n{want}"

            compare(lapcore.pyr_down(x, border=border), oracle.down_reach(spoiled, border), "pyr_down")
            compare(lapcore.pyr_up(x, border=border), oracle.up_reach(spoiled, None, border), "pyr_up")
            bands = lapcore.laplacian_pyramid(x, 2, border=border)
            for band, want in zip(bands, oracle.laplacian_reach(spoiled, 2, border), strict=True):
                compare(band, want, "laplacian_pyramid")


def test_infinity_is_not_turned_into_nan(backend: str, device: str) -> None:
    x = draw((6, 7), 1, device=device)
    x[2, 3] = float("inf")
    for out in (lapcore.pyr_down(x), lapcore.pyr_up(x)):
        assert not torch.isnan(out).any()
        assert torch.isinf(out).any()


def test_a_spoiled_image_leaves_the_rest_of_its_batch_alone(backend: str, device: str) -> None:
    x = draw((3, 6, 7), 1, device=device)
    clean = lapcore.laplacian_pyramid(x, 2)
    x[1] = float("nan")
    for got, want in zip(lapcore.laplacian_pyramid(x, 2), clean, strict=True):
        assert torch.isnan(got[1]).all()
        assert_same_bits(got[::2], want[::2])


@pytest.mark.heavy
@borders
@pytest.mark.parametrize("value", [-3.25, 0.1])
def test_constants_stay_constant(backend: str, device: str, border: str, value: float) -> None:
    for h, w in product((1, 2, 3, 4, 7, 16, 33), repeat=2):
        x = torch.full((h, w), value, device=device)
        *bands, coarse = lapcore.laplacian_pyramid(x, 2, border=border)
        outputs = [lapcore.pyr_down(x, border=border), lapcore.pyr_up(x, border=border), coarse]
        if border == "constant":
            assert abs(float(outputs[0][0, 0])) < abs(value) * 0.99, "zeros outside must show at the border"
            continue
        for out in outputs:
            assert_close(out, np.full(tuple(out.shape), x[0, 0].item()), 25 * 2.0**-23 * abs(value))
        for band in bands:
            assert_close(band, np.zeros(tuple(band.shape)), 50 * 2.0**-23 * abs(value))


@borders
def test_down_and_up_are_adjoint_up_to_scale_away_from_the_border(backend: str, device: str, border: str) -> None:
    """<pyr_down(x), y> = <x, pyr_up(y)> / 4 for y that vanish near the border."""
    x, y = draw((16, 20), 1, torch.float64, device), draw((8, 10), 2, torch.float64, device)
    y[:2], y[-2:], y[:, :2], y[:, -2:] = 0, 0, 0, 0
    left = (lapcore.pyr_down(x, border=border) * y).sum()
    right = (x * lapcore.pyr_up(y, border=border)).sum() / 4
    assert float(left) == pytest.approx(float(right), rel=1e-12)


@pytest.mark.heavy
@borders
def test_linearity(backend: str, device: str, border: str) -> None:
    size = (23, 18)
    a, b = draw(size, 1, torch.float64, device), draw(size, 2, torch.float64, device)
    both = lapcore.laplacian_pyramid(2.5 * a - b, 2, border=border)
    parts = zip(
        lapcore.laplacian_pyramid(a, 2, border=border), lapcore.laplacian_pyramid(b, 2, border=border), strict=True
    )
    for got, (first, second) in zip(both, parts, strict=True):
        assert_close(got, to_numpy(2.5 * first - second), 1e-13)
    powers = lapcore.laplacian_pyramid(4.0 * a.float(), 2, border=border)
    for got, want in zip(powers, lapcore.laplacian_pyramid(a.float(), 2, border=border), strict=True):
        assert_same_bits(got, 4.0 * want, "a power of two scales exactly")


def test_symmetric_borders_commute_with_flips(backend: str, device: str) -> None:
    """On odd sizes pyr_down's grid is symmetric; a column or row kernel that treats one edge differently would show."""
    x = draw((2, 11, 9), 1, torch.float64, device)
    for border in BORDERS:
        down = lapcore.pyr_down(x, border=border)
        if border == "circular":
            continue
        for dims in ((-1,), (-2,), (-1, -2)):
            assert_close(lapcore.pyr_down(x.flip(dims), border=border), to_numpy(down.flip(dims)), 1e-14)
        assert_close(lapcore.pyr_down(x.mT, border=border), to_numpy(down.mT), 1e-14)


# Independence of batch and threads, to the bit -----------------------------------------------------------------------------------


def test_batch_split_does_not_change_a_bit(backend: str, slow_backend: bool, device: str) -> None:
    shape = (3, 2, 5, 6) if slow_backend else (7, 3, 45, 38)
    x = draw(shape, 1, device=device)
    whole = lapcore.laplacian_pyramid(x, 2)
    image = lapcore.collapse(whole)
    for i in range(shape[0]):
        one = lapcore.laplacian_pyramid(x[i : i + 1], 2)
        for got, want in zip(one, whole, strict=True):
            assert_same_bits(got, want[i : i + 1])
        assert_same_bits(lapcore.laplacian_pyramid(x[i, 0], 2)[0], whole[0][i, 0])
        assert_same_bits(lapcore.collapse(one), image[i : i + 1])


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_thread_count_does_not_change_a_bit(backend: str, device: str, dtype: torch.dtype) -> None:
    if backend != "cpu":
        pytest.skip("only the cpu backend promises the same bits for any number of threads")
    for shape in ((2, 3, 301, 517), (64, 3, 32, 32), (1, 1, 1000, 1003)):
        results = []
        for count in (1, 2, 3, 5):
            x = draw(shape, 1, dtype).requires_grad_()
            with threads(count):
                bands = lapcore.laplacian_pyramid(x, 3)
                image = lapcore.collapse(bands)
                (grad,) = torch.autograd.grad([*bands, image], x, draw_like([*bands, image]))
            results.append([*bands, image, grad])
        for other in results[1:]:
            for got, want in zip(other, results[0], strict=True):
                assert_same_bits(got, want)


@pytest.mark.heavy
def test_concurrent_calls_do_not_disturb_each_other(backend: str, device: str) -> None:
    """The GIL is released inside the kernels: two Python threads run them at once."""
    from concurrent.futures import ThreadPoolExecutor

    images = [draw((2, 3, 64 + i, 70), i, device=device) for i in range(16)]
    want = [lapcore.laplacian_pyramid(x, 3) for x in images]

    def work(x: Tensor) -> tuple[Tensor, ...]:
        with lapcore.backend(backend):
            return lapcore.laplacian_pyramid(x, 3)

    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(pool.map(work, images), want, strict=True):
            for got, expected in zip(a, b, strict=True):
                assert_same_bits(got, expected)


# Gradients -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_gradients_equal_the_adjoint_for_every_layout(
    backend: str, device: str, layout: Callable[[Tensor], Tensor]
) -> None:
    for shape in SHAPES:
        for border in BORDERS:
            check_gradients(layout(draw(shape, 5, device=device)), border, 2, LAYOUTS["contiguous"])
            check_gradients(draw(shape, 5, device=device), border, 2, layout)


@borders
def test_gradients_equal_the_adjoint_for_every_size(backend: str, slow_backend: bool, device: str, border: str) -> None:
    if slow_backend:
        check_gradients(draw((4, 5), 1, device=device), border, 2, LAYOUTS["contiguous"])
        return
    for h, w in product((1, 2, 3, 4, 9, 24), repeat=2):
        check_gradients(draw((h, w), h, device=device), border, 2, LAYOUTS["contiguous"])
    check_gradients(draw((1, 131, 260), 1, device=device), border, 4, LAYOUTS["contiguous"])


@pytest.mark.heavy
@dtypes
def test_gradients_in_every_dtype(backend: str, device: str, dtype: torch.dtype) -> None:
    for size in [(5, 4), (17, 33)]:
        for border in ("reflect", "circular"):
            check_gradients(draw((2, *size), 1, dtype, device), border, 2, LAYOUTS["contiguous"])


def differentiable(border: str) -> dict[str, tuple[Callable[..., object], list[tuple[int, ...]]]]:
    def collapse(*bands: Tensor) -> Tensor:
        return lapcore.collapse(bands, border=border)

    return {
        "pyr_down": (lambda x: lapcore.pyr_down(x, border=border), [(2, 3, 4)]),
        "pyr_up": (lambda x: lapcore.pyr_up(x, (5, 4), border=border), [(1, 3, 2)]),
        "gaussian_pyramid": (lambda x: lapcore.gaussian_pyramid(x, 2, border=border), [(1, 3, 5)]),
        "laplacian_pyramid": (lambda x: lapcore.laplacian_pyramid(x, 2, border=border), [(1, 3, 5)]),
        "collapse": (collapse, [(1, 3, 5), (1, 2, 3), (1, 1, 2)]),
    }


@pytest.mark.heavy
@pytest.mark.parametrize("name", differentiable("reflect"))
@pytest.mark.parametrize("border", ["reflect", "constant"])
def test_gradcheck_and_gradgradcheck(backend: str, device: str, name: str, border: str) -> None:
    function, shapes = differentiable(border)[name]
    inputs = [draw(shape, i, torch.float64, device).requires_grad_() for i, shape in enumerate(shapes)]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_only_some_outputs_and_bands_have_gradients(backend: str, device: str) -> None:
    x = draw((2, 6, 5), 1, device=device).requires_grad_()
    (got,) = torch.autograd.grad(lapcore.laplacian_pyramid(x, 2)[1].sum(), x)
    grads = [np.zeros((2, *size)) for size in oracle.sizes((6, 5), 2)]
    grads[1] += 1
    assert_close(
        got, oracle.laplacian_pyramid_adjoint(grads), bound("laplacian_pyramid_backward", torch.float32, 16.0, 2)
    )

    (got,) = torch.autograd.grad(lapcore.gaussian_pyramid(x, 2)[2].sum(), x)
    grads = [np.zeros((2, *size)) for size in oracle.sizes((6, 5), 2)]
    grads[2] += 1
    assert_close(got, oracle.gaussian_pyramid_adjoint(grads), bound("gaussian_pyramid_backward", torch.float32, 4.0, 2))

    bands = [band.detach() for band in lapcore.laplacian_pyramid(x, 2)]
    bands[1].requires_grad_()
    (got,) = torch.autograd.grad(lapcore.collapse(bands).sum(), [bands[1]])
    want = oracle.collapse_adjoint(np.ones((2, 6, 5)), 2)[1]
    assert_close(got, want, bound("collapse_backward", torch.float32, largest(want), 2))


def test_no_graph_without_need(backend: str, device: str) -> None:
    x = draw((2, 6, 5), 1, device=device)
    outputs = [
        lapcore.pyr_down(x),
        lapcore.pyr_up(x),
        *lapcore.gaussian_pyramid(x, 1),
        *lapcore.laplacian_pyramid(x, 1),
    ]
    assert not any(out.requires_grad for out in outputs)
    with torch.no_grad():
        assert not lapcore.laplacian_pyramid(x.clone().requires_grad_(), 1)[0].requires_grad
    with torch.inference_mode():
        bands = lapcore.laplacian_pyramid(x, 1)
        assert_close(lapcore.collapse(bands), to_numpy(x), ROUND_TRIP * float(x.abs().max()))


@pytest.mark.heavy
def test_deterministic_algorithms_are_accepted_and_kept(backend: str, device: str) -> None:
    shape = (4, 3, 65, 50)
    torch.use_deterministic_algorithms(True)
    try:
        grads = []
        for _ in range(3):
            x = draw(shape, 1, device=device).requires_grad_()
            bands = lapcore.laplacian_pyramid(x, 2)
            image = lapcore.collapse([band * band for band in bands])
            (grad,) = torch.autograd.grad([*bands, image], x, draw_like([*bands, image]))
            grads.append(grad)
    finally:
        torch.use_deterministic_algorithms(False)
    for grad in grads[1:]:
        assert_same_bits(grad, grads[0])


@pytest.mark.heavy
def test_random_gradients_equal_the_adjoint(backend: str, device: str) -> None:
    @settings(max_examples=80)
    @given(
        x=strategies.images(max_side=16), border=strategies.borders, levels=st.integers(0, 4), layout=strategies.layouts
    )
    def check(x: Tensor, border: str, levels: int, layout: str) -> None:
        check_gradients(x.to(device), border, levels, LAYOUTS[layout])

    check()


# Refusals ------------------------------------------------------------------------------------------------------------------------

Call = Callable[..., object]
ON_IMAGES: dict[str, Call] = {
    "pyr_down": lapcore.pyr_down,
    "pyr_up": lapcore.pyr_up,
    "gaussian_pyramid": lambda x, **options: lapcore.gaussian_pyramid(x, 1, **options),
    "laplacian_pyramid": lambda x, **options: lapcore.laplacian_pyramid(x, 1, **options),
    "collapse": lambda x, **options: lapcore.collapse((x,), **options),
}
on_images = pytest.mark.parametrize("call", ON_IMAGES.values(), ids=ON_IMAGES.keys())
with_levels = pytest.mark.parametrize("call", [lapcore.gaussian_pyramid, lapcore.laplacian_pyramid])
REFUSED = (ValueError, TypeError)
IMAGE = torch.zeros(2, 5, 4)


@on_images
@pytest.mark.parametrize(
    "x", [[[1.0, 2.0]], np.zeros((4, 4)), None, 3.0, "x"], ids=["list", "array", "None", "float", "str"]
)
def test_only_tensors_are_images(call: Call, x: object) -> None:
    with pytest.raises(TypeError, match=r"\bx\b|pyramid"):
        call(x)


@on_images
@pytest.mark.parametrize("shape", [(), (4,), (0, 4), (4, 0), (2, 3, 0, 0)], ids=str)
def test_images_have_two_sides_of_at_least_one(call: Call, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\bx\b|pyramid") as caught:
        call(torch.zeros(shape))
    assert str(list(shape)) in str(caught.value) or str(shape) in str(caught.value)


@on_images
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool, torch.complex64], ids=lambda d: str(d)
)
def test_integers_and_complex_numbers_are_refused_by_name(call: Call, dtype: torch.dtype) -> None:
    with pytest.raises(REFUSED, match=str(dtype).removeprefix("torch.")):
        call(torch.zeros(4, 4, dtype=dtype))


@on_images
@pytest.mark.parametrize("border", ["mirror", "REFLECT", "", "zeros", None, 4])
def test_unknown_borders_are_refused(call: Call, border: object) -> None:
    with pytest.raises(REFUSED, match="border") as caught:
        call(IMAGE, border=border)
    assert all(name in str(caught.value) for name in BORDERS) and repr(border) in str(caught.value)


@on_images
@pytest.mark.parametrize("filter", ["gauss", "Binomial", "", None, 5])
def test_unknown_filters_are_refused(call: Call, filter: object) -> None:
    with pytest.raises(REFUSED, match="filter") as caught:
        call(IMAGE, filter=filter)
    assert "binomial" in str(caught.value) and repr(filter) in str(caught.value)


@with_levels
@pytest.mark.parametrize("levels", [-1, 1.0, 1.5, "2", None, (1,), torch.tensor(1.0)])
def test_levels_are_whole_numbers_from_zero(call: Call, levels: object) -> None:
    with pytest.raises(REFUSED, match="levels"):
        call(IMAGE, levels)


@pytest.mark.parametrize(
    "size",
    [(11, 8), (10, 9), (8, 8), (10, 6), (5, 4), (0, 0), (-1, 8), (10,), (10, 8, 1), 10, "10", (10.0, 8.0), (None, 8)],
    ids=str,
)
def test_sizes_other_than_2n_minus_1_and_2n_are_refused(size: object) -> None:
    with pytest.raises(REFUSED, match="size"):
        lapcore.pyr_up(IMAGE, size)


def test_the_refusal_of_2n_plus_1_says_what_would_do() -> None:
    with pytest.raises(ValueError, match="size") as caught:
        lapcore.pyr_up(IMAGE, (11, 8))
    assert "11" in str(caught.value) and "9" in str(caught.value) and "10" in str(caught.value)


PYRAMID = [torch.zeros(2, 5, 4), torch.zeros(2, 3, 2), torch.zeros(2, 2, 1)]
BROKEN = {
    "empty": [],
    "a tensor": torch.zeros(2, 5, 4),
    "None": None,
    "a generator": (band for band in PYRAMID),
    "not all tensors": [PYRAMID[0], "band"],
    "wrong size": [PYRAMID[0], torch.zeros(2, 3, 3)],
    "upside down": PYRAMID[::-1],
    "a level missing": [PYRAMID[0], PYRAMID[2]],
    "another batch": [PYRAMID[0], torch.zeros(1, 3, 2)],
    "other leading dimensions": [PYRAMID[0], torch.zeros(3, 2)],
    "mixed dtypes": [PYRAMID[0], torch.zeros(2, 3, 2, dtype=torch.float64)],
    "mixed devices": [PYRAMID[0], torch.zeros(2, 3, 2, device="meta")],
    "an empty side": [PYRAMID[0], torch.zeros(2, 3, 0)],
}


@pytest.mark.parametrize("pyramid", BROKEN.values(), ids=BROKEN.keys())
def test_broken_pyramids_are_refused(pyramid: object) -> None:
    with pytest.raises(REFUSED, match="pyramid"):
        lapcore.collapse(pyramid)


def test_a_mismatched_level_is_named() -> None:
    with pytest.raises(ValueError, match=r"pyramid\[2\].*2, 2, 1.*2, 4, 1"):
        lapcore.collapse([PYRAMID[0], PYRAMID[1], torch.zeros(2, 4, 1)])


def test_options_are_keywords() -> None:
    with pytest.raises(TypeError):
        lapcore.pyr_down(IMAGE, "binomial")
    with pytest.raises(TypeError):
        lapcore.laplacian_pyramid(IMAGE, 1, "binomial")


# Choosing a backend --------------------------------------------------------------------------------------------------------------


def test_explain_lists_every_backend_with_a_reason_or_none() -> None:
    reasons = lapcore.explain("laplacian_pyramid", IMAGE)
    assert {"reference", "cpu", "triton", "cuda"} <= set(reasons)
    assert reasons["reference"] is None
    assert reasons["cuda"]
    assert all(reason is None or isinstance(reason, str) for reason in reasons.values())


def test_a_backend_asked_for_by_name_never_falls_back() -> None:
    reasons = lapcore.explain("laplacian_pyramid", IMAGE)
    for name, reason in reasons.items():
        if reason is not None:
            with lapcore.backend(name), pytest.raises(lapcore.errors.BackendError) as caught:
                lapcore.laplacian_pyramid(IMAGE, 1)
            assert reason in str(caught.value)


def test_unknown_backends_and_ops_are_refused() -> None:
    with pytest.raises(REFUSED, match="cuda"), lapcore.backend("gpu"):
        pass
    with pytest.raises((*REFUSED, LookupError), match="laplacian_pyramid"):
        lapcore.explain("laplacian_pyramide", IMAGE)


def test_the_choice_ends_with_its_block_and_nests() -> None:
    with lapcore.backend("reference"):
        with pytest.raises(RuntimeError, match="inside"), lapcore.backend("reference"):
            raise RuntimeError("inside")
        first = lapcore.pyr_down(IMAGE)
    assert_same_bits(lapcore.pyr_down(IMAGE), first)
