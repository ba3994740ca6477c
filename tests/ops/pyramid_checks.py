"""What the tests of the pyramid family share: random images, and one checker each for values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import pytest
import torch

import lapcore
from tests import strategies
from tests.oracle import integer
from tests.oracle import pyramid as oracle
from tests.oracle.filters import BORDERS, FILTERS, borders_of, down_matrix, taps, up_matrix
from tests.tolerance import assert_close, bound, largest, resize_bound, to_numpy

Tensor = torch.Tensor
Size = tuple[int, int]
FLOATS = strategies.DTYPES
HALVES = (torch.float16, torch.bfloat16)
INTEGERS = strategies.INTEGERS

borders = pytest.mark.parametrize("border", BORDERS)
dtypes = pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: str(dtype).removeprefix("torch."))
integers = pytest.mark.parametrize("dtype", INTEGERS, ids=lambda dtype: str(dtype).removeprefix("torch."))
filters = pytest.mark.parametrize("filter", FILTERS)
rules = pytest.mark.parametrize(
    ("filter", "border"), [(filter, border) for filter in FILTERS[1:] for border in borders_of(filter)]
)
"""The filters other than the default, with their borders."""
SMALL = ((1, 1), (1, 3), (5, 4))  # all that Triton's interpreter is asked to run


def draw(shape: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    """Standard normal floats, or integers of the whole range."""
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype).to(device)
    info = torch.iinfo(dtype)
    return torch.randint(info.min, info.max + 1, tuple(shape), generator=generator).to(dtype).to(device)


def draw_like(tensors: Sequence[Tensor], seed: int = 100) -> list[Tensor]:
    return [draw(t.shape, seed + i, t.dtype, str(t.device)) for i, t in enumerate(tensors)]


def arrays(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    return [to_numpy(t) for t in tensors]


def crossed(sides: Sequence[int]) -> list[Size]:
    """Every height and every width, each with a few of the other; random sizes have tests of their own."""
    few = (1, 2, 5, 16)
    return [(h, w) for h, w in product(sides, repeat=2) if h in few or w in few]


def sizes(slow: bool, sides: Sequence[int]) -> list[Size]:
    """Those, or the few for a slow backend."""
    return list(SMALL) if slow else crossed(sides)


def up_sizes(h: int, w: int) -> Iterator[Size]:
    for height in (2 * h - 1, 2 * h):
        for width in (2 * w - 1, 2 * w):
            yield height, width


def other_sizes(filter: str, op: str, h: int, w: int) -> list[Size]:
    """A few of the sizes that a filter takes beside the default."""
    if filter == "binomial":
        return list(up_sizes(h, w))[:-1] if op == "up" else []
    if op == "up":
        return [(2 * h + 1, 2 * w + 1), (h + h // 3, w + 5), (h, w), (3 * h, 2 * w - 1)]
    if filter == "area":
        return [(1, 1), (h, w), (h - h // 3, max(1, w - 1))]
    return [(1, w), (h, 1), (h - h // 3, w + 2)]


def check_resizes(x: Tensor, border: str, filter: str) -> None:
    """pyr_down and pyr_up to sizes of the caller's choice."""
    values, dtype = to_numpy(x), x.dtype
    absolute = np.abs(values)
    for size in other_sizes(filter, "down", *x.shape[-2:]):
        count = matrix_taps(down_matrix(n, border, m, filter) for n, m in zip(x.shape[-2:], size, strict=True))
        tolerance = resize_bound(count, dtype, largest(oracle.pyr_down(absolute, border, filter, size)))
        got = lapcore.pyr_down(x, size, filter=filter, border=border)
        what = f"pyr_down {filter} {border} {tuple(x.shape)} to {size}"
        assert_close(got, oracle.pyr_down(values, border, filter, size), tolerance, what)
    for size in other_sizes(filter, "up", *x.shape[-2:]):
        count = matrix_taps(up_matrix(n, m, border, filter) for n, m in zip(x.shape[-2:], size, strict=True))
        tolerance = resize_bound(count, dtype, largest(oracle.pyr_up(absolute, size, border, filter)))
        got = lapcore.pyr_up(x, size, filter=filter, border=border)
        what = f"pyr_up {filter} {border} {tuple(x.shape)} to {size}"
        assert_close(got, oracle.pyr_up(values, size, border, filter), tolerance, what)


def matrix_taps(matrices: Iterator[np.ndarray]) -> int:
    rows, columns = matrices
    return taps(rows) * taps(columns)


# One checker for values and one for gradients, which the tests call on what they vary ---------------------------------------------


