"""PyramidPlan: the functions' bits in the same tensors at every call, allocating nothing, and one thread's only."""

from __future__ import annotations

import threading

import pytest
import torch

import lapcore
from lapcore import PyramidPlan
from tests.allocations import allocations
from tests.layouts import LAYOUTS
from tests.ops.pyramid_checks import Tensor, draw
from tests.oracle.filters import BORDERS, FILTERS
from tests.tolerance import assert_same_bits

PROBE = ("laplacian_pyramid", (1, 1, 4, 4))
KINDS = {"laplacian": lapcore.laplacian_pyramid, "gaussian": lapcore.gaussian_pyramid}
SHAPE = (2, 3, 9, 14)
RULES = [("binomial", border) for border in BORDERS] + [("half_pixel", "reflect"), ("area", "reflect")]
REFUSED = (ValueError, TypeError)


def shape_for(slow: bool) -> tuple[int, ...]:
    return (2, 4, 5) if slow else SHAPE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("filter", "border"), RULES)
def test_equals_the_function_in_the_same_tensors(
    backend: str, slow_backend: bool, device: str, kind: str, filter: str, border: str
) -> None:
    shape = shape_for(slow_backend)
    plan = PyramidPlan(shape, 3, kind=kind, device=device, filter=filter, border=border)
    pointers = None
    for seed in range(3):
        x = draw(shape, seed, device=device)
        levels = plan(x)
        assert isinstance(levels, tuple)
        for got, want in zip(levels, KINDS[kind](x, 3, filter=filter, border=border), strict=True):
            assert_same_bits(got, want)
        own = levels if kind == "laplacian" else levels[1:]
        assert pointers in (None, [level.data_ptr() for level in own])
        pointers = [level.data_ptr() for level in own]
        if kind == "gaussian":
            assert levels[0] is x


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_every_dtype_there_and_back(backend: str, slow_backend: bool, device: str, dtype: torch.dtype) -> None:
    shape = shape_for(slow_backend)
    plan, x = PyramidPlan(shape, 2, dtype=dtype, device=device), draw(shape, 1, dtype, device)
    want = lapcore.laplacian_pyramid(x, 2)
    for got, expected in zip(plan(x), want, strict=True):
        assert_same_bits(got, expected)
    image = plan.collapse()
    assert_same_bits(image, lapcore.collapse(want))
    assert plan.collapse() is image


def test_uint16_has_a_gaussian_plan_only() -> None:
    x = draw(SHAPE, 1, torch.uint16)
    for got, want in zip(
        PyramidPlan(SHAPE, 2, dtype=torch.uint16, kind="gaussian")(x), lapcore.gaussian_pyramid(x, 2), strict=True
    ):
        assert_same_bits(got, want)
    with pytest.raises(REFUSED, match="uint16"):
        PyramidPlan(SHAPE, 2, dtype=torch.uint16)


def test_collapses_another_pyramid(backend: str, slow_backend: bool, device: str) -> None:
    shape = shape_for(slow_backend)
    plan = PyramidPlan(shape, 2, device=device)
    edited = [2.0 * band for band in lapcore.laplacian_pyramid(draw(shape, 1, device=device), 2)]
    assert_same_bits(plan.collapse(edited), lapcore.collapse(edited))
    own = plan(draw(shape, 2, device=device))
    own[0].zero_()
    assert_same_bits(plan.collapse(), lapcore.collapse([band.clone() for band in own]))
    assert_same_bits(plan.collapse(own), plan.collapse().clone())


@pytest.mark.heavy
def test_reads_every_layout(backend: str, device: str) -> None:
    plan = PyramidPlan(SHAPE, 2, device=device)
    for layout in LAYOUTS.values():
        x = layout(draw(SHAPE, 1, device=device))
        for got, want in zip(plan(x), lapcore.laplacian_pyramid(x, 2), strict=True):
            assert_same_bits(got, want)


@pytest.mark.parametrize("shape", [(0, 3, 8, 9), (1, 1), (2, 3, 1, 7)], ids=str)
def test_empty_and_tiny(backend: str, device: str, shape: tuple[int, ...]) -> None:
    plan = PyramidPlan(shape, 3, device=device)
    x = draw(shape, 1, device=device)
    for got, want in zip(plan(x), lapcore.laplacian_pyramid(x, 3), strict=True):
        assert_same_bits(got, want)
    assert plan.collapse().shape == shape


