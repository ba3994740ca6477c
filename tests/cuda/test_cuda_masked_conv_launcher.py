"""What Python hands to the CUDA functions of masked convolutions and their activations, with the kernels, as host code, behind."""

from __future__ import annotations

import ctypes
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lapcore import native
from lapcore.reference import masked_conv as reference
from lapcore.reference.masked_conv import MASKS
from tests.cuda import harness
from tests.cuda.harness import DTYPES, draw
from tests.cuda.test_cuda_masked_conv import FIRSTS, convolution, of
from tests.layouts import LAYOUTS
from tests.tolerance import assert_close, to_numpy

STREAM = 7
Tensor = torch.Tensor


def memory_at(address: int, shape: Any, strides: Any, dtype: torch.dtype) -> Tensor:
    span = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    memory = (ctypes.c_char * (span * dtype.itemsize)).from_address(address)
    return torch.frombuffer(memory, dtype=dtype).as_strided(shape, strides)


class Kernels:
    """Stands for lapcore._C on CPU tensors: runs its kernels as host code on what lies at the addresses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, function: str, numbers: Any, given: list[Any], out: Any) -> None:
        """Tensors are (address, shape, strides)."""
        dtype, stream, *rest = numbers
        assert stream == STREAM
        *tensors, result = [None if t is None else memory_at(*t, DTYPES[dtype]) for t in (*given, out)]
        case = harness.Case(function, (dtype, 0, *map(int, rest)), [*tensors, result.clone()], [len(given)])
        result.copy_(of(case, self.folder))

    def cuda_masked_conv2d_work(self, dtype: int, masked: Any, weight: Any) -> int:
        return 8

    def cuda_masked_conv2d_backward_weight_work(self, dtype: int, masked: Any, weight: Any, pixels: int) -> int:
        return 8

    def cuda_masked_conv2d(self, dtype: int, stream: int, masked: Any, *rest: Any) -> None:
        x, weight, bias, condition, activation, out, _ = rest
        added = (bias, weight[1][:1], (1,)) if bias else None
        self.run("masked_conv", (dtype, stream, *masked, activation), [x, weight, added, condition], out)

    def cuda_masked_conv2d_backward_input(self, dtype: int, stream: int, masked: Any, *rest: Any) -> None:
        grad, weight, dx, _ = rest
        self.run("masked_conv_input", (dtype, stream, *masked), [grad, weight], dx)

    def cuda_masked_conv2d_backward_weight(self, dtype: int, stream: int, masked: Any, *rest: Any) -> None:
        grad, x, dw, _ = rest
        self.run("masked_conv_weight", (dtype, stream, *masked), [grad, x], dw)

    def rows(
        self, function: str, numbers: Any, shape: Any, given: list[tuple[Any, int]], out: int, halves: int
    ) -> None:
        """Rows are ((address, stride), how many halves)."""
        n, length = shape
        tensors = [(at, (n, k * length), (stride, 1)) for (at, stride), k in given]
        self.run(function, numbers, tensors, (out, (n, halves * length), (halves * length, 1)))

    def cuda_gated_activation(self, dtype: int, stream: int, shape: Any, first: int, x: Any, y: int) -> None:
        self.rows("gated_activation", (dtype, stream, first), shape, [(x, 2)], y, 1)

    def cuda_gated_activation_backward(self, dtype: int, stream: int, shape: Any, first: int, *rest: Any) -> None:
        grad, x, dx = rest
        self.rows("gated_activation_backward", (dtype, stream, first), shape, [(grad, 1), (x, 2)], dx, 2)

    def cuda_concat_elu(self, dtype: int, stream: int, shape: Any, x: Any, y: int) -> None:
        self.rows("concat_elu", (dtype, stream), shape, [(x, 1)], y, 2)

    def cuda_concat_elu_backward(self, dtype: int, stream: int, shape: Any, grad: Any, x: Any, dx: int) -> None:
        self.rows("concat_elu_backward", (dtype, stream), shape, [(grad, 2), (x, 1)], dx, 1)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore.native.cuda import masked_conv

    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(masked_conv, "_C", Kernels(tmp_path))
    return masked_conv


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_through_python(cuda: Any, layout: str) -> None:
    """Against the reference; every argument in that layout."""
    put, turn = LAYOUTS[layout], list(LAYOUTS).index(layout)
    it = convolution((2, 4, 6, 4, 5, (3, 3), 2), torch.float64, MASKS[turn % 4], turn)
    x, weight, bias = put(it.x), put(it.weight), it.bias
    condition = None if it.condition is None else put(it.condition)
    arguments = x, weight, bias, condition, it.mask, it.groups, it.stride, it.activation, it.halves
    assert_close(cuda.masked_conv2d(*arguments), to_numpy(reference.masked_conv2d(*arguments)), 1e-12)
    grad, needs = put(it.grad()), (turn % 3 != 1, turn % 3 != 2)
    arguments = grad, x, weight, it.mask, it.groups, it.halves, it.stride, needs
    got, expected = (room.masked_conv2d_backward(*arguments) for room in (cuda, reference))
    assert [t is not None for t in got] == list(needs)
    for a, b in zip(got, expected, strict=True):
        if a is not None:
            assert_close(a, to_numpy(b), 1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_activations_of_any_layout_through_python(cuda: Any, layout: str) -> None:
    put, first = LAYOUTS[layout], FIRSTS[list(LAYOUTS).index(layout) % 2]
    half, whole = (put(draw(2, k, 3, 4, seed=k, dtype=torch.float64)) for k in (3, 6))
    for name, *arguments in (
        ("gated_activation", whole, first),
        ("gated_activation_backward", half, whole, first),
        ("concat_elu", half),
        ("concat_elu_backward", whole, half),
    ):
        got, expected = (getattr(room, name)(*arguments) for room in (cuda, reference))
        assert got.is_contiguous()
        assert_close(got, to_numpy(expected), 1e-12, name)
