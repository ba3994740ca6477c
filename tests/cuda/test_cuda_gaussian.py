"""Diagonal Gaussians on the CUDA kernels: values, gradients, infinities, batches, and what Python hands over."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lapcore import native
from lapcore.reference import gaussian as reference
from tests.cuda import harness
from tests.cuda.harness import DTYPES, REFUSED_STREAM, SANITIZERS, blank
from tests.kernels.gaussian_cases import Call, calls, extremes, summed
from tests.layouts import LAYOUTS
from tests.tolerance import assert_close, assert_same_bits, to_numpy

Tensor = torch.Tensor
Moments = Sequence[Tensor | None]
STREAM = 7
NO_SEEDS = torch.tensor([0])
# Rows shorter than a pack, than a warp's, of one chunk, which holds 1024, and of several.
SHAPES = [(3, length) for length in range(1, 10)] + [(1, 130), (2, 1024), (2, 1027), (1, 4100)]


def numbers(x: Tensor, seeds: Tensor = NO_SEEDS, stream: int = 0) -> tuple[int, ...]:
    return DTYPES.index(x.dtype), 0, int(seeds.numel() > 1), stream


def blank_like(x: Tensor | None) -> Tensor | None:
    return None if x is None else blank(*x.shape, dtype=x.dtype)


def there(tensors: Moments, first: int) -> list[int]:
    return [first + i for i, x in enumerate(tensors) if x is not None]


def forward_case(
    moments: Moments, seeds: Tensor = NO_SEEDS, stream: int = 0, z: bool = True, kl: bool = True
) -> harness.Case:
    mean = moments[0]
    assert mean is not None
    out = [blank_like(mean) if z else None, blank(len(mean), dtype=summed(mean.dtype)) if kl else None]
    return harness.Case("gaussian_forward", numbers(mean, seeds, stream), [*moments, seeds, *out], there(out, 5))


def backward_case(
    grad_z: Tensor | None, grad_kl: Tensor | None, moments: Moments, seeds: Tensor = NO_SEEDS, stream: int = 0
) -> harness.Case:
    mean = moments[0]
    assert mean is not None
    out = [blank_like(x) for x in moments]
    tensors = [grad_z, grad_kl, *moments, seeds, *out]
    return harness.Case("gaussian_backward", numbers(mean, seeds, stream), tensors, there(out, 7))


def through_z_case(grad: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> harness.Case:
    tensors = [grad, None, logvar, logvar, None, None, seeds, None, blank_like(logvar), None, None]
    return harness.Case("gaussian_backward", numbers(logvar, seeds, stream), tensors, [8])


def nll_case(x: Tensor, mean: Tensor, logvar: Tensor) -> harness.Case:
    return harness.Case("gaussian_nll", numbers(x), [x, mean, logvar, blank(len(x), dtype=summed(x.dtype))], [3])


def nll_backward_case(grad: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> harness.Case:
    out = [blank_like(x) for _ in range(3)]
    return harness.Case("gaussian_nll_backward", numbers(x), [grad, x, mean, logvar, *out], [4, 5, 6])


def cases_of(call: Call) -> list[harness.Case]:
    noise = call.seeds, call.stream
    return [
        forward_case(call.moments, *noise),
        forward_case([call.mean, call.logvar, None, None], *noise, kl=False),
        forward_case(call.moments, z=False),
        nll_case(call.x, call.mean, call.logvar),
        through_z_case(call.grad_z, call.logvar, *noise),
        backward_case(None, call.grad, call.moments),
        backward_case(call.grad_z, call.grad, call.moments, *noise),
        nll_backward_case(call.grad, call.x, call.mean, call.logvar),
    ]


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_values_and_gradients(sanitizer: str, tmp_path: Path) -> None:
    every = [*calls(SHAPES), *calls(SHAPES[::-1])]
    chosen = every[::3] if sanitizer == "thread" else every
    cases = [case for call in chosen for case in cases_of(call)]
    results = iter(harness.run_all(sanitizer, cases, tmp_path))
    for call in chosen:
        z, kl = next(results)
        call.check_z(z)
        call.check_kl(kl)
        assert_same_bits(next(results)[0], z)
        assert_same_bits(next(results)[0], kl)
        call.check_nll(next(results)[0])
        call.check_z_gradient(next(results)[0])
        call.check_kl_gradients(next(results))
        call.check_both_gradients(next(results))
        call.check_nll_gradients(next(results))


# Of more chunks than the threads that add them up, and, the second, of deeper chunks than others.
@pytest.mark.parametrize("length", [140_003, pytest.param(4096 * 1024 + 4097, marks=pytest.mark.slow)])
def test_long_rows(length: int, tmp_path: Path) -> None:
    call = Call((1, length), torch.float32, per_row=False, prior=0)
    cases = [forward_case(call.moments, z=False), nll_case(call.x, call.mean, call.logvar)]
    (kl,), (nll,) = harness.run_all(SANITIZERS[0], cases, tmp_path)
    call.check_kl(kl)
    call.check_nll(nll)


@pytest.mark.parametrize("length", [7, 1300])
def test_the_same_bits_for_every_batch(length: int, tmp_path: Path) -> None:
    call = Call((3, length), torch.float32, per_row=True, prior=3)

    def results(rows: slice) -> list[Tensor]:
        moments, seeds = [x[rows] for x in call.moments if x is not None], call.seeds[rows]
        x, grad_z, grad = call.x[rows], call.grad_z[rows], call.grad[rows]
        cases = [
            forward_case(moments, seeds),
            nll_case(x, *moments[:2]),
            backward_case(grad_z, grad, moments, seeds),
            nll_backward_case(grad, x, *moments[:2]),
        ]
        for case in cases:  # a seed of one row is on the card, too
            case.numbers = (*case.numbers[:2], 1, *case.numbers[3:])
        return [out for each in harness.run_all(SANITIZERS[0], cases, tmp_path) for out in each]

    whole, parts = results(slice(3)), [results(slice(i, i + 1)) for i in range(3)]
    for i, got in enumerate(whole):
        assert_same_bits(got, torch.cat([part[i] for part in parts]))


def test_rows_of_any_stride(tmp_path: Path) -> None:
    call = Call((4, 8), torch.float32, per_row=False, prior=3)
    given = [x for x in (*call.moments, call.grad_z) if x is not None]
    *moments, grad_z = (torch.cat([x, x.new_full((4, 3), math.nan)], 1)[:, :8] for x in given)
    dense = [backward_case(call.grad_z, call.grad, call.moments, call.seeds), forward_case(call.moments, call.seeds)]
    strided = [backward_case(grad_z, call.grad, moments, call.seeds), forward_case(moments, call.seeds)]
    got = harness.run_all(SANITIZERS[0], [*strided, *dense], tmp_path)
    for a, b in zip([*got[0], *got[1]], [*got[2], *got[3]], strict=True):
        assert_same_bits(a, b)


@pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")
def test_extremes_are_those_of_the_reference(tmp_path: Path) -> None:
    moments = extremes(4)
    mean, logvar, *_ = moments
    seeds = torch.tensor([3])
    grads = [torch.ones(len(moments[0])), torch.arange(len(moments[0])) % 2.0]
    cases = [forward_case(moments, z=False), nll_case(*moments[:3])]
    want = [[reference.gaussian_kl(*moments)], [reference.gaussian_nll(*moments[:3])]]
    for grad in grads:
        cases += [backward_case(None, grad, moments), nll_backward_case(grad, *moments[:3])]
        want += [reference.gaussian_kl_backward(grad, *moments), reference.gaussian_nll_backward(grad, *moments[:3])]
        through = grad[:, None]
        cases.append(through_z_case(through, logvar, seeds, 0))
        want.append([reference.reparameterize_backward(through, logvar, seeds, 0)])
    cases.append(forward_case([mean, logvar, None, None], seeds, kl=False))
    *results, (z,) = harness.run_all(SANITIZERS[0], cases, tmp_path)
    for case, got, expected in zip(cases, results, want, strict=False):
        for a, b in zip(got, expected, strict=True):
            close(a, b, str(case.function))
    close(z, reference.reparameterize(mean, logvar, seeds, 0), "z")


def close(got: Tensor, want: Tensor, name: str) -> None:
    """To float32's rounding of exponents of up to 200."""
    assert_close(got, to_numpy(want), 1e-4 * want.abs().nan_to_num(0, 0, 0).numpy() + 1e-30, name)


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
@pytest.mark.parametrize("places", [(0, 1), (3, 2000), (2000, 5), (10, 4099), (4099, 10)])
def test_off_a_point_mass_there_is_no_density(places: tuple[int, int], tmp_path: Path) -> None:
    x, mean, logvar = torch.zeros(3, 3, 4100).unbind()
    logvar[0, places[0]] = logvar[1:, places] = -math.inf
    x[1:, places[1]] = 1.0
    x[2, 77] = math.nan
    ((nll,),) = harness.run_all(SANITIZERS[0], [nll_case(x, mean, logvar)], tmp_path)
    assert_close(nll, to_numpy(torch.tensor([-math.inf, math.inf, math.nan])), 0.0)


