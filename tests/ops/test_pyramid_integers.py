"""Integer images: every op equal to the exact oracle to the last bit, saturation and ties included."""

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
from tests.ops.pyramid_checks import INTEGERS, Tensor, borders, check_integers, draw, integers, sizes
from tests.oracle import integer as oracle
from tests.oracle.pyramid import BORDERS
from tests.tolerance import assert_close, assert_same_bits, to_numpy

PROBE = ("laplacian_pyramid", (1, 1, 4, 4))

# Made by the oracle and equal to OpenCV 5.0.0; kept because builds of OpenCV differ.
BYTES = [[7, 250, 13, 0], [255, 128, 64, 3], [19, 200, 255, 91], [0, 1, 2, 254], [33, 66, 99, 132]]
BYTES_DOWN = {
    "reflect": [[150, 87], [106, 115], [39, 91]],
    "symmetric": [[121, 76], [93, 114], [35, 97]],
    "replicate": [[105, 76], [90, 114], [36, 98]],
    "circular": [[89, 85], [101, 112], [76, 83]],
    "constant": [[62, 54], [67, 108], [18, 60]],
}
BYTES_UP = [  # of the upper left 2 x 3
    [107, 144, 176, 123, 50, 26],
    [146, 160, 163, 114, 57, 39],
    [204, 184, 143, 100, 68, 58],
    [223, 192, 136, 96, 72, 64],
]
BYTES_BANDS = [
    [[-121, 133, -87, -94], [134, 13, -40, -98], [-85, 94, 147, -18], [-80, -87, -97, 151], [-26, -5, 11, 38]],
    [[45, -18], [5, 14], [-57, -5]],
    [[108], [94]],
]
SHORTS = [[-32768, 32767, -1], [12345, -54, -32768], [32767, 32767, -300]]
SHORTS_BANDS = [
    [[-32768, 28180, -2853], [5324, -5661, -32768], [23831, 25631, -4736]],
    [[5368, 1768], [11503, 3788]],
]
SHORTS_COLLAPSED = [[-27023, 32767, -1], [12345, -54, -29283], [32767, 32767, -300]]  # not SHORTS: two bands saturated


def test_stored_vectors(backend: str, device: str) -> None:
    x = torch.tensor(BYTES, dtype=torch.uint8, device=device)
    for border, want in BYTES_DOWN.items():
        assert lapcore.pyr_down(x, border=border).tolist() == want
    assert lapcore.pyr_up(x[:2, :3]).tolist() == BYTES_UP
    bands = lapcore.laplacian_pyramid(x, 2)
    assert [band.tolist() for band in bands] == BYTES_BANDS
    assert lapcore.collapse(bands).tolist() == BYTES
    bands = lapcore.laplacian_pyramid(torch.tensor(SHORTS, dtype=torch.int16, device=device), 1)
    assert [band.tolist() for band in bands] == SHORTS_BANDS
    assert lapcore.collapse(bands).tolist() == SHORTS_COLLAPSED


@integers
def test_every_size_equals_the_oracle(backend: str, slow_backend: bool, device: str, dtype: torch.dtype) -> None:
    """Borders take turns."""
    sides = range(1, 34) if backend in ("cpu", "cuda") else (1, 2, 3, 4, 7, 16, 33)
    for i, (h, w) in enumerate(sizes(slow_backend, sides)):
        check_integers(draw((2, h, w) if i % 2 else (h, w), i, dtype, device), BORDERS[i % 5], levels=3)


@pytest.mark.heavy
@integers
@borders
def test_large_images_equal_the_oracle(backend: str, device: str, dtype: torch.dtype, border: str) -> None:
    """Wide enough for every vector width, tile and thread."""
    large = [(9, 70), (67, 43), (3, 1031)]
    for h, w in large if backend == "reference" else [*large, (130, 257), (256, 512)]:
        check_integers(draw((1, h, w), h, dtype, device), border, levels=4)


@pytest.mark.heavy
@integers
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_equals_the_oracle(
    backend: str, device: str, dtype: torch.dtype, layout: Callable[[Tensor], Tensor]
) -> None:
    for shape in (*SHAPES, (2, 3, 33, 70), (2, 4, 20, 37)):
        x = layout(draw(shape, 5, dtype, device))
        for border in ("reflect", "constant"):
            check_integers(x, border, levels=2)
            if dtype is torch.uint16:
                continue
            bands = [layout(band) for band in lapcore.laplacian_pyramid(x, 2, border=border)]
            want = oracle.collapse([to_numpy(band) for band in bands], border)
            assert_close(lapcore.collapse(bands, border=border), want, 0.0, f"{layout.__name__} {shape} {border}")


