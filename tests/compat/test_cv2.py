"""OpenCV's face: its numbers to the bit, its dst, its refusals; and the images read where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import lapcore
from lapcore.compat import cv2 as compat
from lapcore.errors import LapcoreError
from tests.tolerance import OPENCV

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (test extra)")

Array = np.ndarray
INTEGERS = ("uint8", "uint16", "int16")
FLOATS = ("float32", "float64")
PADS = {
    compat.BORDER_REPLICATE: "edge",
    compat.BORDER_REFLECT: "symmetric",
    compat.BORDER_WRAP: "wrap",
    compat.BORDER_REFLECT_101: "reflect",
}
SIZES = [(1, 1), (1, 7), (2, 2), (3, 2), (5, 8), (12, 11), (33, 50)]
K = np.array([1, 4, 6, 4, 1])


@pytest.fixture(autouse=True)
def poisoned_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    real = np.empty

    def poisoned(*args: Any, **kwargs: Any) -> Array:
        array = real(*args, **kwargs)
        if array.dtype.kind in "iuf":
            array.fill(np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max)
        return array

    monkeypatch.setattr(np, "empty", poisoned)


def image(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    """Integers of the whole range, floats in [0, 1)."""
    rng = np.random.default_rng(seed + sum(shape))
    if dtype in FLOATS:
        return rng.random(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def define_down(source: Array, border: int, size: tuple[int, int]) -> Array:
    """The sum over 25 taps of the padded image, rounded once."""
    exact = np.int64 if source.dtype.name in INTEGERS else np.float64
    rest = [(0, 0)] * (source.ndim - 2)
    padded = np.pad(source.astype(exact), [(2, 4), (2, 4), *rest], PADS[border])
    (h, w), total = size, np.zeros((*size, *source.shape[2:]), exact)
    for i in range(5):
        for j in range(5):
            total += K[i] * K[j] * padded[i : i + 2 * h - 1 : 2, j : j + 2 * w - 1 : 2]
    return ((total + 128) >> 8).astype(source.dtype) if exact is np.int64 else total / 256


def define_up(source: Array, size: tuple[int, int]) -> Array:
    """Zeros between the samples, mirrored beyond the ends, 25 taps, rounded once."""
    exact = np.int64 if source.dtype.name in INTEGERS else np.float64
    h, w, *rest = source.shape
    stuffed = np.zeros((2 * h, 2 * w, *rest), exact)
    stuffed[::2, ::2] = source
    padded = np.pad(stuffed, [(2, 2), (2, 2), *[(0, 0)] * len(rest)], "reflect")
    total = np.zeros((2 * h, 2 * w, *rest), exact)
    for i in range(5):
        for j in range(5):
            total += K[i] * K[j] * padded[i : i + 2 * h, j : j + 2 * w]
    total = total[: size[0], : size[1]]
    return ((total + 32) >> 6).astype(source.dtype) if exact is np.int64 else total / 64


def assert_same(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    if want.dtype.name in INTEGERS:
        assert got.dtype == want.dtype
        assert np.array_equal(got, want)
    else:
        assert np.abs(got - want).max() <= (OPENCV if got.dtype == np.float32 else 1e-15)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,), (5,)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_numbers(dtype: str, channels: tuple[int, ...], size: tuple[int, int]) -> None:
    h, w = size
    source = image((*size, *channels), dtype)
    plain = source[..., 0] if channels == (1,) else source
    for border in PADS:
        got = compat.pyrDown(source, borderType=border)
        assert got.dtype == dtype
        assert got.flags.c_contiguous
        assert_same(got, define_down(plain, border, ((h + 1) // 2, (w + 1) // 2)))
        assert_same(got, cv2.pyrDown(source, borderType=border))
    got = compat.pyrUp(source)
    assert got.dtype == dtype
    assert got.flags.c_contiguous
    assert_same(got, define_up(plain, (2 * h, 2 * w)))
    assert_same(got, cv2.pyrUp(source))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_build_pyramid(dtype: str) -> None:
    """cv::buildPyramid, which Python's cv2 lacks, is pyrDown over and over."""
    source = image((37, 50, 3), dtype)
    pyramid = compat.buildPyramid(source, 4)
    assert len(pyramid) == 5
    assert pyramid[0] is source
    for fine, coarse in pairwise(pyramid):
        assert_same(coarse, cv2.pyrDown(fine))
    assert [level.shape[:2] for level in pyramid] == [(37, 50), (19, 25), (10, 13), (5, 7), (3, 4)]
    assert_same(compat.buildPyramid(source, 1, compat.BORDER_WRAP)[1], cv2.pyrDown(source, borderType=cv2.BORDER_WRAP))
    assert len(compat.buildPyramid(source, 0)) == 1