@pytest.mark.slow
def test_a_missing_barrier_is_seen(tmp_path: Path) -> None:
    kernels = harness.without_barrier(harness.ROOT / "csrc/cuda/gaussian.cu", 0, tmp_path)
    call = Call((1, 2050), torch.float32, per_row=False, prior=0)
    done = harness.run(harness.program("thread", kernels), [forward_case(call.moments, z=False)], tmp_path)
    assert done.returncode != 0 and "data race" in done.stderr


def test_a_refused_launch_is_an_error(tmp_path: Path) -> None:
    call = Call((1, 4), torch.float32, per_row=False, prior=0)
    refused = forward_case(call.moments)
    refused.numbers = (refused.numbers[0], REFUSED_STREAM, *refused.numbers[2:])
    done = harness.run(harness.program(SANITIZERS[0]), [refused], tmp_path)
    assert done.returncode == 2 and "invalid configuration argument" in done.stderr


# The launcher --------------------------------------------------------------------------------------------------------------------


class Kernels:
    """Stands for lapcore._C on CPU tensors: does, by the cpu backend's kernels, what its own do."""

    def __init__(self, module: Any) -> None:
        self.cpu = module

    def cuda_gaussian_parts(self, rows: int, length: int) -> int:
        return rows * 2

    def _call(self, function: Callable[..., None], dtype: int, stream: int, *arguments: Any) -> None:
        assert stream == STREAM
        function(dtype, 1, *arguments)

    def cuda_gaussian_forward(self, *arguments: Any) -> None:
        *given, kl, parts = arguments
        assert bool(parts) == bool(kl)
        self._call(self.cpu.gaussian_forward, *given, kl)

    def cuda_gaussian_backward(self, *arguments: Any) -> None:
        self._call(self.cpu.gaussian_backward, *arguments)

    def cuda_gaussian_nll(self, *arguments: Any) -> None:
        *given, parts = arguments
        assert parts
        self._call(self.cpu.gaussian_nll, *given)

    def cuda_gaussian_nll_backward(self, *arguments: Any) -> None:
        self._call(self.cpu.gaussian_nll_backward, *arguments)


