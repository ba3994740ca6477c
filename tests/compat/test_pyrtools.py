"""pyrtools' face: numbers that pyrtools 1.1.1 gave, and its definition written out in NumPy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import lapcore
from lapcore.compat.pyrtools import LaplacianPyramid

Array = np.ndarray
SHAPES = [
    (16, 16),
    (17, 16),
    (16, 19),
    (9, 7),
    (6, 6),
    (7, 6),
    (33, 12),
    (21, 13),
    (64, 100),
    (10, 10),
    (5, 8),
    (8, 5),
    (20, 20),
]
SIGNALS = [(25, 1), (1, 26), (40, 1), (1, 9), (11, 1), (1, 5)]

IMAGE = np.fromfunction(lambda i, j: (3 * i * i + 5 * i * j + 7 * j * j) % 11, (6, 8))
# pyrtools.pyramids.LaplacianPyramid(IMAGE[:6, :7]) times 2^14 and 2^7, which makes its coefficients integers
COEFFICIENTS_6X7 = (
    [
        [-76828, 32328, 8136, 39608, -60354, 61824, 55568],
        [-29272, -17840, 40848, -25424, -42356, -15872, 61472],
        [-67920, 26880, -10004, 8048, 76320, 9872, -7880],
        [-13640, -15120, 34272, -41008, -65628, -44480, 22592],
        [-40482, 41692, -3344, 7988, 70145, -2640, -31808],
        [37952, 22400, 60576, -24832, -59360, -48768, 4672],
    ],
    [[1080, 1462, 1412, 1908], [1216, 1453, 1358, 1434], [1724, 1672, 1152, 884]],
)
# of IMAGE[:5, :8]
COEFFICIENTS_5X8 = (
    [
        [-76828, 32328, 8136, 39608, -60276, 62136, 52986, -81136],
        [-29272, -17840, 40848, -25424, -42408, -16080, 58820, 7328],
        [-66168, 28432, -8912, 8560, 76072, 8624, -10652, 21152],
        [-6632, -8912, 38640, -38960, -65944, -46768, 19740, -45472],
        [-16282, 64588, 16116, 22356, 79334, 2852, -26733, -9288],
    ],
    [[1080, 1462, 1412, 1882], [1216, 1453, 1358, 1473], [1480, 1528, 1168, 972]],
)
# of the signal n^2 mod 7, n = 0..10
SIGNAL = (
    [-1.34375, -0.6875, 1.7734375, -0.46875, -0.4140625, 1.9375, -0.6875, -1.5625, -0.7265625, 1.78125, -0.546875],
    [
        -1.3272062826567825,
        0.53861649348194,
        0.7126310529145661,
        -0.6601504714983792,
        -0.5793579974760883,
        1.3037281278126969,
    ],
    [3.765625, 4.2109375, 3.90625],
)

K = np.sqrt(2) * np.array([1, 4, 6, 4, 1]) / 16


def correlate(x: Array) -> Array:
    """K along the first axis, mirrored about the first and the last sample."""
    padded = np.pad(x, [(2, 2), (0, 0)], "reflect")
    return sum(k * padded[i : i + len(x)] for i, k in enumerate(K))


def reduce_rows(x: Array) -> Array:
    return correlate(x)[::2] if len(x) > 1 else x


def expand_rows(x: Array, side: int) -> Array:
    if side == 1:
        return x
    stuffed = np.zeros((side, x.shape[1]))
    stuffed[::2] = x
    out = correlate(stuffed)
    if (
        side == 5
    ):  # pyrtools' expand, alone at this size, forgets the tap that falls on sample 6, the mirror image of sample 2
        out[4] -= K[4] * stuffed[2]
    return out


def reduce(x: Array) -> Array:
    return reduce_rows(reduce_rows(x).T).T


def expand(x: Array, size: tuple[int, ...]) -> Array:
    return expand_rows(expand_rows(x, size[0]).T, size[1]).T


def define(image: Array, scales: int) -> list[Array]:
    g = [image]
    for _ in range(scales - 1):
        g.append(reduce(g[-1]))
    return [*(fine - expand(coarse, fine.shape) for fine, coarse in pairwise(g)), g[-1]]


def random_image(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(sum(shape)).random(shape)


def assert_pyramid(pyramid: LaplacianPyramid, expected: list[Any]) -> None:
    assert pyramid.num_scales == len(expected)
    assert sorted(pyramid.pyr_coeffs) == sorted(pyramid.pyr_size) == [(level, 0) for level in range(len(expected))]
    for level, want in enumerate(np.asarray(band, dtype=np.float64) for band in expected):
        got = pyramid.pyr_coeffs[level, 0]
        assert got.dtype == np.float64
        assert got.shape == want.shape == pyramid.pyr_size[level, 0]
        # sums of at most 34 terms twice over, whose magnitudes double with each level
        assert np.abs(got - want).max() <= 64 * 2**level * np.finfo(np.float64).eps * np.abs(pyramid.image).max()


@pytest.mark.parametrize("expected", [COEFFICIENTS_6X7, COEFFICIENTS_5X8], ids=["6x7", "5x8"])
def test_stored_images(expected: tuple[list[Any], list[Any]]) -> None:
    bands = [np.array(expected[0]) / 2**14, np.array(expected[1]) / 2**7]
    assert_pyramid(LaplacianPyramid(IMAGE[: len(bands[0]), : len(bands[0][0])]), bands)


def test_stored_signal() -> None:
    signal = np.arange(11) ** 2 % 7
    for source, shape in (
        (signal, (-1, 1)),
        (signal[:, None], (-1, 1)),
        (signal[None], (1, -1)),
        (list(signal), (-1, 1)),
    ):
        assert_pyramid(LaplacianPyramid(source), [np.reshape(band, shape) for band in SIGNAL])


@pytest.mark.parametrize("shape", SHAPES + SIGNALS, ids=str)
def test_definition(shape: tuple[int, int]) -> None:
    image = random_image(shape)
    pyramid = LaplacianPyramid(image)
    assert_pyramid(pyramid, define(image, pyramid.num_scales))
    assert np.abs(pyramid.recon_pyr() - image).max() <= 1e-14


@pytest.mark.parametrize("shape", [(64, 64), (32, 96)], ids=str)
def test_is_opencvs_pyramid_scaled(shape: tuple[int, int]) -> None:
    """Even sizes: level l is 2^l times lapcore's."""
    image = random_image(shape)
    pyramid = LaplacianPyramid(image, 4)
    for level, band in enumerate(lapcore.laplacian_pyramid(torch.from_numpy(image), 3)):
        assert np.abs(pyramid.pyr_coeffs[level, 0] - 2**level * band.numpy()).max() <= 1e-14


