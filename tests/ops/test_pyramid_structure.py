"""Pyramids as structure: where a pixel reaches, what stays constant, and that batch and threads do not matter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
import torch

import lapcore
from tests.ops.pyramid_checks import Tensor, borders, draw, draw_like
from tests.oracle import pyramid as oracle
from tests.oracle.pyramid import BORDERS
from tests.tolerance import assert_close, assert_same_bits, to_numpy

PROBE = ("laplacian_pyramid", (1, 1, 4, 4))


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
