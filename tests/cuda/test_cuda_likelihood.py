"""Mixtures of discretised logistics on the CUDA kernels: values, gradients and draws, batches, and what Python hands over."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lapcore import native
from lapcore.reference import likelihood as reference
from lapcore.reference import random
from tests.cuda import harness
from tests.cuda import likelihood_bounds as bounds
from tests.cuda.harness import DTYPES, REFUSED_STREAM, SANITIZERS, blank, draw
from tests.layouts import LAYOUTS
from tests.tolerance import assert_close, assert_same_bits, to_numpy

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
MODES = ("exact", "official")
# N, K, C, H, W: single pixels, part of a block, a block and some.
SHAPES = ((1, 1, 1, 1, 1), (2, 3, 3, 2, 5), (3, 2, 1, 3, 7), (1, 2, 3, 1, 130))
STREAM = 7

Tensor = torch.Tensor
Shape = tuple[int, int, int, int, int]


def inputs(shape: Shape, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor]:
    """params and x, wide enough for float32 to stay on one side of the official code's threshold."""
    n, k, c, h, w = shape
    params = draw(n, k * (10 if c == 3 else 3), h, w, seed=seed, dtype=torch.float64) / 2
    levels = torch.randint(0, 256, (n, c, h, w), generator=torch.Generator().manual_seed(seed))
    levels.view(-1)[::5] = 255
    levels.view(-1)[2::5] = 0
    return params.to(dtype), (levels.double() / 127.5 - 1).to(torch.promote_types(dtype, torch.float32))


def flat(x: Tensor) -> Tensor:
    return x.flatten(2)


def numbers(dtype: torch.dtype, channels: int, flag: bool, *rest: int) -> tuple[int, ...]:
    return DTYPES.index(dtype), 0, channels, int(flag), *rest


def value_case(params: Tensor, x: Tensor, mode: str) -> harness.Case:
    tensors = [flat(params), flat(x), blank(len(x), dtype=x.dtype)]
    return harness.Case(
        "mixture_nll",
        numbers(params.dtype, x.shape[1], mode == "official"),
        tensors,
        [2],
        mode,
    )


def gradient_case(grad: Tensor, params: Tensor, x: Tensor, mode: str, with_x: bool) -> harness.Case:
    gradients = [blank(*params.shape, dtype=params.dtype), blank(*x.shape, dtype=x.dtype) if with_x else None]
    return harness.Case(
        "mixture_nll_backward",
        numbers(params.dtype, x.shape[1], mode == "official"),
        [grad, flat(params), flat(x), *gradients],
        [3, 4] if with_x else [3],
        mode,
    )


def sample_case(params: Tensor, channels: int, seeds: Tensor, stream: int, snap: bool) -> harness.Case:
    n, _, h, w = params.shape
    out = blank(n, channels, h, w, dtype=torch.promote_types(params.dtype, torch.float32))
    return harness.Case(
        "mixture_sample",
        numbers(params.dtype, channels, snap, int(len(seeds) > 1), stream),
        [flat(params), seeds, out],
        [2],
        "snap" if snap else "",
    )


# What is expected, in float64, and how far off a result may be: its kernel's error and the much smaller one of float64.


def unit_of(dtype: torch.dtype) -> float:
    """Half the epsilon of what is computed in."""
    return torch.finfo(torch.promote_types(dtype, torch.float32)).eps / 2


def allowed(errors: np.ndarray, want: Tensor, unit: float, dtype: torch.dtype) -> np.ndarray:
    """Once more for the oracle's float64, then a rounding to the type that is stored; what underflows is left out."""
    errors = errors.reshape(want.shape) * (1 + 2.0**-53 / unit)
    stored = 0.0 if dtype == torch.promote_types(dtype, torch.float32) else torch.finfo(dtype).eps / 2
    return errors + stored * (to_numpy(want.abs()) + errors) + torch.finfo(dtype).tiny


def value_bound(params: Tensor, x: Tensor, mode: str) -> list[tuple[Tensor, np.ndarray]]:
    want, unit = reference.discretized_logistic_mixture_nll(params.double(), x.double(), mode), unit_of(params.dtype)
    errors = bounds.of_nll(to_numpy(params), to_numpy(x), mode == "official", unit)
    return [(want, allowed(errors, want, unit, x.dtype))]