def accepts(module: Any, function: str, source: Array, size: tuple[int, int]) -> Array | None:
    try:
        return getattr(module, function)(source, dstsize=size)
    except module.error:
        return None


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@pytest.mark.parametrize("side", [*range(1, 11), 16, 17])
def test_dstsize_of_pyrdown(side: int, dtype: str) -> None:
    """Whatever OpenCV takes on either axis, but for n/2 + 1."""
    for size in range(-1, side + 2):
        for source, dstsize in ((image((side, 6, 3), dtype), (3, size)), (image((6, side), dtype), (size, 3))):
            theirs, ours = accepts(cv2, "pyrDown", source, dstsize), accepts(compat, "pyrDown", source, dstsize)
            if side % 2 == 0 and size == side // 2 + 1:
                assert theirs is not None
                assert ours is None
            elif theirs is None:
                assert ours is None, f"{dstsize} for {source.shape}"
            else:
                assert ours is not None, f"{dstsize} for {source.shape}"
                assert ours.flags.c_contiguous
                assert_same(ours, theirs)


def test_opencv_is_a_tap_off_where_we_refuse() -> None:
    """The last column of n/2 + 1: the filter is centred on sample n - 1, not n; along rows OpenCV does what its filter says."""
    source = image((8, 8), "uint8")
    tall, wide = cv2.pyrDown(source, dstsize=(4, 5)), cv2.pyrDown(source, dstsize=(5, 4))
    assert_same(tall, define_down(source, compat.BORDER_REFLECT_101, (5, 4)))
    assert not np.array_equal(wide, define_down(source, compat.BORDER_REFLECT_101, (4, 5)))


@pytest.mark.parametrize("side", range(1, 9))
def test_dstsize_of_pyrup(side: int) -> None:
    """Whatever OpenCV takes on either axis, but for 2n + 1."""
    for size in range(-1, 2 * side + 4):
        for source, dstsize in ((image((side, 3), "uint8"), (6, size)), (image((4, side, 3), "uint8"), (size, 7))):
            ours = accepts(compat, "pyrUp", source, dstsize)
            if size == 2 * side + 1:
                assert ours is None
                continue
            theirs = accepts(cv2, "pyrUp", source, dstsize)
            assert (ours is None) == (theirs is None), f"{dstsize} for {source.shape}"
            if ours is not None and theirs is not None:
                assert_same(ours, theirs)


@pytest.mark.parametrize("dstsize", [None, (0, 0), (3, 4), [3, 4], np.array([3, 4]), (np.int64(3), 4), (3, 0)], ids=str)
def test_spellings_of_dstsize(dstsize: Any) -> None:
    source = image((8, 6), "uint8")
    assert_same(compat.pyrDown(source, None, dstsize), cv2.pyrDown(source, None, dstsize))


DSTS: dict[str, tuple[Callable[[], Array], bool]] = {
    "fits": (lambda: np.zeros((4, 5, 3), np.uint8), True),
    "rows of a wider array": (lambda: np.zeros((4, 9, 3), np.uint8)[:, 2:7], True),
    "another size": (lambda: np.zeros((4, 4, 3), np.uint8), False),
    "another dtype": (lambda: np.zeros((4, 5, 3), np.int16), False),
    "other channels": (lambda: np.zeros((4, 5), np.uint8), False),
}


@pytest.mark.parametrize("module", [compat, cv2], ids=["lapcore", "opencv"])
@pytest.mark.parametrize("name", DSTS)
def test_dst(module: Any, name: str) -> None:
    make, fits = DSTS[name]
    source, dst = image((8, 10, 3), "uint8"), make()
    result = module.pyrDown(source, dst)
    assert_same(result, define_down(source, compat.BORDER_REFLECT_101, (4, 5)))
    assert (result is dst) == fits
    assert bool(dst.any()) == fits


@pytest.mark.parametrize("module", [compat, cv2], ids=["lapcore", "opencv"])
def test_dst_of_one_channel_and_of_pyrup(module: Any) -> None:
    source = image((8, 10, 1), "float32")
    dst = np.zeros((4, 5, 1), np.float32)
    assert module.pyrDown(source, dst=dst) is dst
    assert_same(dst[..., 0], define_down(source[..., 0], compat.BORDER_REFLECT_101, (4, 5)))
    dst = np.zeros((15, 20), np.float32)
    assert module.pyrUp(source, dst, (20, 15)) is dst
    assert_same(dst, define_up(source[..., 0], (15, 20)))


