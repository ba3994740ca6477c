"""Masked convolutions and their activations by the CUDA kernels: exact chains, gradients, what is dead, batches, sanitizers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lapcore.reference.masked_conv import MASKS, whole_taps
from tests.cuda import harness
from tests.cuda.harness import DTYPES, REFUSED_STREAM, SANITIZERS, blank, draw
from tests.layouts import LAYOUTS
from tests.oracle import masked_conv as oracle
from tests.tolerance import ACCUMULATOR, assert_close, assert_same_bits, to_numpy

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ACTIVATIONS = ("none", "relu", "gated")
FIRSTS = ("tanh", "identity")
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

    def in_any_order(self) -> bool:
        """float64, for want of a wider oracle, and what goes to tensor cores."""
        grouped = self.mask in "AB" and self.groups > 1
        return self.x.dtype == torch.float64 or (self.x.dtype != torch.float32 and not grouped)

    def check(self, got: Tensor) -> None:
        """float32 to the bit, 16-bit floats after one rounding; a gate within its own roundings."""
        name = str(self.case())
        if self.in_any_order():
            expected = self.result(self.activation, np.float64)
            unit, unit_out = (torch.finfo(t).eps / 2 for t in (ACCUMULATOR[got.dtype], got.dtype))
            margin = (self.weight[0].numel() + 2) * unit * self.result("none", np.float64, magnitude=True)
            if self.activation == "gated":  # of which neither factor is steeper than 1
                margin = margin[:, : margin.shape[1] // 2] + margin[:, margin.shape[1] // 2 :] + GATE * unit
            tiny = torch.finfo(got.dtype).smallest_normal * (margin > 0)
            assert_close(got, expected, margin + unit_out * abs(expected) + tiny, name)
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
        for dtype, masks in zip(FLOATS[1:], (MASKS[2:3], MASKS[::2], MASKS[1::2]), strict=True):
            for mask in masks:
                yield convolution(size, dtype, mask, next(turn))


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


def of(case: harness.Case, tmp_path: Path) -> Tensor:
    ((result,),) = harness.run_all(SANITIZERS[0], [case], tmp_path)
    return result


def test_what_is_dead_is_not_multiplied(tmp_path: Path) -> None:
    """NaN in a colour reaches, at its own pixel, none of the colours that do not see it, and no pixel before it."""
    size = 1, 6, 12, 5, 5, (3, 3), 3
    for mask, turn, seen in (("A", 1, 2), ("B", 1, 2), ("A", 5, 2), ("B", 5, 2)):
        clean = replace(convolution(size, torch.float32, mask, turn), activation="none", stride=1, condition=None)
        spoiled = replace(clean, x=clean.x.clone())
        spoiled.x[:, 2 * seen :, 2, 2] = torch.nan
        before, after = of(clean.case(), tmp_path), of(spoiled.case(), tmp_path)
        colours = torch.arange(12) % 6 // 2 if clean.halves else torch.arange(12) // 4
        reached = colours >= seen + (mask == "A")
        assert after[:, reached, 2, 2].isnan().all() and after[:, :, 3].isnan().any()
        assert_same_bits(after[:, ~reached, 2, 2], before[:, ~reached, 2, 2])
        assert_same_bits(after[:, :, :2], before[:, :, :2])
        assert_same_bits(after[:, :, 2, :2], before[:, :, 2, :2])


def test_nothing_is_live(tmp_path: Path) -> None:
    """Of a kernel of one row "above" leaves nothing: what is added stays, gradients are zeros."""
    it = replace(convolution((2, 3, 6, 4, 5, (1, 3), 1), torch.float32, "above", 2), activation="none")
    it.check(of(it.case(), tmp_path))
    for (gradient,) in harness.run_all(SANITIZERS[0], it.gradient_cases(), tmp_path):
        assert not gradient.any()


def test_the_same_for_every_batch_place_and_tile(tmp_path: Path) -> None:
    """An image alone, a window of it away from what lies outside, some of the outputs: other tiles, also of another kind."""
    it = replace(convolution((3, 5, 70, 9, 10, (3, 3), 1), torch.float32, "B", 0), halves=False, activation="none")
    it = replace(it, x=it.x.contiguous(), stride=1, condition=None)
    cases = [
        it,
        replace(it, x=it.x[1:2]),
        replace(it, x=it.x[:, :, 2:, 3:]),
        replace(it, weight=it.weight[66:].contiguous()),
    ]
    whole, one, window, few = (y for (y,) in harness.run_all(SANITIZERS[0], [c.case() for c in cases], tmp_path))
    assert_same_bits(one, whole[1:2])
    assert_same_bits(window[:, :, 1:, 1:-1], whole[:, :, 3:, 4:-1])
    assert_same_bits(few, whole[:, 66:])


def activation_cases(rows: int, length: int, dtype: torch.dtype, layout: Any, seed: int) -> list[harness.Case]:
    """Every function of both activations; half and whole: rows of one half, and of two."""
    half, whole = (layout(draw(rows, k * length, seed=seed + k, dtype=dtype)) for k in (1, 2))
    grad_half, grad_whole = (draw(rows, k * length, seed=seed + 2 + k, dtype=dtype) for k in (1, 2))
    numbers = DTYPES.index(dtype), 0
    cases = []
    for k, first in enumerate(FIRSTS):
        y, dx = blank(rows, length, dtype=dtype), blank(rows, 2 * length, dtype=dtype)
        cases.append(harness.Case("gated_activation", (*numbers, k), [whole, y], [1], first))
        cases.append(harness.Case("gated_activation_backward", (*numbers, k), [grad_half, whole, dx], [2], first))
    y, dx = blank(rows, 2 * length, dtype=dtype), blank(rows, length, dtype=dtype)
    cases.append(harness.Case("concat_elu", numbers, [half, y], [1]))
    cases.append(harness.Case("concat_elu_backward", numbers, [grad_whole, half, dx], [2]))
    return cases


def expected_activation(case: harness.Case) -> np.ndarray:
    tensors = [to_numpy(t) for t in case.tensors if t is not None]
    firsts = [case.name] if case.name else []
    function = {
        "gated_activation": oracle.gated_activation,
        "gated_activation_backward": oracle.gated_activation_gradient,
        "concat_elu": oracle.concat_elu,
        "concat_elu_backward": oracle.concat_elu_gradient,
    }[case.function]
    return function(*tensors[:-1], *firsts)


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_activations(sanitizer: str, tmp_path: Path) -> None:
    """Rows of whole packs and of others, aligned or not, side by side or apart."""
    rows = ((1, 1), (3, 4), (2, 12), (5, 7), (2, 300))
    layouts = itertools.cycle((torch.Tensor.contiguous, LAYOUTS["storage_offset"], LAYOUTS["sliced"]))
    cases = [
        case
        for k, ((n, length), dtype) in enumerate(itertools.product(rows, FLOATS))
        for case in activation_cases(n, length, dtype, next(layouts), k)
    ]
    cases = harness.share(sanitizer, cases)
    for case, (got,) in zip(cases, harness.run_all(sanitizer, cases, tmp_path), strict=True):
        expected = expected_activation(case)
        units = GATE * torch.finfo(ACCUMULATOR[got.dtype]).eps / 2, torch.finfo(got.dtype).eps / 2
        # A gradient of concat_elu is a difference of two such products.
        scale = abs(expected) + (case.function == "concat_elu_backward") * abs(to_numpy(case.tensors[0])).max()
        margin = units[0] * scale + units[1] * abs(expected) + torch.finfo(got.dtype).smallest_normal
        assert_close(got, expected, margin, str(case))


def test_gates_of_sums_are_the_gates_of_activations(tmp_path: Path) -> None:
    """Fused or as an operation of its own: the same bits."""
    fused = replace(convolution((2, 3, 140, 3, 4, (3, 3), 3), torch.float32, "B", 2), activation="gated", halves=True)
    sums = of(replace(fused, activation="none").case(), tmp_path).flatten(1)
    gates = blank(len(sums), sums.shape[1] // 2, dtype=sums.dtype)
    apart = of(harness.Case("gated_activation", (DTYPES.index(sums.dtype), 0, 0), [sums, gates], [1]), tmp_path)
    assert_same_bits(of(fused.case(), tmp_path).flatten(1), apart)


BARRIERS = {"masked_conv": 3, "masked_conv_weight": 3, "masked_conv_tensor": 2}


@pytest.mark.parametrize("which", range(max(BARRIERS.values())))
@pytest.mark.slow
def test_a_missing_barrier_is_seen(which: int, tmp_path: Path) -> None:
    """In every product. Without the first of those that have three, pixels may not be there yet."""
    without = {}
    for name in (name for name, count in BARRIERS.items() if which < count):
        source = harness.ROOT / "csrc/cuda" / f"{name}.cu"
        without[source] = tmp_path / source.name
        without[source].write_text(harness.barrier_removed(source.read_text(), which))
    program = harness.program("thread", tuple(without.get(path, path) for path in harness.SOURCES))
    it, half = (convolution((1, 9, 6, 3, 4, (3, 3), 1), dtype, "B", 0) for dtype in (torch.float32, torch.bfloat16))
    for case in (it.case(), it.gradient_cases()[1], half.case())[: len(without)]:
        done = harness.run(program, [case], tmp_path)
        assert done.returncode != 0 and "ThreadSanitizer" in done.stderr, case


def test_a_refused_launch_is_an_error(tmp_path: Path) -> None:
    it = convolution(SIZES[0], torch.float32, "A", 0)
    done = harness.run(harness.program(SANITIZERS[0]), [it.case(REFUSED_STREAM)], tmp_path)
    assert done.returncode == 2 and "CUDA: invalid configuration argument" in done.stderr
