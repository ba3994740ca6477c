"""Masked convolutions and their activations by the CUDA kernels: exact chains, gradients, what is dead, batches, layouts, sanitizers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lapcore import native
from lapcore.reference.masked_conv import MASKS, whole_taps
from tests.cuda import harness
from tests.cuda.harness import DTYPES, REFUSED_STREAM, SANITIZERS, blank, draw
from tests.layouts import LAYOUTS
from tests.oracle import masked_conv as oracle
from tests.tolerance import ACCUMULATOR, assert_close, assert_same_bits, to_numpy

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ACTIVATIONS = ("none", "relu", "gated")
FIRSTS = ("tanh", "identity")
STREAM = 7
GATE = 16  # roundings in a gate

Tensor = torch.Tensor


@dataclass
class Conv:
    """The arguments of a convolution. Dead weights are NaN."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    condition: Tensor | None
    mask: str
    groups: int
    stride: int
    activation: str
    halves: bool

    def numbers(self, stream: int = 0) -> tuple[int, ...]:
        height, width = self.weight.shape[2:]
        groups = self.groups if self.mask in "AB" else 0
        masked = whole_taps(self.mask, (height, width)), groups, self.mask == "B", self.halves, self.stride
        return DTYPES.index(self.x.dtype), stream, *map(int, masked)

    def grad(self) -> Tensor:
        return draw(len(self.x), len(self.weight), *self.out_size(), seed=9, dtype=self.x.dtype)

    def out_size(self) -> list[int]:
        return [-(-size // self.stride) for size in self.x.shape[2:]]

    def case(self, stream: int = 0) -> harness.Case:
        channels = len(self.weight) // (1 + (self.activation == "gated"))
        out = blank(len(self.x), channels, *self.out_size(), dtype=self.x.dtype)
        condition = self.condition
        if condition is not None and condition.dim() == 2:
            condition = condition[..., None, None]
        numbers = *self.numbers(stream), ACTIVATIONS.index(self.activation)
        return harness.Case("masked_conv", numbers, [self.x, self.weight, self.bias, condition, out], [4], self.mask)

    def gradient_cases(self) -> list[harness.Case]:
        at_x, at_weight = (blank(*t.shape, dtype=t.dtype) for t in (self.x, self.weight))
        at_input = harness.Case("masked_conv_input", self.numbers(), [self.grad(), self.weight, at_x], [2], self.mask)
        weight = harness.Case("masked_conv_weight", self.numbers(), [self.grad(), self.x, at_weight], [2], self.mask)
        return [at_input, weight]

    def result(self, activation: str, dtype: Any, accumulate: Any = None, magnitude: bool = False) -> np.ndarray:
        tensors = (self.x, self.weight, self.bias, self.condition)
        arrays = [None if t is None else to_numpy(t).astype(dtype) for t in tensors]
        x, weight, bias, condition = [abs(a) if magnitude and a is not None else a for a in arrays]
        return oracle.masked_conv2d(
            x,
            weight,
            bias,
            mask=self.mask,
            color_groups=self.groups,
            condition=condition,
            stride=self.stride,
            activation=activation,
            gated_layout=self.halves,
            accumulate=accumulate,
        )

    def check(self, got: Tensor) -> None:
        """float32 to the bit, 16-bit floats after one rounding; a gate within its own roundings."""
        name = str(self.case())
        if self.x.dtype == torch.float64:
            tolerance = (self.weight[0].numel() + 2) * torch.finfo(torch.float64).eps / 2
            margin = tolerance * self.result("none", np.float64, magnitude=True)
            if self.activation == "gated":  # of which neither factor is steeper than 1
                margin = margin[:, : margin.shape[1] // 2] + margin[:, margin.shape[1] // 2 :] + GATE * tolerance
            assert_close(got, self.result(self.activation, np.float64), margin, name)
        elif self.activation == "gated":
            sums = self.result("none", np.float32, oracle.fused).astype(np.float64)
            expected = oracle.gated_activation(sums)
            eps = GATE * torch.finfo(torch.float32).eps / 2 + torch.finfo(got.dtype).eps / 2
            assert_close(got, expected, eps * abs(expected) + torch.finfo(got.dtype).smallest_normal, name)
        else:
            expected = torch.from_numpy(self.result(self.activation, np.float32, oracle.fused))
            assert_same_bits(got, expected.to(got.dtype), name)

    def check_gradients(self, got: list[Tensor]) -> None:
        name, masked = str(self.case()), (self.mask, self.groups, self.halves, self.stride)
        arrays = [to_numpy(t) for t in (self.grad(), self.x, self.weight)]
        expected = oracle.masked_conv2d_gradients(*arrays, *masked)
        magnitudes = oracle.masked_conv2d_gradients(*(abs(a) for a in arrays), *masked)
        unit, unit_out = (torch.finfo(t).eps / 2 for t in (ACCUMULATOR[self.x.dtype], self.x.dtype))
        lengths = self.weight.numel() // self.weight.shape[1], self.grad()[:, 0].numel()
        for actual, value, magnitude, length in zip(got, expected, magnitudes, lengths, strict=True):
            tiny = torch.finfo(actual.dtype).smallest_normal * (magnitude > 0)
            assert_close(actual, value, (length + 2) * unit * magnitude + unit_out * abs(value) + tiny, name)


# N, C, O, H, W, kernel, colour groups: one tile and several of either side and of both kinds; tails of slices and packs; images
# shorter than a tile, and of one pixel.
SIZES = (
    (2, 3, 6, 5, 7, (3, 3), 3),
    (1, 1, 6, 9, 11, (7, 7), 1),
    (3, 4, 70, 6, 8, (1, 1), 2),
    (2, 6, 12, 4, 4, (2, 3), 3),
    (1, 2, 4, 1, 1, (3, 3), 2),
    (2, 5, 10, 5, 6, (2, 2), 5),
    (1, 9, 150, 3, 3, (1, 5), 3),
    (1, 3, 200, 4, 3, (3, 2), 1),
    (130, 2, 4, 1, 1, (3, 3), 2),
    (1, 17, 8, 2, 6, (5, 4), 4),
)


def convolution(size: tuple[Any, ...], dtype: torch.dtype, mask: str, turn: int) -> Conv:
    n, c, o, h, w, kernel, groups = size
    layout = list(LAYOUTS.values())[turn % len(LAYOUTS)] if turn % 2 else torch.Tensor.contiguous
    stride, activation = 1 + (turn // 2 % 3 == 2), ACTIVATIONS[turn % 3]
    halves = activation == "gated" or turn // 3 % 2 == 1
    weight = draw(o, c, *kernel, seed=turn, dtype=dtype)
    weight[~torch.from_numpy(oracle.mask_of(mask, kernel, c, o, groups, halves))] = torch.nan
    vectors, maps = (n, o), (n, o, -(-h // stride), -(-w // stride))
    added = (None, vectors, maps)[turn // 2 % 3]
    return Conv(
        layout(draw(n, c, h, w, seed=turn + 1, dtype=dtype)),
        weight,
        None if turn % 5 == 0 else draw(o, seed=turn + 2, dtype=dtype),
        None if added is None else layout(draw(*added, seed=turn + 3, dtype=dtype)),
        mask,
        groups,
        stride,
        activation,
        halves,
    )


def make_convolutions() -> Iterator[Conv]:
    turn = itertools.count()
    for size in SIZES:
        for mask in MASKS:
            yield convolution(size, torch.float32, mask, next(turn))
        for dtype in FLOATS[1:]:
            yield convolution(size, dtype, MASKS[next(turn) % 4], next(turn))


CONVOLUTIONS = list(make_convolutions())


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_sums_are_one_chain(sanitizer: str, tmp_path: Path) -> None:
    convolutions = harness.share(sanitizer, CONVOLUTIONS)
    results = harness.run_all(sanitizer, [it.case() for it in convolutions], tmp_path)
    for it, (y,) in zip(convolutions, results, strict=True):
        it.check(y)


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_gradients(sanitizer: str, tmp_path: Path) -> None:
    convolutions = harness.share(sanitizer, CONVOLUTIONS)
    results = harness.run_all(sanitizer, [case for it in convolutions for case in it.gradient_cases()], tmp_path)
    for it, (dx,), (dw,) in zip(convolutions, results[::2], results[1::2], strict=True):
        it.check_gradients([dx, dw])