def test_dst_that_takes_a_shorter_result() -> None:
    source, dst = image((8, 10), "uint8"), np.zeros((3, 5), np.uint8)
    assert compat.pyrDown(source, dst, (5, 3)) is dst
    assert_same(dst, cv2.pyrDown(source, dstsize=(5, 3)))


def test_dst_within_src() -> None:
    """What is written must not be read again."""
    whole = image((16, 20, 3), "uint8")
    source = whole.copy()
    dst = whole[:8, :10]
    assert compat.pyrDown(whole, dst) is dst
    assert_same(dst, define_down(source, compat.BORDER_REFLECT_101, (8, 10)))


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda a: a,
    "cropped": lambda a: a[1:, 2:-1],
    "every second": lambda a: a[::2, ::3],
    "transposed": lambda a: a.transpose(1, 0, 2),
    "planes": lambda a: np.ascontiguousarray(a.transpose(2, 0, 1)).transpose(1, 2, 0),
    "one channel": lambda a: a[..., 1],
    "broadcast": lambda a: np.broadcast_to(a[:1], (6, *a.shape[1:])),
    "read-only": lambda a: read_only(a),
    "of a read-only buffer": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}
COPIED: dict[str, Callable[[Array], Array]] = {
    "upside down": lambda a: a[::-1],
    "mirrored": lambda a: a[:, ::-1],
    "BGR": lambda a: a[..., ::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "field of a record": lambda a: record(a),
}


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def record(array: Array) -> Array:
    """Strides that are no multiple of the element."""
    records = np.zeros(array.shape, np.dtype([("flag", "u1"), ("value", array.dtype)]))
    records["value"] = array
    return records["value"]


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The addresses that lapcore's operations read and wrote."""
    calls: list[tuple[int, int]] = []

    def spy(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def wrapper(x: torch.Tensor, *args: Any, out: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            calls.append((x.data_ptr(), out.data_ptr()))
            return real(x, *args, out=out, **kwargs)

        return wrapper

    for name in ("pyr_down", "pyr_up"):
        monkeypatch.setattr(lapcore, name, spy(getattr(lapcore, name)))
    yield calls


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", [*LAYOUTS, *COPIED])
def test_layouts(layout: str, dtype: str, touched: list[tuple[int, int]]) -> None:
    make = {**LAYOUTS, **COPIED}[layout]
    source = make(image((13, 18, 3), dtype))
    native = source.astype(dtype)
    before = source.copy()
    for function, want in ((compat.pyrDown, cv2.pyrDown(native)), (compat.pyrUp, cv2.pyrUp(native))):
        got = function(source)
        assert got.dtype == dtype
        assert_same(got, want)
        read, written = touched.pop()
        assert written == got.ctypes.data
        in_place = layout in LAYOUTS or (
            dtype == "uint8" and layout in ("big-endian", "field of a record")
        )  # bytes fit anywhere
        assert (read == source.ctypes.data) == in_place
    assert np.array_equal(source, before)


BAD: dict[str, Callable[[Any], Any]] = {
    **{
        f"dtype {d}": lambda m, d=d: m.pyrDown(np.ones((6, 7), d))
        for d in ("int8", "int32", "float16", "bool", "int64")
    },
    **{f"up of {d}": lambda m, d=d: m.pyrUp(np.ones((6, 7), d)) for d in ("int8", "int32", "float16", "bool", "int64")},
    "complex": lambda m: m.pyrDown(np.ones((6, 7), np.complex64)),
    "object": lambda m: m.pyrDown(np.ones((6, 7), object)),
    "empty": lambda m: m.pyrDown(np.ones((0, 5), np.uint8)),
    "empty rows": lambda m: m.pyrDown(np.ones((5, 0), np.uint8)),
    "no channel": lambda m: m.pyrDown(np.ones((5, 5, 0), np.uint8)),
    "513 channels": lambda m: m.pyrDown(np.ones((5, 5, 513), np.uint8)),
    "four dimensions": lambda m: m.pyrUp(np.ones((2, 5, 5, 3), np.uint8)),
    "None": lambda m: m.pyrDown(None),
    "a list": lambda m: m.pyrDown([[1.0, 2.0], [3.0, 4.0]]),
    "a string": lambda m: m.pyrUp("image.png"),
    **{f"border {b}": lambda m, b=b: m.pyrDown(np.ones((6, 7), np.uint8), borderType=b) for b in (0, -1, 5, 6, 16, 20)},
    **{
        f"up with border {b}": lambda m, b=b: m.pyrUp(np.ones((6, 7), np.uint8), borderType=b) for b in (0, 1, 2, 3, 16)
    },
    "border of no int": lambda m: m.pyrDown(np.ones((6, 7), np.uint8), borderType=4.0),
    "border by name": lambda m: m.pyrDown(np.ones((6, 7), np.uint8), borderType="reflect"),
    "floats in dstsize": lambda m: m.pyrDown(np.ones((6, 8), np.uint8), dstsize=(4.0, 3)),
    "one number in dstsize": lambda m: m.pyrDown(np.ones((6, 8), np.uint8), dstsize=(4,)),
    "three numbers in dstsize": lambda m: m.pyrUp(np.ones((6, 8), np.uint8), dstsize=(16, 12, 3)),
    "dstsize the other way round": lambda m: m.pyrDown(np.ones((6, 12), np.uint8), dstsize=(3, 6)),
    "strided dst": lambda m: m.pyrDown(np.ones((8, 8), np.uint8), np.zeros((4, 8), np.uint8)[:, ::2]),
    "mirrored dst": lambda m: m.pyrDown(np.ones((8, 8), np.uint8), np.zeros((4, 4), np.uint8)[::-1]),
    "transposed dst": lambda m: m.pyrDown(np.ones((8, 8), np.uint8), np.zeros((4, 4), np.uint8).T),
    "read-only dst": lambda m: m.pyrDown(np.ones((8, 8), np.uint8), read_only(np.zeros((4, 4), np.uint8))),
    "a list for dst": lambda m: m.pyrDown(np.ones((8, 8), np.uint8), [[0]]),
    "objects for dst": lambda m: m.pyrDown(np.ones((8, 8), np.uint8), np.zeros((4, 4), object)),
}


@pytest.mark.parametrize("case", BAD)
def test_what_opencv_refuses(case: str) -> None:
    with pytest.raises(cv2.error):
        BAD[case](cv2)
    with pytest.raises(compat.error, match=r"^(src|dst|dstsize|borderType): expected .*, got "):
        BAD[case](compat)


OURS: dict[str, tuple[Callable[[], Any], str]] = {
    "empty for pyrUp": (lambda: compat.pyrUp(np.ones((0, 5), np.uint8)), "src: expected shape .*at least one pixel"),
    "a row": (lambda: compat.pyrDown(np.ones(5, np.uint8)), r"src: expected shape \(H, W\) or \(H, W, C\).*got \(5,\)"),
    "129 channels": (lambda: compat.pyrDown(np.ones((5, 5, 129), np.uint8)), "at most 128 channels.* got 129"),
    "bool for a border": (
        lambda: compat.pyrDown(np.ones((5, 5), np.uint8), borderType=True),
        "borderType: expected an int",
    ),
    "2n + 1": (
        lambda: compat.pyrUp(np.ones((5, 5), np.uint8), dstsize=(11, 10)),
        r"dstsize: expected .*9 or 10.*\(11, 10\)",
    ),
    "n/2 + 1": (
        lambda: compat.pyrDown(np.ones((8, 8), np.uint8), dstsize=(4, 5)),
        r"dstsize: expected .*3 or 4.*\(4, 5\)",
    ),
    "maxlevel": (
        lambda: compat.buildPyramid(np.ones((8, 8), np.uint8), -1),
        "maxlevel: expected an int of at least 0, got -1",
    ),
    "maxlevel 1.0": (
        lambda: compat.buildPyramid(np.ones((8, 8), np.uint8), 1.0),
        r"maxlevel: expected an int, got 1\.0",
    ),
    "src of no level": (lambda: compat.buildPyramid(np.ones((8, 8), np.int8), 0), "src: expected dtype"),
    "border of no level": (lambda: compat.buildPyramid(np.ones((8, 8), np.uint8), 0, 0), "borderType: expected"),
}


@pytest.mark.parametrize("case", OURS)
def test_refusals_of_our_own(case: str) -> None:
    call, message = OURS[case]
    with pytest.raises(compat.error, match=message):
        call()


def test_error_and_constants() -> None:
    assert issubclass(compat.error, ValueError)
    assert issubclass(compat.error, LapcoreError)
    names = [name for name in dir(compat) if name.startswith("BORDER_")]
    assert len(names) == 9
    for name in names:
        assert getattr(compat, name) == getattr(cv2, name)