def test_random_images_equal_the_oracle(backend: str, slow_backend: bool, device: str) -> None:
    small = {"max_side": 4, "max_lead": 1} if slow_backend else {"max_side": 40}

    @settings(max_examples=3 if slow_backend else 150)
    @given(
        x=strategies.integer_images(**small), border=strategies.borders, levels=st.integers(0, 2 if slow_backend else 5)
    )
    def check(x: Tensor, border: str, levels: int) -> None:
        check_integers(x.to(device), border, levels)

    check()


@pytest.mark.parametrize(("value", "down", "up"), [(32, 5, 18), (-32, -4, -18), (8, 1, 5), (-8, -1, -4)])
def test_ties_round_up(backend: str, device: str, value: int, down: int, up: int) -> None:
    """A single pixel weighs 36/256 and 36/64 where it stands: 4.5 becomes 5, -4.5 becomes -4."""
    x = torch.zeros(5, 5, dtype=torch.int16, device=device)
    x[2, 2] = value
    assert int(lapcore.pyr_down(x)[1, 1]) == down
    assert int(lapcore.pyr_up(x)[4, 4]) == up


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16], ids=["uint8", "int16"])
def test_bands_at_both_ends_of_the_range(backend: str, slow_backend: bool, device: str, dtype: torch.dtype) -> None:
    """Checkerboards of the extremes: int16 bands and their collapse saturate, uint8's never do."""
    info = torch.iinfo(dtype)
    for h, w in [(5, 4)] if slow_backend else [(1, 1), (8, 8), (9, 14), (33, 64)]:
        rows, columns = torch.arange(h)[:, None], torch.arange(w)
        patterns = [(rows + columns) % 2, rows % 2 + 0 * columns, (rows // 2 + columns // 3) % 2]
        for pattern, border in [(patterns[0], "reflect")] if slow_backend else product(patterns, BORDERS):
            x = torch.where(pattern > 0, info.max, info.min).to(dtype).to(device)
            check_integers(x, border, levels=2)
            bands = lapcore.laplacian_pyramid(x, 2, border=border)
            extremes = [torch.where(b > b.to(torch.float32).mean(), 32767, -32768).to(torch.int16) for b in bands]
            want = oracle.collapse([to_numpy(b) for b in extremes], border)
            assert_close(lapcore.collapse(extremes, border=border), want, 0.0)


@borders
def test_round_trip_of_bytes_is_lossless(backend: str, slow_backend: bool, device: str, border: str) -> None:
    for h, w in [(5, 4)] if slow_backend else product((1, 2, 3, 5, 8, 17, 32, 33, 40), repeat=2):
        x = draw((2, h, w), h * 41 + w, torch.uint8, device)
        for levels in (1,) if slow_backend else (1, 4):
            back = lapcore.collapse(lapcore.laplacian_pyramid(x, levels, border=border), border=border)
            assert back.dtype is torch.int16
            assert_same_bits(back.to(torch.uint8), x)


def test_low_pass_and_zero_levels_are_int16(backend: str, device: str) -> None:
    for dtype in (torch.uint8, torch.int16):
        x = draw((2, 3, 4), 1, dtype, device)
        assert [band.dtype for band in lapcore.laplacian_pyramid(x, 2)] == [torch.int16] * 3
        (only,) = lapcore.laplacian_pyramid(x, 0)
        assert_same_bits(only, x.to(torch.int16))
        assert_same_bits(lapcore.collapse((only,)), only)
        assert lapcore.gaussian_pyramid(x, 0)[0] is x


@integers
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 5, 4), (2, 3, 0, 1, 2)])
def test_empty_batches(backend: str, device: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape, dtype=dtype, device=device)
    *lead, h, w = shape
    assert lapcore.pyr_down(x).shape == (*lead, (h + 1) // 2, (w + 1) // 2)
    assert lapcore.pyr_up(x).dtype is dtype
    if dtype is not torch.uint16:
        assert lapcore.collapse(lapcore.laplacian_pyramid(x, 2)).shape == shape


def test_video(backend: str, slow_backend: bool, device: str) -> None:
    """Five dimensions in either order of channels and frames are images like any."""
    shape = (1, 2, 2, 3, 4) if slow_backend else (2, 3, 4, 9, 11)
    x = draw(shape, 1, torch.uint8, device)
    flat = x.reshape(-1, *shape[-2:])
    for view in (x, LAYOUTS["channels_last"](x), LAYOUTS["frames_last"](x)):
        for got, want in zip(lapcore.laplacian_pyramid(view, 2), lapcore.laplacian_pyramid(flat, 2), strict=True):
            assert_same_bits(got.reshape(want.shape), want)


# Refusals, and what traces the ops ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("filter", ["half_pixel", "area"])
def test_only_binomial_rounds_integers(dtype: torch.dtype, filter: str) -> None:
    x = torch.zeros(4, 4, dtype=dtype)
    for call in (
        lambda: lapcore.pyr_down(x, filter=filter),
        lambda: lapcore.pyr_up(x, filter=filter),
        lambda: lapcore.gaussian_pyramid(x, 1, filter=filter),
        lambda: lapcore.laplacian_pyramid(x, 1, filter=filter),
        lambda: lapcore.collapse([x], filter=filter),
    ):
        with pytest.raises((TypeError, ValueError), match=str(dtype).removeprefix("torch.")) as caught:
            call()
        assert str(caught.value).split(":")[0] in ("x", "pyramid[0]")


def test_uint16_has_no_bands() -> None:
    x = torch.zeros(4, 4, dtype=torch.uint16)
    with pytest.raises((TypeError, ValueError), match=r"x: .*uint16"):
        lapcore.laplacian_pyramid(x, 1)
    for dtype in (torch.uint16, torch.uint8):
        with pytest.raises((TypeError, ValueError), match=r"pyramid.*uint"):
            lapcore.collapse([torch.zeros(4, 4, dtype=dtype), torch.zeros(2, 2, dtype=dtype)])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16], ids=["uint8", "int16"])
