"""What Python hands to the CUDA functions of vector quantisation and Parzen windows, with the oracles behind them."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lapcore import native
from tests.cuda.harness import DTYPES, draw
from tests.layouts import LAYOUTS
from tests.oracle import parzen as parzen_oracle
from tests.oracle import vector_quantize as codes_oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

STREAM = 7
WORK = 24
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
Described = tuple[int, tuple[int, ...], tuple[int, ...]]


class Kernels:
    """Stands for lapcore._C on CPU tensors: knows tensors by their addresses, and does by the oracles what its kernels do."""

    def __init__(self) -> None:
        self.lent: dict[int, torch.Tensor] = {}
        self.made: list[torch.Tensor] = []

    def describe(self, x: torch.Tensor) -> Described:
        self.lent[x.data_ptr()] = x
        return x.data_ptr(), tuple(x.shape), tuple(x.stride())

    def at(self, described: Described) -> torch.Tensor:
        """As the kernels read it: from the address, rows a stride apart, values next to each other."""
        address, shape, strides = described
        assert shape[1] == 1 or strides[1] == 1
        return self.lent[address].as_strided(shape, (strides[0], 1))

    def made_at(self, address: int) -> torch.Tensor:
        return next(x for x in self.made if x.data_ptr() == address)

    def cuda_vector_quantize_work(self, dtype: int, rows: int, codes: int) -> int:
        return WORK

    def cuda_vector_quantize(
        self, dtype: int, stream: int, z: Any, codebook: Any, quantized: Any, indices: int, work: int
    ) -> None:
        rows, codes, out, found = self.at(z), self.at(codebook), self.at(quantized), self.made_at(indices)
        assert stream == STREAM and DTYPES[dtype] == rows.dtype == codes.dtype == out.dtype
        assert out.is_contiguous() and found.shape == (len(rows),) and found.dtype == torch.int64
        assert self.made_at(work).shape == (WORK,) and self.made_at(work).dtype == torch.uint8
        found.copy_(torch.from_numpy(codes_oracle.vector_quantize(to_numpy(rows), to_numpy(codes))[1]))
        out.copy_(codes[found])

    def cuda_parzen_work(self, dtype: int, rows: int, samples: int, sigmas: int) -> int:
        return WORK

    def cuda_parzen_log_likelihood(
        self, dtype: int, stream: int, x: Any, samples: Any, sigmas: list[float], out: int, work: int
    ) -> None:
        rows, centres, result = self.at(x), self.at(samples), self.made_at(out)
        assert stream == STREAM and DTYPES[dtype] == rows.dtype == centres.dtype == result.dtype
        assert result.shape == (len(sigmas), len(rows)) and self.made_at(work).shape == (WORK,)
        assert rows.data_ptr() % 16 == 0 and rows.stride(0) % 4 == 0 and centres.stride(0) % 4 == 0
        for row, sigma in zip(result, sigmas, strict=True):
            values = parzen_oracle.parzen_log_likelihood(to_numpy(rows), to_numpy(centres), sigma)
            row.copy_(torch.from_numpy(values))


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore.native.cuda import parzen, vector_quantize

    fake, empty = Kernels(), torch.empty

    def remembered(*args: Any, **kwargs: Any) -> torch.Tensor:
        fake.made.append(empty(*args, **kwargs))
        return fake.made[-1]

    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(torch, "empty", remembered)
    for module in (parzen, vector_quantize):
        monkeypatch.setattr(module, "_C", fake)
        monkeypatch.setattr(module, "describe", fake.describe)
    return fake


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_codes_of_any_layout(kernels: Kernels, dtype: torch.dtype, layout: str) -> None:
    from lapcore.native.cuda import vector_quantize as cuda

    for depth in (1, 6):
        z, codebook = (LAYOUTS[layout](draw(n, depth, seed=n, dtype=dtype)) for n in (7, 5))
        quantized, indices = cuda.vector_quantize(z, codebook)
        assert indices.tolist() == codes_oracle.vector_quantize(to_numpy(z), to_numpy(codebook))[1].tolist()
        assert quantized.is_contiguous()
        assert_same_bits(quantized, codebook[indices])


def test_rows_next_to_each_other_are_not_copied(kernels: Kernels) -> None:
    from lapcore.native.cuda import vector_quantize as cuda

    z, codebook = draw(7, 9, seed=0, dtype=torch.float32)[:, :6], draw(5, 6, seed=1, dtype=torch.float32)
    cuda.vector_quantize(z, codebook)
    assert z.data_ptr() in kernels.lent and codebook.data_ptr() in kernels.lent


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_windows_of_any_layout_around_the_samples_mean(kernels: Kernels, dtype: torch.dtype, layout: str) -> None:
    from lapcore.native.cuda import parzen as cuda

    for depth in (1, 6, 8):
        x, samples = (LAYOUTS[layout](50 + draw(n, depth, seed=n, dtype=dtype)) for n in (7, 5))
        got = cuda.parzen_log_likelihood(x, samples, [0.5, 2.0])
        expected = np.stack(
            [parzen_oracle.parzen_log_likelihood(to_numpy(x), to_numpy(samples), s) for s in (0.5, 2.0)]
        )
        assert got.dtype == torch.promote_types(dtype, torch.float32)
        assert_close(got, expected, 1e-5 * (1 + abs(expected)))
        assert max(float(x.nan_to_num().abs().max()) for x in kernels.lent.values()) < 10
        kernels.lent.clear()


def test_what_is_not_finite_keeps_its_meaning(kernels: Kernels) -> None:
    from lapcore.native.cuda import parzen as cuda

    x, samples = torch.tensor([[1.0, 2], [math.inf, 0], [math.nan, 0]]), torch.tensor([[0.0, 1], [1, math.inf]])
    got = cuda.parzen_log_likelihood(x, samples, [1.0])[0]
    expected = parzen_oracle.parzen_log_likelihood(to_numpy(x[:1]), to_numpy(samples[:1]), 1.0) - math.log(2)
    assert_close(got[:1], expected, 1e-6)
    assert got[1] == -math.inf and got[2].isnan()