@pytest.mark.parametrize("prior", range(4))
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 3, 1, 1), (2, 0, 1, 1)])
def test_the_launcher(shape: tuple[int, ...], prior: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore import _C
    from lapcore.native import gaussian as cpu
    from lapcore.native.cuda import gaussian as cuda

    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(cuda, "_C", Kernels(_C))
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    call = Call(shape, dtypes[prior], per_row=prior % 2 == 0, prior=prior)
    grad = torch.stack([call.grad, call.grad], 1)[:, 0]
    for layout in LAYOUTS.values() if call.mean.numel() else [lambda x: x]:
        moments = [None if x is None else layout(x) for x in call.moments]
        x, grad_z = layout(call.x), layout(call.grad_z)
        mean, logvar, *_ = moments
        noise = (call.seeds if len(call.seeds) != 1 else torch.tensor([8])), call.stream
        for name, arguments in {
            "reparameterize": (mean, logvar, *noise),
            "gaussian_kl": moments,
            "reparameterize_kl": (*moments, *noise),
            "gaussian_nll": (x, mean, logvar),
            "reparameterize_backward": (grad_z, logvar, *noise),
            "gaussian_kl_backward": (grad, *moments),
            "reparameterize_kl_backward": (grad_z, grad, *moments, *noise),
            "gaussian_nll_backward": (grad, x, mean, logvar),
        }.items():
            got, want = getattr(cuda, name)(*arguments), getattr(cpu, name)(*arguments)
            pairs = [(got, want)] if isinstance(got, Tensor) else list(zip(got, want, strict=True))
            for a, b in pairs:
                assert_same_bits(a, b, name)
