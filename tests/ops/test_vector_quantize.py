"""The nearest code: against the oracle, at ties and extremes, its straight-through gradient, and its memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.allocations import allocations, peak
from tests.layouts import LAYOUTS
from tests.oracle import vector_quantize as oracle
from tests.tolerance import ACCUMULATOR, assert_same_bits, to_numpy

PROBE = ("vector_quantize", (2, 3))
Tensor = torch.Tensor
# NumPy's, in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def check(z: Tensor, codebook: Tensor) -> Tensor:
    """The chosen code is the nearest, up to what rounding hides. A score is off by (D + 2) u of its magnitude; a squared distance
    is twice a score; two of them are compared."""
    quantized, indices = lapcore.vector_quantize(z, codebook)
    assert quantized.shape == z.shape and quantized.dtype == z.dtype and quantized.is_contiguous()
    assert indices.shape == z.shape[:-1] and indices.dtype == torch.int64
    assert_same_bits(quantized, codebook[indices])
    rows, codes = to_numpy(z).reshape(-1, z.shape[-1]), to_numpy(codebook)
    excess = oracle.excess(rows, codes, to_numpy(indices).ravel())
    unit = torch.finfo(ACCUMULATOR[z.dtype]).eps / 2
    allowed = 4 * (z.shape[-1] + 2) * unit * oracle.magnitude(rows, codes)
    worst = int(np.argmax(excess - allowed)) if len(excess) else 0
    assert (excess <= allowed).all(), f"row {worst}: {excess[worst]} further than the nearest, allowed {allowed[worst]}"
    return indices


SHAPES = [((7, 5), 4), ((1, 1), 1), ((3, 4, 5, 16), 33), ((0, 3), 4), ((19, 64), 130), ((65, 3), 17), ((2, 0, 4), 3)]


@pytest.mark.parametrize("dtype", strategies.DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "codes"), SHAPES)
def test_nearest(backend: str, device: str, shape: tuple[int, ...], codes: int, dtype: torch.dtype) -> None:
    check(draw(shape, 1, dtype, device), draw((codes, shape[-1]), 2, dtype, device))


@pytest.mark.heavy
def test_more_rows_and_codes_than_a_tile(backend: str, device: str) -> None:
    indices = check(draw((2500, 7), 1, device=device), draw((2100, 7), 2, device=device))
    assert indices.max() > 2047


def test_any_call(backend: str, slow_backend: bool, device: str) -> None:
    most = 20 if slow_backend else 300

    @settings(max_examples=6 if slow_backend else 60)
    @given(
        rows=st.integers(0, most),
        codes=st.integers(1, most),
        size=st.integers(1, 40),
        scale=st.floats(1e-3, 1e3),
        dtype=strategies.dtypes,
        layouts=st.tuples(strategies.layouts, strategies.layouts),
    )
    def run(rows: int, codes: int, size: int, scale: float, dtype: torch.dtype, layouts: tuple[str, str]) -> None:
        z, codebook = draw((rows, size), 3) * scale, draw((codes, size), 4) * scale
        strided = [LAYOUTS[name](x.to(device, dtype)) for x, name in zip((z, codebook), layouts, strict=True)]
        indices = check(*strided)
        assert_same_bits(indices, lapcore.vector_quantize(*[x.contiguous() for x in strided])[1])

    run()


def test_the_lowest_index_of_equals(backend: str, device: str) -> None:
    """Of small integers every score is exact, so that only the rule decides."""
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randint(-1, 2, (60, 2), generator=generator).float().to(device)
    z = torch.randint(-2, 3, (40, 2), generator=generator).float().to(device)
    _, indices = lapcore.vector_quantize(z, codebook)
    assert to_numpy(indices).tolist() == oracle.vector_quantize(to_numpy(z), to_numpy(codebook))[1].tolist()
    same = torch.ones(50, 3, device=device)
    assert (lapcore.vector_quantize(same[:5], same)[1] == 0).all()


def test_not_finite(backend: str, device: str) -> None:
    z, codebook = draw((6, 5), 1, device=device), draw((9, 5), 2, device=device)
    z[1, 2] = z[4, 0] = math.nan
    codebook[0, 1], codebook[5, 0], codebook[7] = math.nan, math.inf, -math.inf
    _, indices = lapcore.vector_quantize(z, codebook)
    assert to_numpy(indices).tolist() == oracle.vector_quantize(to_numpy(z), to_numpy(codebook))[1].tolist()
    assert indices[1] == indices[4] == 0
    z[2] = math.inf
    assert 0 <= int(lapcore.vector_quantize(z, codebook)[1][2]) < len(codebook)


def test_straight_through(backend: str, device: str) -> None:
    z = draw((3, 4, 6), 1, device=device).requires_grad_()
    codebook = draw((5, 6), 2, device=device).requires_grad_()
    quantized, indices = lapcore.vector_quantize(z, codebook)
    assert quantized.requires_grad and not indices.requires_grad
    grad = draw((3, 4, 6), 3, device=device)
    got = torch.autograd.grad(quantized, (z, codebook), grad, allow_unused=True)
    assert got[0] is not None and got[1] is None
    assert_same_bits(got[0], grad)
    assert not lapcore.vector_quantize(z.detach(), codebook)[0].requires_grad


def test_a_row_does_not_depend_on_its_batch(backend: str, slow_backend: bool, device: str) -> None:
    if backend == "reference" or slow_backend:
        pytest.skip("torch's matrix product is not batch-invariant, nor is NumPy's, which Triton's interpreter runs on")
    z, codebook = draw((37, 6), 1, torch.float16, device), draw((21, 6), 2, torch.float16, device)
    whole = lapcore.vector_quantize(z, codebook)[1]
    parts = [lapcore.vector_quantize(z[i : i + n], codebook)[1] for i, n in ((0, 1), (1, 17), (18, 19))]
    assert_same_bits(torch.cat(parts), whole)


@pytest.mark.heavy
def test_memory_holds_no_table(backend: str, device: str) -> None:
    """A table of 6000 x 6000 scores would take 144 MB."""
    if device == "cuda":
        pytest.skip("counts the memory of the CPU")
    z, codebook = draw((6000, 4), 1), draw((6000, 4), 2)
    lapcore.vector_quantize(z[:10], codebook)
    assert max(allocations(lambda: lapcore.vector_quantize(z, codebook))) <= 1024 * 1024 * 4
    assert peak(lambda: lapcore.vector_quantize(z, codebook)) < 64e6


BAD = [
    ("z", TypeError, lambda z, e: (z.numpy(), e)),
    ("z", TypeError, lambda z, e: (z.int(), e)),
    ("codebook", TypeError, lambda z, e: (z, e.long())),
    ("codebook", ValueError, lambda z, e: (z, e[0])),
    ("codebook", ValueError, lambda z, e: (z, e[:0])),
    ("z", ValueError, lambda z, e: (z[..., :2], e)),
    ("z", ValueError, lambda z, e: (z[0, 0], e)),
    ("codebook", ValueError, lambda z, e: (z, e.double())),
    ("codebook", ValueError, lambda z, e: (z, e.to("meta"))),
]


@pytest.mark.parametrize(("name", "error", "change"), BAD)
def test_refusals(name: str, error: type[Exception], change) -> None:
    with pytest.raises(error, match=f"^{name}: expected"):
        lapcore.vector_quantize(*change(draw((4, 3), 1), draw((5, 3), 2)))
