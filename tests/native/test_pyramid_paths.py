"""Whichever way the cpu backend takes through a pyramid, its bits are those of one operator after the other.

Small images go in groups, middling ones level by level, large ones with all levels of a strip at once; every instruction
set has its own vectors. Each g_l and each band is rounded once, so pyr_down, pyr_up and a difference must give the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import lapcore
from lapcore import native
from tests.ops.pyramid_checks import Tensor, borders, draw
from tests.ops.test_pyramid_structure import threads
from tests.tolerance import assert_same_bits

GROUPED = (
    (13, 3, 16, 16),
    (9, 32, 32),
    (5, 28, 28),
    (7, 64, 64),
    (11, 8, 8),
    (6, 24, 40),
    (10, 12, 20),
    (6, 1, 7),
    (3, 5, 1),
)
MIDDLING = ((2, 128, 96), (5, 61, 130), (1, 260, 70))
LARGE = ((1, 700, 515), (3, 301, 517), (1, 270, 1100), (2, 513, 640), (1, 33, 9000))

if (reason := native.missing()) is not None:
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(params=native.load().isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    module = native.load()
    before = module.isa()
    module.use_isa(request.param)
    yield request.param
    module.use_isa(before)


def one_by_one(x: Tensor, levels: int, border: str) -> list[Tensor]:
    bands = []
    for _ in range(levels):
        low = lapcore.pyr_down(x, border=border)
        bands.append(x - lapcore.pyr_up(low, x.shape[-2:], border=border))
        x = low
    return [*bands, x.contiguous()]


def collapsed_one_by_one(pyramid: list[Tensor], border: str) -> Tensor:
    image = pyramid[-1]
    for band in reversed(pyramid[:-1]):
        image = band + lapcore.pyr_up(image, band.shape[-2:], border=border)
    return image


def check(x: Tensor, levels: int, border: str) -> None:
    what = f"{tuple(x.shape)} {x.stride()} {x.dtype} {levels} levels {border}"
    with lapcore.backend("cpu"):
        want = one_by_one(x, levels, border)
        for count in (1, 2, 3):
            with threads(count):
                bands = lapcore.laplacian_pyramid(x, levels, border=border)
                image = lapcore.collapse(bands, border=border)
            for level, (a, b) in enumerate(zip(bands, want, strict=True)):
                assert_same_bits(a, b, f"level {level} of {what}, {count} threads")
            assert_same_bits(image, collapsed_one_by_one(want, border), f"collapse of {what}, {count} threads")


@borders
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_groups_of_small_images(isa: str, border: str, dtype: torch.dtype) -> None:
    for shape in (*GROUPED, *MIDDLING):
        for levels in (1, 3, 5):
            check(draw(shape, levels, dtype), levels, border)


@borders
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_strips_of_large_images(isa: str, border: str, dtype: torch.dtype) -> None:
    for shape, levels in zip(LARGE, (1, 2, 3, 4, 6), strict=True):
        check(draw(shape, levels, dtype), levels, border)


@borders
def test_any_strides(isa: str, border: str) -> None:
    check(draw((2, 301, 300, 3)).permute(0, 3, 1, 2), 3, border)
    check(draw((40, 16, 3)).permute(2, 0, 1), 3, border)
    check(draw((1, 400, 1100))[..., 3:1003], 3, border)
    check(draw((9, 70, 64))[:, ::2, :33], 3, border)
    check(draw((1, 16, 16)).expand(21, 16, 16), 2, border)


@borders
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_interleaved_channels(isa: str, border: str, channels: int) -> None:
    """Channels-last images into channels-last results: the planes' bits."""
    for dtype in (torch.uint8, torch.int16, torch.bfloat16, torch.float32, torch.float64):
        for lead, h, w in (((), 1, 1), ((2,), 5, 2), ((), 9, 31), ((3,), 40, 64), ((), 33, 130), ((2,), 200, 301)):
            x = draw((*lead, h, w, channels), w, dtype).movedim(-1, -3)
            small = torch.empty(*lead, (h + 1) // 2, (w + 1) // 2, channels, dtype=dtype).movedim(-1, -3)
            large = torch.empty(*lead, 2 * h, 2 * w - 1, channels, dtype=dtype).movedim(-1, -3)
            what = f"{tuple(x.shape)} {x.stride()} {dtype} {border}"
            with lapcore.backend("cpu"):
                lapcore.pyr_down(x, border=border, out=small)
                lapcore.pyr_up(x, large.shape[-2:], border=border, out=large)
                planes = x.contiguous()
                assert_same_bits(small, lapcore.pyr_down(planes, border=border), f"pyr_down {what}")
                assert_same_bits(large, lapcore.pyr_up(planes, large.shape[-2:], border=border), f"pyr_up {what}")


def test_no_images_at_all(isa: str) -> None:
    """Zero-size dimensions that lie apart in memory, where a plane's place cannot be computed."""
    with lapcore.backend("cpu"):
        for side in (9, 700):
            for x in (
                torch.empty(3, 0, side, side),
                torch.empty(0, 5, side, side + 9)[..., :side],
                torch.empty(4, 0, 2, side, side)[:, :, ::2],
            ):
                bands = lapcore.laplacian_pyramid(x, 4)
                assert [band.numel() for band in bands] == [0] * 5
                assert lapcore.collapse(bands).shape == x.shape