@pytest.mark.parametrize(
    ("shape", "highest"),
    [
        ((4, 4), 1),
        ((5, 5), 2),
        ((9, 100), 2),
        ((10, 100), 3),
        ((64, 64), 5),
        ((640, 480), 8),
        ((4, 1), 1),
        ((5,), 2),
        ((1, 40), 5),
    ],
    ids=str,
)
def test_height(shape: tuple[int, ...], highest: int) -> None:
    image = random_image(shape)
    assert LaplacianPyramid(image).num_scales == LaplacianPyramid(image, "auto").num_scales == highest
    for height in range(1, highest + 1):
        pyramid = LaplacianPyramid(image, height)
        assert pyramid.num_scales == len(pyramid.pyr_coeffs) == height
        assert np.abs(pyramid.recon_pyr().reshape(shape) - image).max() <= 1e-14
    with pytest.raises(
        ValueError, match=rf"height: .*Cannot build pyramid higher than {highest} levels; got {highest + 1}"
    ):
        LaplacianPyramid(image, highest + 1)


def recon(pyramid: LaplacianPyramid, levels: set[int]) -> Array:
    image = np.zeros_like(pyramid.pyr_coeffs[pyramid.num_scales - 1, 0])
    for level in reversed(range(pyramid.num_scales)):
        image = expand(image, pyramid.pyr_size[level, 0]) if level < pyramid.num_scales - 1 else image
        image = image + pyramid.pyr_coeffs[level, 0] * (level in levels)
    return image