def test_compiled_and_checked_by_torch(dtype: torch.dtype) -> None:
    x = draw((2, 5, 6), 1, dtype)
    compiled = torch.compile(lambda x: lapcore.laplacian_pyramid(x, 2), fullgraph=True, backend="aot_eager")
    bands = lapcore.laplacian_pyramid(x, 2)
    for got, want in zip(compiled(x), bands, strict=True):
        assert_same_bits(got, want)
    collapse = torch.compile(lapcore.collapse, fullgraph=True, backend="aot_eager")
    assert_same_bits(collapse(bands), lapcore.collapse(bands))
    looped = torch.stack([lapcore.laplacian_pyramid(each, 2)[0] for each in x])
    assert_same_bits(torch.vmap(lambda x: lapcore.laplacian_pyramid(x, 2)[0])(x), looped)


# Sixty-four bits -----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.real_memory
def test_more_than_2_to_the_31_elements() -> None:
    """Pages of zeros that nobody wrote cost no memory: 2.6 billion pixels, with something in the corners and around 2^31."""
    h, w = 40_000, 65_536
    image = np.zeros((h, w), dtype=np.uint8)
    patch = draw((12, 16), 1, torch.uint8).numpy()
    row = 2**31 // w - 6
    places = [(0, 0), (0, w - 16), (row, 0), (row, w - 16), (h - 12, 0), (h - 12, w - 16)]
    for i, j in places:
        image[i : i + 12, j : j + 16] = patch
    got = lapcore.pyr_down(torch.from_numpy(image))
    assert got.shape == (h // 2, w // 2)
    total = 0
    for i, j in places:
        top, left = max(0, i // 2 - 8), max(0, j // 2 - 8)
        window = slice(top, min(top + 24, h // 2)), slice(left, min(left + 24, w // 2))
        margin = 8  # of zeros, so that the cut itself cannot reach the window
        rows = slice(max(0, 2 * top - margin), min(h, 2 * window[0].stop + margin))
        columns = slice(max(0, 2 * left - margin), min(w, 2 * window[1].stop + margin))
        want = oracle.pyr_down(image[rows, columns], "uint8")
        want = want[top - rows.start // 2 :, left - columns.start // 2 :][
            : window[0].stop - top, : window[1].stop - left
        ]
        assert_close(got[window], want, 0.0, f"at {i}, {j}")
        total += int(want.sum())
    assert int(got.sum(dtype=torch.int64)) == total, "something outside the patches is not zero"


@pytest.mark.slow
@pytest.mark.real_memory
def test_more_than_2_to_the_31_elements_of_small_images() -> None:
    image = draw((8, 8), 1, torch.uint8)
    count = 2**31 // 64 + 1000
    got = lapcore.pyr_down(image.expand(count, 8, 8))
    assert (got == lapcore.pyr_down(image)).all()
