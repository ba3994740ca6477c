"""Sixty-four Python threads at once, in kernels that release the GIL: the same bits as alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import lapcore
from lapcore import native
from tests.layouts import LAYOUTS
from tests.tolerance import assert_same_bits

Tensor = torch.Tensor
THREADS, ROUNDS = 64, 4
SHAPES = [(1, 1), (7, 1), (3, 33, 20), (2, 3, 65, 50), (64, 3, 16, 16), (1, 1, 400, 301), (0, 3, 4, 4)]
RULES = [("binomial", "reflect"), ("binomial", "circular"), ("half_pixel", "reflect"), ("area", "reflect")]
DTYPES = [torch.float32, torch.uint8, torch.float16, torch.int16, torch.float64]

pytestmark = pytest.mark.skipif(native.missing() is not None, reason=f"no native code: {native.missing()}")


def image(index: int) -> Tensor:
    shape, dtype = SHAPES[index % len(SHAPES)], DTYPES[index % len(DTYPES)]
    generator = torch.Generator().manual_seed(index)
    x = (torch.rand(shape, generator=generator) * 200).to(dtype)
    return list(LAYOUTS.values())[index % len(LAYOUTS)](x)


def with_gradient(x: Tensor) -> list[Tensor]:
    x = x.detach().float().requires_grad_()
    bands = lapcore.laplacian_pyramid(x, 3)
    out = lapcore.collapse([band.square() for band in bands])
    return [out.detach(), *torch.autograd.grad(out.sum(), x)]


def loss(x: Tensor) -> list[Tensor]:
    x = x.detach().float()
    x = (x if x.dim() > 2 else x[None]).requires_grad_()
    value = lapcore.laplacian_loss(x, x.detach().flip(-1), 3, reduction="none")
    return [value.detach(), *torch.autograd.grad(value.sum(), x)]


def plan(x: Tensor) -> list[Tensor]:
    """Each thread makes its own."""
    own = lapcore.PyramidPlan(x.shape, 2, dtype=x.dtype)
    return [level.clone() for level in own(x)] + [own.collapse().clone()]


def work(index: int) -> list[Tensor]:
    x = image(index)
    filter, border = RULES[index % len(RULES)] if x.dtype.is_floating_point else ("binomial", "replicate")
    rule = {"filter": filter, "border": border}
    calls: list[Callable[[], list[Tensor]]] = [
        lambda: [lapcore.pyr_down(x, **rule), lapcore.pyr_up(x, **rule)],
        lambda: list(lapcore.laplacian_pyramid(x, 4, **rule)),
        lambda: list(lapcore.gaussian_pyramid(x, 3, **rule))[1:],
        lambda: [lapcore.collapse(lapcore.laplacian_pyramid(x, 3, **rule), **rule)],
        lambda: with_gradient(x),
        lambda: loss(x),
        lambda: plan(x),
    ]
    return calls[index % len(calls)]()


@pytest.mark.parametrize("inner", [1, 2, 3])
def test_sixty_four_threads_at_once_give_the_same_bits(inner: int) -> None:
    """`inner` is what each call may use of threads of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(inner)
    try:
        with lapcore.backend("cpu"):
            alone = [work(index) for index in range(THREADS)]
        together = threading.Barrier(THREADS)

        def run(index: int) -> list[list[Tensor]]:
            together.wait()
            with lapcore.backend("cpu"):
                return [work((index + turn) % THREADS) for turn in range(ROUNDS)]

        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(run, range(THREADS)))
    finally:
        torch.set_num_threads(before)
    for index, turns in enumerate(results):
        for turn, got in enumerate(turns):
            want = alone[(index + turn) % THREADS]
            assert len(got) == len(want)
            for a, b in zip(got, want, strict=True):
                assert_same_bits(a, b, f"call {(index + turn) % THREADS} in thread {index}")


def test_one_pyramid_from_sixty_four_threads() -> None:
    """All read the same image and its table of taps, made by whoever comes first."""
    x = torch.rand(2, 3, 61, 47)
    results: dict[int, tuple[Tensor, ...]] = {}
    barrier = threading.Barrier(THREADS)

    def run(index: int) -> None:
        barrier.wait()
        with lapcore.backend("cpu"):
            results[index] = (*lapcore.laplacian_pyramid(x, 3), lapcore.pyr_down(x, (29, 31), filter="half_pixel"))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == THREADS
    for other in results.values():
        for a, b in zip(other, results[0], strict=True):
            assert_same_bits(a, b)