def gradient_bounds(
    grad: Tensor, params: Tensor, x: Tensor, mode: str, with_x: bool
) -> list[tuple[Tensor, np.ndarray]]:
    exact = grad.double(), params.double(), x.double(), mode, with_x
    want, unit = reference.discretized_logistic_mixture_nll_backward(*exact), unit_of(params.dtype)
    errors = bounds.of_gradients(*map(to_numpy, (grad, params, x)), mode == "official", unit)
    dtypes = params.dtype, x.dtype
    return [(w, allowed(e, w, unit, dtype)) for w, e, dtype in zip(want, errors, dtypes, strict=False)]


def draw_bound(
    params: Tensor, channels: int, seeds: Tensor, stream: int, snap: bool
) -> list[tuple[Tensor, np.ndarray]]:
    """Of values on the grid: the roundings of a division by 127.5 and of a difference. None here is between two of them."""
    want = reference.sample_discretized_logistic_mixture(params.double(), channels, seeds, stream, snap)
    unit, (n, c, h, w) = unit_of(params.dtype), want.shape
    if snap:
        return [(want, allowed(np.full(want.shape, 3 * unit), want, unit, torch.float64))]
    count = reference.components(params.shape[1], c)
    u = to_numpy(random.uniform((n, count + c, h, w), seeds, stream, params.device, torch.float32))
    errors = bounds.of_draws(to_numpy(params), (u[:, :count], u[:, count:]), unit)
    return [(want, allowed(errors, want, unit, torch.float64))]


Bounds = Callable[[], list[tuple[Tensor, np.ndarray]]]


