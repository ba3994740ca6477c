"""What the tests of the pyramid family share: random images, and one checker each for values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import pytest
import torch

import lapcore
from tests import strategies
from tests.oracle import pyramid as oracle
from tests.oracle.pyramid import BORDERS
from tests.tolerance import assert_close, bound, largest, to_numpy

Tensor = torch.Tensor
FLOATS = strategies.DTYPES
HALVES = (torch.float16, torch.bfloat16)

borders = pytest.mark.parametrize("border", BORDERS)
dtypes = pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: str(dtype).removeprefix("torch."))
SMALL = ((1, 1), (1, 3), (5, 4))  # all that Triton's interpreter is asked to run


def draw(shape: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype).to(device)


def draw_like(tensors: Sequence[Tensor], seed: int = 100) -> list[Tensor]:
    return [draw(t.shape, seed + i, t.dtype, str(t.device)) for i, t in enumerate(tensors)]


def arrays(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    return [to_numpy(t) for t in tensors]


def sizes(slow: bool, sides: Sequence[int]) -> list[tuple[int, int]]:
    """Every height with every width, or the few for a slow backend."""
    return list(SMALL) if slow else list(product(sides, repeat=2))


def up_sizes(h: int, w: int) -> Iterator[tuple[int, int]]:
    for height in (2 * h - 1, 2 * h):
        for width in (2 * w - 1, 2 * w):
            yield height, width


# One checker for values and one for gradients, which the tests below call on what they vary --------------------------------------


def check_values(x: Tensor, border: str, levels: int) -> None:
    """All five ops on x."""
    values, dtype = to_numpy(x), x.dtype
    absolute = np.abs(values)
    where = f"{tuple(x.shape)} {dtype} {border}"

    down = lapcore.pyr_down(x, border=border)
    assert down.dtype == dtype and down.device == x.device
    scale = largest(oracle.pyr_down(absolute, border))
    assert_close(down, oracle.pyr_down(values, border), bound("pyr_down", dtype, scale), f"pyr_down {where}")

    for size in up_sizes(*x.shape[-2:]):
        up = lapcore.pyr_up(x, size, border=border)
        assert up.dtype == dtype and up.device == x.device
        scale = largest(oracle.pyr_up(absolute, size, border))
        assert_close(
            up, oracle.pyr_up(values, size, border), bound("pyr_up", dtype, scale), f"pyr_up {where} to {size}"
        )

    gaussian = lapcore.gaussian_pyramid(x, levels, border=border)
    assert isinstance(gaussian, tuple) and len(gaussian) == levels + 1
    scale = largest(*oracle.gaussian_pyramid(absolute, levels, border))
    tolerance = bound("gaussian_pyramid", dtype, scale, levels)
    for level, (got, want) in enumerate(zip(gaussian, oracle.gaussian_pyramid(values, levels, border), strict=True)):
        assert_close(got, want, tolerance, f"gaussian_pyramid {where} level {level}")

    laplacian = lapcore.laplacian_pyramid(x, levels, border=border)
    assert isinstance(laplacian, tuple) and len(laplacian) == levels + 1
    scale = largest(*oracle.laplacian_pyramid(absolute, levels, border, sign=1.0))
    tolerance = bound("laplacian_pyramid", dtype, scale, levels)
    for level, (got, want) in enumerate(zip(laplacian, oracle.laplacian_pyramid(values, levels, border), strict=True)):
        assert got.dtype == dtype
        assert_close(got, want, tolerance, f"laplacian_pyramid {where} level {level}")

    bands = draw_like(laplacian)
    image = lapcore.collapse(bands, border=border)
    assert image.dtype == dtype and image.shape == x.shape
    scale = largest(oracle.collapse([np.abs(band) for band in arrays(bands)], border))
    want = oracle.collapse(arrays(bands), border)
    assert_close(image, want, bound("collapse", dtype, scale, levels), f"collapse {where}")


def check_gradients(x: Tensor, border: str, levels: int, layout: Callable[[Tensor], Tensor]) -> None:
    """All five backward passes for incoming gradients of this layout; x may have any."""
    dtype, size = x.dtype, tuple(x.shape[-2:])
    where = f"{tuple(x.shape)} {dtype} {border} {layout.__name__}"

    def compare(op: str, got: Tensor, want: np.ndarray, scale: float) -> None:
        assert got.dtype == dtype
        assert_close(got, want, bound(f"{op}_backward", dtype, scale, levels), f"{op} backward {where}")

    def backward(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[list[np.ndarray], tuple[Tensor, ...]]:
        grads = [layout(g) for g in draw_like(outputs, 200)]
        return arrays(grads), torch.autograd.grad(outputs, inputs, grads)

    leaf = x.detach().requires_grad_()
    (g,), (got,) = backward([lapcore.pyr_down(leaf, border=border)], [leaf])
    scale = largest(oracle.pyr_down_adjoint(np.abs(g), size, border))
    compare("pyr_down", got, oracle.pyr_down_adjoint(g, size, border), scale)

    for target in up_sizes(*size):
        (g,), (got,) = backward([lapcore.pyr_up(leaf, target, border=border)], [leaf])
        scale = largest(oracle.pyr_up_adjoint(np.abs(g), size, border))
        compare("pyr_up", got, oracle.pyr_up_adjoint(g, size, border), scale)

    g, (got,) = backward(lapcore.gaussian_pyramid(leaf, levels, border=border), [leaf])
    scale = largest(oracle.gaussian_pyramid_adjoint([np.abs(a) for a in g], border))
    compare("gaussian_pyramid", got, oracle.gaussian_pyramid_adjoint(g, border), scale)

    pyramid = lapcore.laplacian_pyramid(leaf, levels, border=border)
    g, (got,) = backward(pyramid, [leaf])
    scale = largest(oracle.laplacian_pyramid_adjoint([np.abs(a) for a in g], border, sign=1.0))
    compare("laplacian_pyramid", got, oracle.laplacian_pyramid_adjoint(g, border), scale)

    bands = [band.detach().requires_grad_() for band in pyramid]
    (g,), grads = backward([lapcore.collapse(bands, border=border)], bands)
    scale = largest(*oracle.collapse_adjoint(np.abs(g), levels, border))
    for got, want in zip(grads, oracle.collapse_adjoint(g, levels, border), strict=True):
        compare("collapse", got, want, scale)
