"""Equal to the installed OpenCV: integers to the bit, float32 within 5e-7, read in place from OpenCV's interleaved arrays."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

import lapcore
from tests.ops.pyramid_checks import SMALL, crossed, up_sizes
from tests.oracle import integer
from tests.oracle import pyramid as oracle
from tests.tolerance import OPENCV, assert_close

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (test extra)")

PROBE = ("laplacian_pyramid", (1, 1, 4, 4))
BORDERS = {
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
    "replicate": cv2.BORDER_REPLICATE,
    "circular": cv2.BORDER_WRAP,
}
CHANNELS = (1, 3, 4)
dtypes = pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])


def image(h: int, w: int, channels: int, dtype: str) -> np.ndarray:
    """(H, W, C), floats in [0, 1), integers of the whole range."""
    rng = np.random.default_rng(h * 1000 + w)
    if dtype == "float32":
        return rng.random((h, w, channels), dtype=np.float32)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (h, w, channels), dtype=dtype, endpoint=True)


def as_tensor(image: np.ndarray, device: str) -> torch.Tensor:
    """(C, H, W), a view."""
    return torch.from_numpy(image).permute(2, 0, 1).to(device)


def compare(got: torch.Tensor, want: np.ndarray, what: str) -> None:
    want = np.moveaxis(want.reshape(*want.shape[:2], -1), 2, 0)  # OpenCV drops a channel dimension of 1
    tolerance = OPENCV if want.dtype == np.float32 else 0
    actual = got.cpu().numpy()
    close = np.abs(actual - want).max(initial=0) <= tolerance if tolerance else np.array_equal(actual, want)
    if not close or actual.shape != want.shape:
        assert_close(got, want, tolerance, what)


def check_down(source: np.ndarray, border: str, device: str) -> None:
    want = cv2.pyrDown(source, borderType=BORDERS[border])
    compare(lapcore.pyr_down(as_tensor(source, device), border=border), want, f"pyr_down {source.shape} {border}")


def check_up(source: np.ndarray, size: tuple[int, int], device: str) -> None:
    want = cv2.pyrUp(source, dstsize=size[::-1])
    compare(lapcore.pyr_up(as_tensor(source, device), size), want, f"pyr_up {source.shape} to {size}")


@dtypes
def test_every_size_channel_count_and_border(backend: str, slow_backend: bool, device: str, dtype: str) -> None:
    """Of the product, the slower backends take every size with each of the others in turn."""
    in_turn = backend == "reference" or slow_backend
    sides = list(SMALL) if slow_backend else crossed(range(1, 34))
    for i, (h, w) in enumerate(sides):
        targets = list(up_sizes(h, w))
        for j, channels in enumerate(CHANNELS):
            if in_turn and j != i % 3:
                continue
            source = image(h, w, channels, dtype)
            borders = list(BORDERS)[i % 4 :][:1] if in_turn else BORDERS
            for border in borders:
                check_down(source, border, device)
            for size in targets[i % 4 :][:1] if in_turn else targets:
                check_up(source, size, device)


@pytest.mark.heavy
@pytest.mark.parametrize("size", [(67, 43), (1080, 1920)], ids=["67x43", "1080x1920"])
@dtypes
def test_large_images(backend: str, device: str, dtype: str, size: tuple[int, int]) -> None:
    once = backend == "reference" and size[0] > 100
    for channels in (3,) if once else CHANNELS:
        source = image(*size, channels, dtype)
        for border in ("reflect",) if once else BORDERS:
            check_down(source, border, device)
        if not once:
            check_up(source, (2 * size[0] - 1, 2 * size[1]), device)


@pytest.mark.heavy
def test_laplacian_pyramid_of_bytes(backend: str, device: str) -> None:
    for size in [(1, 1), (2, 7), (33, 20), (67, 43), (150, 211)]:
        for channels in CHANNELS:
            source = image(*size, channels, "uint8")
            got = lapcore.laplacian_pyramid(as_tensor(source, device), 3)
            want = [band.get() for band in cv2.detail.createLaplacePyr(cv2.UMat(source), 3, None)]
            for level, (a, b) in enumerate(zip(got, want, strict=True)):
                assert a.dtype is torch.int16 and b.dtype == np.int16
                compare(a, b, f"{size} level {level}")


@pytest.mark.heavy
def test_laplacian_pyramid_of_floats(backend: str, device: str) -> None:
    source = image(150, 211, 1, "float32")
    # given a bare float array, it subtracts only some of the levels
    want = cv2.detail.createLaplacePyr(cv2.UMat(source), 3, None)
    for level, (a, b) in enumerate(zip(lapcore.laplacian_pyramid(as_tensor(source, device), 3), want, strict=True)):
        compare(a, b.get(), f"level {level}")


def test_gaussian_pyramid(backend: str, slow_backend: bool, device: str) -> None:
    source = image(*((5, 6) if slow_backend else (45, 70)), 3, "uint8")
    want = [source, cv2.pyrDown(source), cv2.pyrDown(cv2.pyrDown(source))]
    for level, (a, b) in enumerate(zip(lapcore.gaussian_pyramid(as_tensor(source, device), 2), want, strict=True)):
        compare(a, b, f"level {level}")


# The oracle ----------------------------------------------------------------------------------------------------------------------


def test_oracle_equals_opencv_in_float64() -> None:
    rng = np.random.default_rng(0)
    for h, w in product(range(1, 20), repeat=2):
        x = rng.random((h, w))
        for border, code in BORDERS.items():
            np.testing.assert_allclose(oracle.pyr_down(x, border), cv2.pyrDown(x, borderType=code), atol=1e-15)
        for height, width in up_sizes(h, w):
            up = cv2.pyrUp(x, dstsize=(width, height))
            np.testing.assert_allclose(oracle.pyr_up(x, (height, width)), up, atol=1e-15)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_oracle_equals_opencv_in_integers(dtype: str) -> None:
    for h, w in product(range(1, 14), repeat=2):
        x = image(h, w, 1, dtype)[..., 0]
        for border, code in BORDERS.items():
            np.testing.assert_array_equal(integer.pyr_down(x, dtype, border), cv2.pyrDown(x, borderType=code))
        for size in up_sizes(h, w):
            np.testing.assert_array_equal(integer.pyr_up(x, dtype, size), cv2.pyrUp(x, dstsize=size[::-1]))
