"""blend against Burt and Adelson's definition: the bands of two images averaged under the mask's Gaussian pyramid."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

import lapcore
from tests.layouts import LAYOUTS
from tests.ops.pyramid_checks import Tensor, draw, dtypes
from tests.oracle import pyramid as oracle
from tests.oracle.filters import FILTERS, borders_of
from tests.tolerance import assert_close, assert_same_bits, bound, largest, to_numpy

PROBE = ("blend", (1, 1, 4, 4))
SHAPE = (2, 3, 21, 18)
REFUSED = (ValueError, TypeError)
all_rules = pytest.mark.parametrize(("filter", "border"), [(f, b) for f in FILTERS for b in borders_of(f)])


def weights(shape: tuple[int, ...], seed: int = 9, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(device)


def magnitude(a: np.ndarray, b: np.ndarray, mask: np.ndarray, levels: int, **rule: str) -> float:
    """Of b + collapse(m lap(a - b)), with every minus made a plus."""
    bands = oracle.laplacian_pyramid(np.abs(a) + np.abs(b), levels, **rule, sign=1.0)
    masks = oracle.gaussian_pyramid(np.broadcast_to(np.abs(mask), a.shape), levels, **rule)
    return largest(np.abs(b) + oracle.collapse([m * band for m, band in zip(masks, bands, strict=True)], **rule))


def check(a: Tensor, b: Tensor, mask: Tensor, levels: int, filter: str = "binomial", border: str = "reflect") -> None:
    rule = {"filter": filter, "border": border}
    got = lapcore.blend(a, b, mask, levels, **rule)
    assert got.dtype is a.dtype
    arrays = to_numpy(a), to_numpy(b), to_numpy(mask)
    tolerance = bound("blend", a.dtype, magnitude(*arrays, levels, **rule), levels, filter)
    assert_close(got, oracle.blend(*arrays, levels, **rule), tolerance, f"blend {tuple(a.shape)} {a.dtype} {rule}")


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Tensor, Tensor]:
    return draw(shape, 1, dtype, device), draw(shape, 2, dtype, device)


def test_the_oracle_blends_by_linearity() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, *SHAPE))
    mask = rng.random(SHAPE)
    bands = oracle.laplacian_pyramid(a - b, 3)
    short = b + oracle.collapse([m * h for m, h in zip(oracle.gaussian_pyramid(mask, 3), bands, strict=True)])
    np.testing.assert_allclose(oracle.blend(a, b, mask, 3), short, atol=1e-13)


@all_rules
def test_equals_the_definition(backend: str, slow_backend: bool, device: str, filter: str, border: str) -> None:
    for h, w in [(4, 5)] if slow_backend else product((1, 2, 7, 18, 33), repeat=2):
        shape = (2, h, w)
        check(*images(shape, device=device), weights((h, w), device=device), 1 if slow_backend else 3, filter, border)


@dtypes
def test_every_dtype(backend: str, slow_backend: bool, device: str, dtype: torch.dtype) -> None:
    shape = (1, 4, 5) if slow_backend else SHAPE
    check(*images(shape, dtype, device), weights(shape[-2:], 9, dtype, device), 2)


@pytest.mark.heavy
@pytest.mark.parametrize("shape", [(21, 18), (1, 1, 21, 18), (2, 1, 21, 18), (3, 21, 18), SHAPE], ids=str)
def test_masks_broadcast(backend: str, device: str, shape: tuple[int, ...]) -> None:
    check(*images(SHAPE, device=device), weights(shape, device=device), 3)


@pytest.mark.heavy
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout(backend: str, device: str, layout: Callable[[Tensor], Tensor]) -> None:
    for shape in [SHAPE, (6, 7), (1, 1, 1, 5), (2, 1, 2, 3, 5)]:
        a, b = (layout(x) for x in images(shape, device=device))
        mask = layout(weights(shape, device=device))
        check(a, b, mask, 2)
        assert_same_bits(
            lapcore.blend(a, b, mask, 2), lapcore.blend(a.contiguous(), b.contiguous(), mask.contiguous(), 2)
        )


def test_masks_of_zero_and_one_take_one_image(backend: str, device: str) -> None:
    shape = (2, 5, 6)
    a, b = images(shape, device=device)
    assert_same_bits(lapcore.blend(a, b, torch.zeros(5, 6, device=device), 2), b)
    ones = lapcore.blend(a, b, torch.ones(5, 6, device=device), 2)
    assert_close(ones, to_numpy(a), bound("blend", torch.float32, 4 * largest(to_numpy(a), to_numpy(b)), 2))


def test_zero_levels_is_a_plain_average(backend: str, device: str) -> None:
    a, b = images((2, 5, 6), device=device)
    mask = weights((5, 6), device=device)
    assert_close(
        lapcore.blend(a, b, mask, 0), to_numpy(a * mask + b * (1 - mask)), 1e-6 * float(a.abs().max() + b.abs().max())
    )


@pytest.mark.heavy
def test_a_seam_is_as_wide_as_its_band(backend: str, device: str) -> None:
    """Of two flat images the transition reaches as far as the coarsest level's taps; a plain average would jump."""
    a, b = torch.ones(16, 128, device=device), torch.zeros(16, 128, device=device)
    mask = (torch.arange(128, device=device) < 64).float().expand(16, 128)
    row = lapcore.blend(a, b, mask, 3)[7]
    assert_close(row[:32], np.ones(32), 1e-6)
    assert_close(row[-32:], np.zeros(32), 1e-6)
    assert float((row[1:] - row[:-1]).abs().max()) < 0.15


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 5, 4)], ids=str)
def test_empty_batches(backend: str, device: str, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape, device=device, requires_grad=True)
    out = lapcore.blend(x, x, torch.ones(shape[-2:], device=device), 2)
    assert out.shape == shape
    assert torch.autograd.grad(out.sum(), x)[0].shape == shape


