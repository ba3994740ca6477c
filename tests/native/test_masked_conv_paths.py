"""masked_conv of csrc/cpu: the chain of multiply-adds to the bit, on every instruction set, thread, batch and place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

import lapcore
from lapcore import native
from tests.ops.masked_conv_checks import check, check_gradients
from tests.oracle import masked_conv as oracle
from tests.tolerance import assert_same_bits, to_numpy

if reason := native.missing():
    pytest.skip(reason, allow_module_level=True)

from lapcore import _C
from lapcore.native import masked_conv as kernels

THREADS = (1, 2, 7)
ISAS = _C.isas()
FUSED = [isa for isa in ISAS if isa != "baseline"]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
U = 2.0**-24


@dataclass(frozen=True)
class Case:
    """What a call of the kernels is made of."""

    n: int = 2
    inputs: int = 3
    outputs: int = 6
    size: tuple[int, int] = (5, 7)
    kernel: tuple[int, int] = (3, 3)
    mask: str = "B"
    groups: int = 1
    gated: bool = False
    stride: int = 1

    @property
    def maps(self) -> tuple[int, int, int, int]:
        return (self.n, self.outputs, -(-self.size[0] // self.stride), -(-self.size[1] // self.stride))

    def draw(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """x, weight, bias, a condition for each image, one for each pixel, and a gradient."""
        shapes = (
            (self.n, self.inputs, *self.size),
            (self.outputs, self.inputs, *self.kernel),
            (self.outputs,),
            (self.n, self.outputs),
            self.maps,
            self.maps,
        )
        generator = torch.Generator().manual_seed(1)
        return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]

    def forward(self, x: Tensor, weight: Tensor, bias=None, condition=None, activation: str = "none") -> Tensor:
        return kernels.masked_conv2d(
            x, weight, bias, condition, self.mask, self.groups, self.stride, activation, self.gated
        )

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor) -> list[Tensor]:
        return list(
            kernels.masked_conv2d_backward(
                grad, x, weight, self.mask, self.groups, self.gated, self.stride, (True, True)
            )
        )

    def live(self) -> Tensor:
        return torch.from_numpy(
            oracle.mask_of(self.mask, self.kernel, self.inputs, self.outputs, self.groups, self.gated)
        )

    def __str__(self) -> str:
        sizes = f"{self.n}x{self.inputs}x{self.size[0]}x{self.size[1]}-{self.outputs}"
        return f"{sizes}-{self.kernel[0]}x{self.kernel[1]}{self.mask}{self.groups}{'g' * self.gated}/{self.stride}"


# Tails of tiles in outputs, inputs and pixels, chains longer than are taken at once, tiles above which is no image,
# kernels larger than the image.
CASES = [
    Case(),
    Case(mask="A", groups=3),
    Case(groups=3, gated=True, outputs=8),
    Case(1, 1, 1, (1, 1), (1, 1)),
    Case(3, 33, 13, (1, 40), (1, 1), groups=2),
    Case(1, 70, 25, (4, 9)),
    Case(1, 5, 14, (3, 2), (7, 7), "A", 2, True),
    Case(2, 4, 11, (9, 33), (2, 3), "rows", stride=2),
    Case(2, 40, 33, (4, 70)),
    Case(3, 6, 12, (4, 5), (2, 2), "B", 3),
    Case(2, 3, 4, (6, 6), (5, 3), "above", gated=True),
    Case(2, 3, 4, (3, 4), (1, 3), "above"),
    Case(70, 2, 3, (2, 1), (3, 3), "A", stride=2),
    Case(600, 2, 4, (1, 1), (1, 1)),
    Case(2, 2, 4, (1100, 2), (3, 3), stride=2),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.mark.parametrize("isa", ISAS)
@every_case
def test_the_chain_to_the_bit(isa: str, case: Case) -> None:
    _C.use_isa(isa)
    x, weight, bias, vectors, maps, _ = case.draw()
    accumulate = (lambda total, w, v: total + w * v) if isa == "baseline" else oracle.fused
    options = {"mask": case.mask, "color_groups": case.groups, "stride": case.stride, "gated_layout": case.gated}
    linear = oracle.masked_conv2d(x.numpy(), weight.numpy(), accumulate=accumulate, **options)
    assert linear.dtype == np.float32
    assert_same_bits(case.forward(x, weight), torch.from_numpy(linear))
    for condition in (None, vectors, maps):
        want = torch.from_numpy(linear) + bias[:, None, None]
        if condition is not None:
            want = want + (condition[:, :, None, None] if condition.dim() == 2 else condition)
        assert_same_bits(case.forward(x, weight, bias, condition), want)
        assert_same_bits(case.forward(x, weight, bias, condition, "relu"), torch.relu(want))
        if case.gated:
            got = case.forward(x, weight, bias, condition, "gated")
            assert_same_bits(got, kernels.gated_activation(want, "tanh"))


@every_case
def test_threads_and_fused_instruction_sets_agree(case: Case) -> None:
    x, weight, bias, _, maps, grad = case.draw()

    def everything() -> list[Tensor]:
        return [case.forward(x, weight, bias, maps, "relu"), *case.backward(grad, x, weight)]

    want: dict[bool, list[Tensor]] = {}
    for isa, threads in product(ISAS, THREADS):
        _C.use_isa(isa)
        torch.set_num_threads(threads)
        got = everything()
        for a, b in zip(got, want.setdefault(isa in FUSED, got), strict=True):
            assert_same_bits(a, b, f"{isa}, {threads} threads")


@every_case
def test_images_do_not_depend_on_their_batch(case: Case) -> None:
    x, weight, *_, grad = case.draw()
    y, (dx, _) = case.forward(x, weight), case.backward(grad, x, weight)
    for i in range(0, case.n, max(1, case.n // 5)):
        alone = replace(case, n=1)
        one = slice(i, i + 1)
        assert_same_bits(alone.forward(x[one], weight), y[one])
        assert_same_bits(alone.backward(grad[one], x[one], weight)[0], dx[one])


@pytest.mark.parametrize("width", [1, 3, 15, 16, 17, 31, 32, 33, 47])
def test_pixels_do_not_depend_on_their_place(width: int) -> None:
    """An image in the midst of zeros gives what it gives alone: the same chains, in other lanes and tiles."""
    case = Case(1, 6, 13, (3, width), (5, 5), "B", 3)
    x, weight, *_, grad = case.draw()
    y, (dx, _) = case.forward(x, weight), case.backward(grad, x, weight)
    for top, left, below, right in ((0, 1, 0, 0), (2, 5, 1, 30)):
        inside = (..., slice(top, top + 3), slice(left, left + width))
        padding = (left, right, top, below)
        wide = torch.nn.functional.pad(x, padding)
        assert_same_bits(case.forward(wide, weight)[inside], y)
        wide_grad = torch.nn.functional.pad(grad, padding)
        assert_same_bits(case.backward(wide_grad, wide, weight)[0][inside], dx)


@pytest.mark.parametrize("isa", ISAS)
@every_case
def test_gradients(isa: str, case: Case) -> None:
    """Sums of n products are off by n u of their magnitudes at most; and dead taps get nothing, not even a rounding."""
    _C.use_isa(isa)
    x, weight, *_, grad = case.draw()
    options = case.mask, case.groups, case.gated, case.stride
    got = case.backward(grad, x, weight)
    want = oracle.masked_conv2d_gradients(to_numpy(grad), to_numpy(x), to_numpy(weight), *options)
    sizes = oracle.masked_conv2d_gradients(*(np.abs(to_numpy(t)) for t in (grad, x, weight)), *options)
    longest = (case.outputs * case.kernel[0] * case.kernel[1], grad[:, 0].numel())
    for a, b, size, terms in zip(got, want, sizes, longest, strict=True):
        assert (np.abs(to_numpy(a) - b) <= (terms + 1) * U * size).all()
    assert not got[1][~case.live()].any()


@every_case
def test_dead_weights_have_no_effect(case: Case) -> None:
    x, weight, *_, grad = case.draw()
    poisoned = torch.where(case.live(), weight, torch.nan)
    assert_same_bits(case.forward(x, poisoned), case.forward(x, weight))
    for a, b in zip(case.backward(grad, x, poisoned), case.backward(grad, x, weight), strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("isa", ISAS)
def test_an_infinite_weight_meets_the_zeros_around_the_image(isa: str) -> None:
    """Taps outside the image are passed over only where that cannot be told: 0 times infinity is NaN, in every batch."""
    _C.use_isa(isa)
    case = Case(3, 70, 70, (3, 37), (3, 3))
    x, weight, *_, grad = case.draw()
    weight[0, 0, 0, 0] = torch.inf
    y, (dx, _) = case.forward(x, weight), case.backward(grad, x, weight)
    rows, columns = torch.arange(3)[:, None], torch.arange(37)
    assert torch.equal(y[:, 0].isnan(), ((rows == 0) | (columns == 0)).expand(3, 3, 37))
    assert torch.equal(dx[:, 0].isnan(), ((rows == 2) | (columns == 36)).expand(3, 3, 37))
    assert y[:, 1:].isfinite().all() and dx[:, 1:].isfinite().all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@every_case
def test_16_bits_are_float32_rounded_once(isa: str, dtype: torch.dtype, case: Case) -> None:
    _C.use_isa(isa)
    x, weight, bias, vectors, maps, grad = case.draw(dtype)
    for condition in (vectors, maps):
        for activation in ("relu", "gated") if case.gated else ("none",):
            want = case.forward(x.float(), weight.float(), bias.float(), condition.float(), activation)
            assert_same_bits(case.forward(x, weight, bias, condition, activation), want.to(dtype))
    want = case.backward(grad.float(), x.float(), weight.float())
    for a, b in zip(case.backward(grad, x, weight), want, strict=True):
        assert_same_bits(a, b.to(dtype))


@pytest.mark.parametrize("isa", ISAS)
@every_case
def test_float64(isa: str, case: Case) -> None:
    _C.use_isa(isa)
    x, weight, bias, _, maps, _ = case.draw(torch.float64)
    call = {"mask": case.mask, "color_groups": case.groups, "stride": case.stride, "gated_layout": case.gated}
    with lapcore.backend("cpu"):
        check(x, weight, bias, condition=maps, activation="gated" if case.gated else "none", **call)
        check_gradients(x, weight, case.mask, case.groups, case.gated, case.stride)


# Gates and ELUs -----------------------------------------------------------------------------------------------------


def spread(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers of all sizes from 1e-5 to 100."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10 ** (7 * torch.rand(shape, generator=generator, dtype=torch.float64) - 5)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * sizes).to(dtype)


def activations(x: Tensor, grads: Tensor) -> list[Tensor]:
    half = grads[:, : grads.shape[1] // 4]
    found = [kernels.concat_elu(x), kernels.concat_elu_backward(grads, x)]
    for first in ("tanh", "identity"):
        found += [kernels.gated_activation(x, first), kernels.gated_activation_backward(half, x, first)]
    return found


# Elements in one vector and in parts of one, in more tiles than one, in more chunks than one.
LENGTHS = (1, 5, 130, 1153, 20_000)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_activations_are_the_same_everywhere(length: int, dtype: torch.dtype) -> None:
    x, grads = spread((3, 2, length), 1, dtype), spread((3, 4, length), 2, dtype)
    want = activations(x, grads)
    for isa in ISAS:
        _C.use_isa(isa)
        for threads in THREADS:
            torch.set_num_threads(threads)
            for a, b in zip(activations(x, grads), want, strict=True):
                assert_same_bits(a, b, f"{isa}, {threads} threads")
    for i in {0, length // 2, length - 1}:
        alone = activations(x[1:2, :, i : i + 1], grads[1:2, :, i : i + 1])
        for a, b in zip(alone, want, strict=True):
            assert_same_bits(a, b[1:2, :, i : i + 1])


def test_activations_are_right_to_a_few_roundings() -> None:
    x, grads = spread((2, 2, 50_000), 1), spread((2, 4, 50_000), 2)
    wide, wide_grads = to_numpy(x), to_numpy(grads)
    half = wide_grads[:, :1]
    exact = [(oracle.concat_elu(wide), 2, 0)]
    size = oracle.concat_elu_gradient(np.abs(wide_grads) * [[1], [1], [-1], [-1]], wide)
    exact += [(oracle.concat_elu_gradient(wide_grads, wide), 0, 4 * size)]
    for first in ("tanh", "identity"):
        exact += [(oracle.gated_activation(wide, first), 8, 0)]
        exact += [(oracle.gated_activation_gradient(half, wide, first), 12, 0)]
    for got, (want, relative, absolute) in zip(activations(x, grads), exact, strict=True):
        error, allowed = np.abs(to_numpy(got) - want), (relative * np.abs(want) + absolute) * U + 2.0**-126
        worst = np.unravel_index(np.argmax(error - allowed), error.shape)
        assert error[worst] <= allowed[worst], f"{worst}: {to_numpy(got)[worst]}, expected {want[worst]}"


def test_ends_of_activations() -> None:
    inf, nan = torch.inf, torch.nan
    ends = torch.tensor([[1e4], [-1e4], [inf], [-inf], [nan]])

    def gate(a: float, b: float, first: str = "tanh") -> float:
        return float(kernels.gated_activation(torch.tensor([[a, b]]), first))

    assert kernels.concat_elu(ends)[:4].tolist() == [[1e4, -1], [-1, 1e4], [inf, -1], [-1, inf]]
    assert kernels.concat_elu(ends)[4].isnan().all()
    assert [gate(a, inf) for a in (1e4, -1e4, inf, -inf)] == [1, -1, 1, -1]
    assert [gate(1.5, b, "identity") for b in (1e4, -1e4, inf, -inf)] == [1.5, 0, 1.5, 0]
    assert all(np.isnan(gate(*pair)) for pair in ((nan, 0), (0, nan)))
    saturated = kernels.gated_activation_backward(torch.ones(2, 1), torch.tensor([[1e4, 1e4], [-inf, inf]]), "tanh")
    assert saturated.tolist() == [[0, 0], [0, 0]]