def make_cases() -> Iterator[tuple[harness.Case, Bounds]]:
    layouts = itertools.cycle(LAYOUTS.values())
    turn = itertools.count()
    for shape, dtype in itertools.product(SHAPES, FLOATS):
        seed = next(turn)
        params, x = inputs(shape, dtype, seed)
        if seed % 2:
            params, x = next(layouts)(params), next(layouts)(x)
        mode, grad = MODES[seed // 2 % 2], draw(shape[0], seed=seed, dtype=x.dtype)
        yield value_case(params, x, mode), partial(value_bound, params, x, mode)
        given = grad, params, x, mode, seed % 3 != 0
        yield gradient_case(*given), partial(gradient_bounds, *given)
        seeds = torch.arange(shape[0]) * 2**40 - 3 if seed % 2 else torch.tensor([seed - 2])
        given = params, shape[2], seeds, 2**33 + seed, seed % 3 == 0
        yield sample_case(*given), partial(draw_bound, *given)


CASES = list(make_cases())


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_equals_the_reference(sanitizer: str, tmp_path: Path) -> None:
    chosen = harness.share(sanitizer, CASES) if sanitizer != "thread" else CASES[::4]
    results = harness.run_all(sanitizer, [it for it, _ in chosen], tmp_path)
    for (it, expected), got in zip(chosen, results, strict=True):
        for a, (want, tolerance) in zip(got, expected(), strict=True):
            assert_close(a.view(want.shape), to_numpy(want), tolerance, str(it))


@pytest.mark.parametrize("dtype", FLOATS[:3])
def test_draws_have_the_bits_of_the_cpu(dtype: torch.dtype, tmp_path: Path) -> None:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore.native import likelihood as cpu

    shape = (2, 3, 3, 5, 9)
    params, _ = inputs(shape, dtype, 4)
    seeds = torch.tensor([5, -6])
    for snap in (True, False):
        (got,) = harness.run_all(SANITIZERS[0], [sample_case(params, 3, seeds, 1, snap)], tmp_path)[0]
        assert_same_bits(got, cpu.sample_discretized_logistic_mixture(params, 3, seeds, 1, snap))


def test_the_same_bits_for_every_batch(tmp_path: Path) -> None:
    params, x = inputs((3, 2, 3, 1, 131), torch.float32, 1)
    grad, seeds = draw(3, seed=2, dtype=torch.float32), torch.tensor([1, 2, 3])

    def cases(rows: slice) -> list[harness.Case]:
        p, image = params[rows], x[rows]
        return [value_case(p, image, "exact"), gradient_case(grad[rows], p, image, "exact", True)]

    def results(rows: slice) -> list[Tensor]:
        return [out for each in harness.run_all(SANITIZERS[0], cases(rows), tmp_path) for out in each]

    whole, parts = results(slice(3)), [results(slice(i, i + 1)) for i in range(3)]
    for i, got in enumerate(whole):
        assert_same_bits(got, torch.cat([part[i] for part in parts]))
    alone = [harness.Case("mixture_sample", numbers(params.dtype, 3, False, 1, 0),
        [flat(params[i : i + 1]), seeds[i : i + 1], blank(1, 3, 1, 131, dtype=torch.float32)], [2]) for i in range(3)]  # fmt: skip
    (drawn,), *each = harness.run_all(SANITIZERS[0], [sample_case(params, 3, seeds, 0, False), *alone], tmp_path)
    assert_same_bits(drawn, torch.cat([part for (part,) in each]))


@pytest.mark.slow
def test_a_missing_barrier_is_seen(tmp_path: Path) -> None:
    kernels = harness.without_barrier(harness.ROOT / "csrc/cuda/likelihood.cu", 0, tmp_path)
    params, x = inputs((1, 1, 1, 2, 3), torch.float32, 0)
    done = harness.run(harness.program("thread", kernels), [value_case(params, x, "exact")], tmp_path)
    assert done.returncode != 0 and "data race" in done.stderr


def test_a_refused_launch_is_an_error(tmp_path: Path) -> None:
    params, x = inputs((1, 1, 1, 1, 1), torch.float32, 0)
    refused = value_case(params, x, "exact")
    refused.numbers = (refused.numbers[0], REFUSED_STREAM, *refused.numbers[2:])
    done = harness.run(harness.program(SANITIZERS[0]), [refused], tmp_path)
    assert done.returncode == 2 and "invalid configuration argument" in done.stderr


# The launcher --------------------------------------------------------------------------------------------------------------------


class Kernels:
    """Stands for lapcore._C on CPU tensors: does, by the cpu backend's kernels, what its own do."""

    def __init__(self, module: Any) -> None:
        self.cpu = module

    def cuda_mixture_parts(self, pixels: int) -> int:
        return -(-pixels // 128)

    def _call(self, function: Callable[..., None], stream: int, dtype: int, *arguments: Any) -> None:
        assert stream == STREAM
        function(dtype, 1, *arguments)

    def cuda_mixture_nll(self, dtype: int, stream: int, *arguments: Any) -> None:
        *given, parts, out = arguments
        assert parts
        self._call(self.cpu.mixture_nll, stream, dtype, *given, out)

    def cuda_mixture_nll_backward(self, dtype: int, stream: int, *arguments: Any) -> None:
        self._call(self.cpu.mixture_nll_backward, stream, dtype, *arguments)

    def cuda_mixture_sample(self, dtype: int, stream: int, *arguments: Any) -> None:
        self._call(self.cpu.mixture_sample, stream, dtype, *arguments)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_launcher(channels: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore import _C
    from lapcore.native import likelihood as cpu
    from lapcore.native.cuda import likelihood as cuda

    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(cuda, "_C", Kernels(_C))
    for layout in LAYOUTS.values():
        params, x = map(layout, inputs((2, 2, channels, 3, 4), dtype, 3))
        grad = draw(4, seed=1, dtype=x.dtype)[::2]
        assert_same_bits(
            cuda.discretized_logistic_mixture_nll(params, x, "official"),
            cpu.discretized_logistic_mixture_nll(params, x, "official"),
        )
        for with_x in (False, True):
            arguments = grad, params, x, "exact", with_x
            got = cuda.discretized_logistic_mixture_nll_backward(*arguments)
            want = cpu.discretized_logistic_mixture_nll_backward(*arguments)
            assert len(got) == len(want) == 1 + with_x
            for a, b in zip(got, want, strict=True):
                assert_same_bits(a, b)
        drawn = params, channels, torch.tensor([4]), 5, True
        assert_same_bits(
            cuda.sample_discretized_logistic_mixture(*drawn), cpu.sample_discretized_logistic_mixture(*drawn)
        )
    empty = params[:0], x[:0]
    assert cuda.discretized_logistic_mixture_nll(*empty, "exact").shape == (0,)
    assert len(cuda.discretized_logistic_mixture_nll_backward(grad[:0], *empty, "exact", True)) == 2
    assert cuda.sample_discretized_logistic_mixture(params[:0], channels, torch.zeros(0).long(), 0, True).numel() == 0
