"""Triton's nearest codes and Parzen windows, called as kernels: several programs, and what is left to the reference.

Values, layouts, dtypes and extremes are asked of them, as of every backend, in tests/ops.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.oracle import parzen as parzen_oracle
from tests.oracle import vector_quantize as oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

pytest.importorskip("triton", reason="triton is not installed")

from lapcore.kernels import _distance, parzen, vector_quantize

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def test_several_programs_and_tiles() -> None:
    x, y = draw(150, 67), draw(131, 67, seed=1)
    found = vector_quantize.vector_quantize(x, y)
    assert found is not None
    quantized, indices = found
    assert to_numpy(indices).tolist() == oracle.vector_quantize(to_numpy(x), to_numpy(y))[1].tolist()
    assert_same_bits(quantized, y[indices])
    values = parzen.parzen_log_likelihood(x, y, [1.0, 2.0, 5.0])
    assert values is not None
    for row, sigma in zip(values, (1.0, 2.0, 5.0), strict=True):
        want = parzen_oracle.parzen_log_likelihood(to_numpy(x), to_numpy(y), sigma)
        assert_close(row, want, 1e-6 * parzen_oracle.parzen_magnitude(to_numpy(x), to_numpy(y), sigma))


@pytest.mark.parametrize("centred", [False, True])
def test_half_norms(centred: bool) -> None:
    x, centre = draw(33, 130), draw(130, seed=1)
    got = _distance.half_norms(x.T.contiguous().T, centre if centred else None)
    want = np.square(to_numpy(x) - centred * to_numpy(centre)).sum(1) / 2
    assert_close(got, want, 1e-6 * want)


def test_float64_is_left_to_the_reference() -> None:
    x = draw(4, 3).double()
    assert vector_quantize.vector_quantize(x, x) is None
    assert parzen.parzen_log_likelihood(x, x, [1.0]) is None