@pytest.mark.real_memory
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("filter", FILTERS)
def test_a_call_allocates_nothing(filter: str, dtype: torch.dtype) -> None:
    if filter != "binomial" and dtype is torch.uint8:
        dtype = torch.float64
    with lapcore.backend("cpu"):
        shape = (2, 3, 65, 50)
        images = [draw(shape, seed, dtype) for seed in range(2)]
        images.append(LAYOUTS["channels_last"](images[0]))
        for kind in KINDS:
            plan = PyramidPlan(shape, 3, dtype=dtype, kind=kind, filter=filter)
            plan(images[0])  # tables of taps are made once
            for x in images:
                assert allocations(lambda x=x, plan=plan: plan(x)) == []
        bands = lapcore.laplacian_pyramid(images[0], 3, filter=filter)
        plan = PyramidPlan(shape, 3, dtype=dtype, filter=filter)
        plan(images[0])
        plan.collapse()
        assert allocations(plan.collapse) == []
        assert allocations(lambda: plan.collapse(bands)) == []


# Threads -------------------------------------------------------------------------------------------------------------------------


def in_a_thread(function) -> list[BaseException | None]:
    caught: list[BaseException | None] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            caught.append(error)
        else:
            caught.append(None)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return caught


def test_belongs_to_the_thread_of_its_first_call() -> None:
    x = draw(SHAPE)
    plan = PyramidPlan(SHAPE, 2)
    assert in_a_thread(lambda: plan(x)) == [None]  # made here, first called there
    for call in (lambda: plan(x), plan.collapse):
        with pytest.raises(RuntimeError, match="thread"):
            call()
    mine = PyramidPlan(SHAPE, 2)
    before = [band.clone() for band in mine(x)]
    (error,) = in_a_thread(lambda: mine(x + 1))
    assert isinstance(error, RuntimeError) and "thread" in str(error)
    for got, want in zip(mine(x), before, strict=True):
        assert_same_bits(got, want)


# Refusals ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        (((4,), 2), {}, "shape"),
        (((), 2), {}, "shape"),
        (((0, 4), 2), {}, "shape"),
        (((3, -1, 4), 2), {}, "shape"),
        (((4.0, 4), 2), {}, "shape"),
        ((7, 2), {}, "shape"),
        (("44", 2), {}, "shape"),
        ((SHAPE, -1), {}, "levels"),
        ((SHAPE, 1.5), {}, "levels"),
        ((SHAPE, None), {}, "levels"),
        ((SHAPE, 2), {"dtype": torch.int64}, "int64"),
        ((SHAPE, 2), {"dtype": "float32"}, "dtype"),
        ((SHAPE, 2), {"dtype": torch.uint8, "filter": "area"}, "uint8"),
        ((SHAPE, 2), {"kind": "steerable"}, "kind"),
        ((SHAPE, 2), {"filter": "gauss"}, "filter"),
        ((SHAPE, 2), {"border": "mirror"}, "border"),
        ((SHAPE, 2), {"filter": "area", "border": "circular"}, "border"),
    ],
    ids=str,
)
def test_bad_plans_are_refused(arguments: tuple[object, ...], options: dict[str, object], name: str) -> None:
    with pytest.raises(REFUSED, match=name):
        PyramidPlan(*arguments, **options)


def test_bad_images_are_refused() -> None:
    plan = PyramidPlan(SHAPE, 2)
    bad: list[tuple[object, str]] = [
        (torch.zeros(2, 3, 9, 13), r"2, 3, 9, 14.*2, 3, 9, 13"),
        (torch.zeros(3, 9, 14), r"2, 3, 9, 14.*3, 9, 14"),
        (torch.zeros(SHAPE, dtype=torch.float64), r"float32.*float64"),
        (torch.zeros(SHAPE, device="meta"), r"cpu.*meta"),
        (torch.zeros(SHAPE).requires_grad_(), "gradient"),
        ([[1.0]], "list"),
    ]
    for x, message in bad:
        with pytest.raises(REFUSED, match=rf"x: .*{message}"):
            plan(x)
    with torch.no_grad():
        plan(torch.zeros(SHAPE).requires_grad_())


def test_bad_pyramids_are_refused() -> None:
    plan = PyramidPlan(SHAPE, 2)
    good: list[Tensor] = list(lapcore.laplacian_pyramid(draw(SHAPE), 2))
    for bad in (
        good[:2],
        [*good, torch.zeros(2, 3, 2, 2)],
        [band.double() for band in good],
        lapcore.laplacian_pyramid(draw((1, *SHAPE[1:])), 2),
        [good[0], good[2], good[1]],
        [band.clone().requires_grad_() for band in good],
        good[0],
        [None] * 3,
    ):
        with pytest.raises(REFUSED, match="pyramid"):
            plan.collapse(bad)


def test_a_gaussian_plan_does_not_collapse() -> None:
    with pytest.raises((RuntimeError, ValueError), match="laplacian"):
        PyramidPlan(SHAPE, 2, kind="gaussian").collapse()
