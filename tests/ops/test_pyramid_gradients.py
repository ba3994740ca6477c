"""Gradients of the pyramid family against the oracle's adjoints, for every layout, size and dtype."""

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
from tests.ops.pyramid_checks import Tensor, borders, check_gradients, draw, draw_like, dtypes
from tests.oracle import pyramid as oracle
from tests.oracle.pyramid import BORDERS
from tests.tolerance import ROUND_TRIP, assert_close, assert_same_bits, bound, largest, to_numpy

PROBE = ("laplacian_pyramid", (1, 1, 4, 4))


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