@pytest.mark.heavy
@pytest.mark.parametrize("filter", FILTERS)
def test_gradients_reach_both_images_and_the_mask(backend: str, device: str, filter: str) -> None:
    a, b = (x.requires_grad_() for x in images((1, 2, 5, 6), torch.float64, device))
    mask = weights((5, 6), 9, torch.float64, device).requires_grad_()

    def function(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        return lapcore.blend(a, b, mask, 2, filter=filter)

    assert torch.autograd.gradcheck(function, (a, b, mask))
    assert torch.autograd.gradgradcheck(function, (a, b, mask), fast_mode=True)


@pytest.mark.heavy
def test_deterministic_algorithms_are_accepted(backend: str, device: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        grads = []
        for _ in range(2):
            a, b = (x.requires_grad_() for x in images(SHAPE, device=device))
            mask = weights((1, *SHAPE[1:]), device=device).requires_grad_()
            grads.append(torch.autograd.grad(lapcore.blend(a, b, mask, 3).square().sum(), (a, b, mask)))
    finally:
        torch.use_deterministic_algorithms(False)
    for first, second in zip(*grads, strict=True):
        assert_same_bits(first, second)


IMAGE, MASK = torch.zeros(2, 3, 12, 9), torch.zeros(12, 9)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0], IMAGE, MASK, 2), {}, "a: .*list"),
        ((IMAGE, None, MASK, 2), {}, "b: .*None"),
        ((IMAGE, IMAGE, 0.5, 2), {}, "mask: .*float"),
        ((IMAGE, IMAGE[:1], MASK, 2), {}, r"b: .*2, 3, 12, 9.*1, 3, 12, 9"),
        ((IMAGE, IMAGE, MASK[:, :1], 2), {}, r"mask: .*12, 1"),
        ((IMAGE, IMAGE, torch.zeros(3, 1, 12, 9), 2), {}, r"mask: .*3, 1, 12, 9"),
        ((IMAGE, IMAGE, torch.zeros(1, 2, 3, 12, 9), 2), {}, r"mask: .*1, 2, 3, 12, 9"),
        ((IMAGE.byte(), IMAGE.byte(), MASK.byte(), 2), {}, "a: .*uint8"),
        ((IMAGE, IMAGE.double(), MASK, 2), {}, "b: .*float32.*float64"),
        ((IMAGE, IMAGE, MASK.bool(), 2), {}, "mask: .*bool"),
        ((IMAGE, IMAGE, MASK.to("meta"), 2), {}, "mask: .*cpu.*meta"),
        ((IMAGE, IMAGE, MASK, -1), {}, "levels: .*-1"),
        ((IMAGE, IMAGE, MASK, 1.0), {}, "levels: .*1.0"),
        ((IMAGE, IMAGE, MASK, 2), {"filter": "gauss"}, "filter: .*gauss"),
        ((IMAGE, IMAGE, MASK, 2), {"border": "mirror"}, "border: .*mirror"),
        ((IMAGE, IMAGE, MASK, 2), {"filter": "area", "border": "circular"}, "border: .*circular"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    arguments: tuple[object, ...], options: dict[str, str], message: str
) -> None:
    with pytest.raises(REFUSED, match=f"^{message}"):
        lapcore.blend(*arguments, **options)