def check_values(x: Tensor, border: str, levels: int, filter: str = "binomial") -> None:
    """All five ops on x."""
    values, dtype = to_numpy(x), x.dtype
    absolute = np.abs(values)
    rule = {"filter": filter, "border": border}
    where = f"{tuple(x.shape)} {dtype} {filter} {border}"

    def compare(op: str, got: Tensor, want: np.ndarray, scale: float, what: str = "") -> None:
        assert got.dtype == dtype and got.device == x.device
        assert_close(got, want, bound(op, dtype, scale, levels, filter), f"{op} {where}{what}")

    down = lapcore.pyr_down(x, **rule)
    compare("pyr_down", down, oracle.pyr_down(values, **rule), largest(oracle.pyr_down(absolute, **rule)))
    up = lapcore.pyr_up(x, **rule)
    compare("pyr_up", up, oracle.pyr_up(values, **rule), largest(oracle.pyr_up(absolute, **rule)))
    check_resizes(x, border, filter)

    gaussian = lapcore.gaussian_pyramid(x, levels, **rule)
    assert isinstance(gaussian, tuple) and len(gaussian) == levels + 1
    scale = largest(*oracle.gaussian_pyramid(absolute, levels, **rule))
    for level, (got, want) in enumerate(zip(gaussian, oracle.gaussian_pyramid(values, levels, **rule), strict=True)):
        compare("gaussian_pyramid", got, want, scale, f" level {level}")

    laplacian = lapcore.laplacian_pyramid(x, levels, **rule)
    assert isinstance(laplacian, tuple) and len(laplacian) == levels + 1
    scale = largest(*oracle.laplacian_pyramid(absolute, levels, **rule, sign=1.0))
    for level, (got, want) in enumerate(zip(laplacian, oracle.laplacian_pyramid(values, levels, **rule), strict=True)):
        compare("laplacian_pyramid", got, want, scale, f" level {level}")

    bands = draw_like(laplacian)
    image = lapcore.collapse(bands, **rule)
    assert image.shape == x.shape
    scale = largest(oracle.collapse([np.abs(band) for band in arrays(bands)], **rule))
    compare("collapse", image, oracle.collapse(arrays(bands), **rule), scale)


def check_integers(x: Tensor, border: str, levels: int) -> None:
    """All five ops on an image of integers, to the last bit; uint16 has no bands."""
    values, name = to_numpy(x), str(x.dtype).removeprefix("torch.")
    where = f"{tuple(x.shape)} {name} {border}"

    def compare(op: str, got: Tensor, want: np.ndarray, dtype: torch.dtype = x.dtype) -> None:
        assert got.dtype == dtype and got.device == x.device
        assert_close(got, want, 0.0, f"{op} {where}")

    compare("pyr_down", lapcore.pyr_down(x, border=border), integer.pyr_down(values, name, border))
    for size in up_sizes(*x.shape[-2:]):
        compare("pyr_up", lapcore.pyr_up(x, size, border=border), integer.pyr_up(values, name, size, border))
    gaussian = integer.gaussian_pyramid(values, levels, name, border)
    for got, want in zip(lapcore.gaussian_pyramid(x, levels, border=border), gaussian, strict=True):
        compare("gaussian_pyramid", got, want)
    if x.dtype is torch.uint16:
        return
    pyramid = lapcore.laplacian_pyramid(x, levels, border=border)
    for got, want in zip(pyramid, integer.laplacian_pyramid(values, levels, name, border), strict=True):
        compare("laplacian_pyramid", got, want, torch.int16)
    for bands in (pyramid, draw_like(pyramid)):
        image = lapcore.collapse(bands, border=border)
        compare("collapse", image, integer.collapse(arrays(bands), border), torch.int16)
    if x.dtype is torch.uint8:
        assert_close(lapcore.collapse(pyramid, border=border), values, 0.0, f"round trip {where}")


def check_gradients(
    x: Tensor, border: str, levels: int, layout: Callable[[Tensor], Tensor], filter: str = "binomial"
) -> None:
    """All five backward passes for incoming gradients of this layout; x may have any."""
    dtype, size = x.dtype, tuple(x.shape[-2:])
    rule = {"filter": filter, "border": border}
    where = f"{tuple(x.shape)} {dtype} {filter} {border} {layout.__name__}"

    def compare(op: str, got: Tensor, want: np.ndarray, scale: float) -> None:
        assert got.dtype == dtype
        assert_close(got, want, bound(f"{op}_backward", dtype, scale, levels, filter), f"{op} backward {where}")

    def backward(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[list[np.ndarray], tuple[Tensor, ...]]:
        grads = [layout(g) for g in draw_like(outputs, 200)]
        return arrays(grads), torch.autograd.grad(outputs, inputs, grads)

    leaf = x.detach().requires_grad_()
    (g,), (got,) = backward([lapcore.pyr_down(leaf, **rule)], [leaf])
    scale = largest(oracle.pyr_down_adjoint(np.abs(g), size, **rule))
    compare("pyr_down", got, oracle.pyr_down_adjoint(g, size, **rule), scale)

    for target in up_sizes(*size) if filter == "binomial" else [(2 * size[0], 2 * size[1])]:
        (g,), (got,) = backward([lapcore.pyr_up(leaf, target, **rule)], [leaf])
        scale = largest(oracle.pyr_up_adjoint(np.abs(g), size, **rule))
        compare("pyr_up", got, oracle.pyr_up_adjoint(g, size, **rule), scale)

    g, (got,) = backward(lapcore.gaussian_pyramid(leaf, levels, **rule), [leaf])
    scale = largest(oracle.gaussian_pyramid_adjoint([np.abs(a) for a in g], **rule))
    compare("gaussian_pyramid", got, oracle.gaussian_pyramid_adjoint(g, **rule), scale)

    pyramid = lapcore.laplacian_pyramid(leaf, levels, **rule)
    g, (got,) = backward(pyramid, [leaf])
    scale = largest(oracle.laplacian_pyramid_adjoint([np.abs(a) for a in g], **rule, sign=1.0))
    compare("laplacian_pyramid", got, oracle.laplacian_pyramid_adjoint(g, **rule), scale)

    bands = [band.detach().requires_grad_() for band in pyramid]
    (g,), grads = backward([lapcore.collapse(bands, **rule)], bands)
    scale = largest(*oracle.collapse_adjoint(np.abs(g), levels, **rule))
    for got, want in zip(grads, oracle.collapse_adjoint(g, levels, **rule), strict=True):
        compare("collapse", got, want, scale)
