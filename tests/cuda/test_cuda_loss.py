"""The Laplacian loss on the CUDA kernels: value and gradient against the reference, and one order of summation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lapcore import native
from lapcore.reference import laplacian_loss as reference
from tests.cuda import harness
from tests.cuda.harness import SANITIZERS, blank, call_numbers, draw, level_sizes
from tests.layouts import LAYOUTS
from tests.tolerance import assert_close, assert_same_bits, loss_error, to_numpy

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
BORDERS = ("reflect", "replicate", "constant", "symmetric")


@dataclass
class Loss:
    input: torch.Tensor
    target: torch.Tensor
    sizes: list[tuple[int, int]]
    coefficients: torch.Tensor
    border: str = "reflect"
    masks: list[torch.Tensor] | None = None
    with_grad: bool = True

    def case(self) -> harness.Case:
        call = call_numbers(self.input.dtype, self.border)
        numbers = (
            *call,
            self.coefficients.shape[1],
            int(self.with_grad),
            *(side for size in self.sizes for side in size),
        )
        loss = blank(len(self.input), dtype=torch.float32)
        grad = torch.zeros(self.input.shape)  # a row or column cropped off has none
        outputs = [3, 4] if self.with_grad else [3]
        images = [self.input, self.target, self.coefficients, loss, grad, *(self.masks or ())]
        return harness.Case("laplacian_loss", numbers, images, outputs, self.border)

    def expected(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """By single operators of the cpu backend, whose bits are the kernels': so are the signs of bands that are all but zero."""
        from lapcore.native import pyramid as cpu

        images = self.input.float(), self.target.float()
        rest = self.masks, self.coefficients, self.sizes, self.border, self.with_grad
        return reference.laplacian_loss(*images, *rest, cpu.apply)


def cropped_sizes(size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    sizes = []
    for _ in range(levels):
        size = (size[0] - size[0] % 2, size[1] - size[1] % 2)
        sizes.append(size)
        size = (size[0] // 2, size[1] // 2)
    return [*sizes, size]


def make_losses() -> Iterator[Loss]:
    layouts = itertools.cycle(LAYOUTS.values())
    seeds = itertools.count()
    shapes = [((2, 3, 16, 16), 3), ((3, 9, 7), 2), ((1, 2, 70, 5), 2), ((2, 1, 1), 1), ((2, 6, 264), 1)]
    for border, (shape, levels), residual in itertools.product(BORDERS, shapes, (False, True)):
        if shape[-1] > 100 and border != "reflect":
            continue
        seed = next(seeds)
        dtype = FLOATS[seed % 3]
        layout = next(layouts) if seed % 2 else LAYOUTS["contiguous"]
        input, target = (layout(draw(*shape, seed=2 * seed + k, dtype=dtype)) for k in range(2))
        size = shape[-2], shape[-1]
        crops = seed % 4 == 1 and min(size) >= 2**levels
        sizes = cropped_sizes(size, levels) if crops else level_sizes(size, levels)
        coefficients = draw(shape[0], levels + residual, seed=seed, dtype=torch.float32).abs()
        masks = None
        if seed % 3 == 0:
            mask = draw(*shape[:-2], *size, seed=seed, dtype=torch.float32).abs()
            strided = (mask[..., :: 2**level, :: 2**level] for level in range(levels + residual))
            masks = [m[..., :h, :w] for m, (h, w) in zip(strided, sizes, strict=False)]
        yield Loss(input, target, sizes, coefficients, border, masks, seed % 5 != 4)


LOSSES = list(make_losses())


Results = list[tuple[Loss, list[torch.Tensor]]]


@pytest.fixture(scope="module", params=SANITIZERS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    losses = harness.share(request.param, LOSSES)
    got = harness.run_all(request.param, [it.case() for it in losses], tmp_path_factory.mktemp("run"))
    return list(zip(losses, got, strict=True))


def test_equals_the_reference(results: Results) -> None:
    if reason := native.missing():
        pytest.skip(reason)
    for it, (loss, *grad) in results:
        want, want_grad = it.expected()
        levels = len(it.sizes) - 1
        relative = loss_error(tuple(it.input.shape), torch.float32, levels)
        ones = [torch.ones(()) for _ in it.sizes] if it.masks is None else it.masks
        largest = 4.0 * (it.input.float().abs() + it.target.float().abs()).max().item()
        scale = sum(
            it.coefficients[:, k].max().item() * ones[k].max().item() * largest * it.input[0].numel() / 4**k
            for k in range(it.coefficients.shape[1])
        )
        assert_close(loss, to_numpy(want), relative * scale, str(it.case()))
        if want_grad is not None:
            assert_same_bits(grad[0], want_grad, str(it.case()))


@pytest.mark.parametrize("sanitizer", SANITIZERS[:1])
def test_the_same_bits_for_every_batch(sanitizer: str, tmp_path: Path) -> None:
    shape, sizes = (5, 2, 40, 12), level_sizes((40, 12), 3)
    input, target = (draw(*shape, seed=k, dtype=torch.float32) for k in range(2))
    coefficients = draw(5, 4, seed=2, dtype=torch.float32).abs()
    whole = Loss(input, target, sizes, coefficients)
    singles = [Loss(input[n : n + 1], target[n : n + 1], sizes, coefficients[n : n + 1]) for n in range(5)]
    (loss, grad), *each = harness.run_all(sanitizer, [it.case() for it in (whole, *singles)], tmp_path)
    assert loss.equal(torch.cat([part for part, _ in each]))
    assert grad.equal(torch.cat([part for _, part in each]))


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.slow
def test_a_missing_barrier_is_seen(which: int, tmp_path: Path) -> None:
    kernels = harness.without_barrier(harness.ROOT / "csrc/cuda/laplacian_loss.cu", which, tmp_path)
    it = next(it for it in LOSSES if it.coefficients.shape[1] == 4)
    done = harness.run(harness.program("thread", kernels), [it.case()], tmp_path)
    assert done.returncode != 0 and "data race" in done.stderr