@pytest.mark.parametrize(
    ("levels", "meant"),
    [
        ("all", {0, 1, 2}),
        (0, {0}),
        ([0, 2], {0, 2}),
        (np.int64(1), {1}),
        ("2", {2}),
        (["1", "residual_lowpass"], {1}),
        ("residual_highpass", set()),
        (range(2), {0, 1}),
        ([], set()),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(20, 13), (1, 11)], ids=str)
def test_reconstruction_of_some_levels(shape: tuple[int, int], levels: Any, meant: set[int]) -> None:
    pyramid = LaplacianPyramid(random_image(shape), 3)
    got = pyramid.recon_pyr(levels=levels)
    assert got.shape == shape
    assert np.abs(got - recon(pyramid, meant)).max() <= 1e-14


def test_reconstruction_takes_changed_coefficients() -> None:
    pyramid = LaplacianPyramid(random_image((16, 20)))
    before = pyramid.recon_pyr()
    pyramid.pyr_coeffs[0, 0] = pyramid.pyr_coeffs[0, 0] * 2
    pyramid.pyr_coeffs[1, 0][:] = 0
    after = recon(pyramid, set(range(pyramid.num_scales)))
    assert np.abs(pyramid.recon_pyr() - after).max() <= 1e-14
    assert np.abs(after - before).max() > 0.1


def test_attributes_and_ownership() -> None:
    source = (random_image((12, 10)) * 255).astype(np.uint8)
    pyramid = LaplacianPyramid(source)
    assert pyramid.image.dtype == np.float64
    assert np.array_equal(pyramid.image, source)
    assert pyramid.image_size == (12, 10)
    assert (pyramid.pyr_type, pyramid.edge_type) == ("Laplacian", "reflect1")
    assert (pyramid.num_orientations, pyramid.is_complex) == (1, False)
    image = random_image((4, 3))
    single = LaplacianPyramid(image)
    single.pyr_coeffs[0, 0][:] = 7
    assert np.array_equal(single.image, image)
    single.image[:] = 5
    assert image.max() < 1


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: LaplacianPyramid(np.zeros((3, 4, 5))),
            ValueError,
            r"image: expected one or two .* got shape \(3, 4, 5\)",
        ),
        (lambda: LaplacianPyramid(np.zeros((0, 4))), ValueError, "image: expected .*at least one sample"),
        (lambda: LaplacianPyramid(np.zeros((8, 8)), 0), ValueError, "height: expected 1 to 2"),
        (lambda: LaplacianPyramid(np.zeros((8, 8)), 1.5), TypeError, r"height: expected 'auto' or an int, got 1\.5"),
        (lambda: LaplacianPyramid(np.zeros((8, 8)), "2"), TypeError, "height: expected 'auto' or an int, got '2'"),
        (lambda: LaplacianPyramid(np.zeros((8, 8)), True), TypeError, "height"),
        (lambda: LaplacianPyramid(np.zeros((8, 8)), 2, "haar"), ValueError, "downsample_filter_name: .*got 'haar'"),
        (
            lambda: LaplacianPyramid(np.zeros((8, 8)), 2, "binom5", "qmf9"),
            ValueError,
            "upsample_filter_name: .*got 'qmf9'",
        ),
        (lambda: LaplacianPyramid(np.zeros((8, 8)), edge_type="zero"), ValueError, "edge_type: .*got 'zero'"),
        (
            lambda: LaplacianPyramid(np.zeros((8, 8))).recon_pyr("haar"),
            ValueError,
            "upsample_filter_name: .*got 'haar'",
        ),
        (lambda: LaplacianPyramid(np.zeros((8, 8))).recon_pyr(edge_type="zero"), ValueError, "edge_type: .*got 'zero'"),
        (lambda: LaplacianPyramid(np.zeros((8, 8))).recon_pyr(levels=2), ValueError, r"levels: .*0\.\.1, got 2"),
        (lambda: LaplacianPyramid(np.zeros((8, 8))).recon_pyr(levels=[0, -1]), ValueError, "levels: .*got -1"),
        (lambda: LaplacianPyramid(np.zeros((8, 8))).recon_pyr(levels="low"), TypeError, "levels: .*got 'low'"),
        (lambda: LaplacianPyramid(np.zeros((8, 8))).recon_pyr(levels=[0.0]), TypeError, r"levels: .*got 0\.0"),
    ],
)
def test_refusals(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
