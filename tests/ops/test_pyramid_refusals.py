"""What the pyramid family refuses, and the choice of its backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import lapcore
from tests.oracle.pyramid import BORDERS
from tests.tolerance import assert_same_bits

PROBE = ("laplacian_pyramid", (1, 1, 4, 4))


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
    "dtype", [torch.int8, torch.uint32, torch.int32, torch.int64, torch.bool, torch.complex64], ids=lambda d: str(d)
)
def test_other_integers_and_complex_numbers_are_refused_by_name(call: Call, dtype: torch.dtype) -> None:
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


@on_images
@pytest.mark.parametrize("border", [name for name in BORDERS if name != "reflect"])
def test_the_area_filter_has_no_border(call: Call, border: str) -> None:
    with pytest.raises(ValueError, match=r"border.*area") as caught:
        call(IMAGE, filter="area", border=border)
    assert repr(border) in str(caught.value)


@with_levels
@pytest.mark.parametrize("levels", [-1, 1.0, 1.5, "2", None, (1,), torch.tensor(1.0)])
def test_levels_are_whole_numbers_from_zero(call: Call, levels: object) -> None:
    with pytest.raises(REFUSED, match="levels"):
        call(IMAGE, levels)


NO_SIZES = [(0, 0), (-1, 8), (10,), (10, 8, 1), 10, "10", (10.0, 8.0), (None, 8), (True, 8), torch.tensor((10, 8))]


@pytest.mark.parametrize("size", [(11, 8), (10, 9), (8, 8), (10, 6), (5, 4), *NO_SIZES], ids=str)
def test_sizes_other_than_2n_minus_1_and_2n_are_refused(size: object) -> None:
    with pytest.raises(REFUSED, match="size"):
        lapcore.pyr_up(IMAGE, size)


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (5, 4), (10, 8), *NO_SIZES], ids=str)
def test_sizes_other_than_half_are_refused(size: object) -> None:
    with pytest.raises(REFUSED, match="size"):
        lapcore.pyr_down(IMAGE, size)
    assert_same_bits(lapcore.pyr_down(IMAGE, (3, 2)), lapcore.pyr_down(IMAGE))


@pytest.mark.parametrize("call", [lapcore.pyr_down, lapcore.pyr_up])
@pytest.mark.parametrize("filter", ["half_pixel", "area"])
@pytest.mark.parametrize("size", NO_SIZES, ids=str)
def test_sizes_are_two_whole_numbers_from_one(call: Call, filter: str, size: object) -> None:
    with pytest.raises(REFUSED, match="size"):
        call(IMAGE, size, filter=filter)


@pytest.mark.parametrize("size", [(6, 4), (5, 5), (10, 8)], ids=str)
def test_an_area_average_only_shrinks(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"size: .*5, 4") as caught:
        lapcore.pyr_down(IMAGE, size, filter="area")
    assert str(size) in str(caught.value)


@pytest.mark.parametrize("size", [(4, 4), (5, 3), (3, 2)], ids=str)
def test_area_up_only_grows(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"size: .*5, 4") as caught:
        lapcore.pyr_up(IMAGE, size, filter="area")
    assert str(size) in str(caught.value)


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
    "bytes": [torch.zeros(2, 5, 4, dtype=torch.uint8), torch.zeros(2, 3, 2, dtype=torch.uint8)],
    "integers among floats": [PYRAMID[0], torch.zeros(2, 3, 2, dtype=torch.int16)],
}


@pytest.mark.parametrize("pyramid", BROKEN.values(), ids=BROKEN.keys())
def test_broken_pyramids_are_refused(pyramid: object) -> None:
    with pytest.raises(REFUSED, match="pyramid"):
        lapcore.collapse(pyramid)


def test_a_mismatched_level_is_named() -> None:
    with pytest.raises(ValueError, match=r"pyramid\[2\].*2, 2, 1.*2, 4, 1"):
        lapcore.collapse([PYRAMID[0], PYRAMID[1], torch.zeros(2, 4, 1)])


def test_levels_of_another_filter_are_refused() -> None:
    """An odd side of 5 halves to 3 or, with half_pixel, to 2."""
    with pytest.raises(ValueError, match=r"pyramid\[1\].*2, 2, 2.*2, 3, 2"):
        lapcore.collapse(PYRAMID[:2], filter="half_pixel")


def test_options_are_keywords() -> None:
    with pytest.raises(TypeError):
        lapcore.pyr_down(IMAGE, None, "binomial")
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
