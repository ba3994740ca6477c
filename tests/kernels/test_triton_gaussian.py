"""Triton's diagonal Gaussians: values and gradients of the oracle, and what the reference makes of infinities."""

from __future__ import annotations

import math

import pytest
import torch

from lapcore.reference import gaussian as reference
from tests.kernels.gaussian_cases import Call, calls, extremes
from tests.tolerance import assert_close, assert_same_bits, to_numpy

pytest.importorskip("triton", reason="triton is not installed")

from lapcore.kernels import gaussian

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Rows shorter than a tile of 1024, which holds several; of a chunk of 4096, and of more.
SHORT = [(3, length) for length in (1, 2, 3, 4, 5, 8, 9)]
SHAPES = [*SHORT, (5,), (2, 3, 5, 7), (2, 1030), (1, 2048), (1, 4100), (2, 0), (0, 3)]
CALLS = list(calls([*SHAPES, *SHORT]))


def there(*tensors: torch.Tensor | None) -> list[torch.Tensor]:
    return [x if x is None else x.to(DEVICE) for x in tensors]


def seeds_of(call: Call) -> torch.Tensor:
    return call.seeds.to(DEVICE) if call.per_row else call.seeds


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_values_and_gradients(call: Call) -> None:
    mean, logvar, *_ = moments = there(*call.moments)
    x, grad_z, grad = there(call.x, call.grad_z, call.grad)
    noise = seeds_of(call), call.stream
    z, kl = gaussian.reparameterize_kl(*moments, *noise)
    call.check_z(z)
    call.check_kl(kl)
    assert_same_bits(gaussian.reparameterize(mean, logvar, *noise), z)
    call.check_kl(gaussian.gaussian_kl(*moments))
    call.check_nll(gaussian.gaussian_nll(x, mean, logvar))
    call.check_z_gradient(gaussian.reparameterize_backward(grad_z, logvar, *noise))
    call.check_kl_gradients(gaussian.gaussian_kl_backward(grad, *moments))
    call.check_both_gradients(gaussian.reparameterize_kl_backward(grad_z, grad, *moments, *noise))
    call.check_nll_gradients(gaussian.gaussian_nll_backward(grad, x, mean, logvar))


@pytest.mark.parametrize("length", [7, 1300])
def test_rows_do_not_depend_on_their_batch(length: int) -> None:
    call = Call((3, length), torch.float32, per_row=True, prior=3)
    moments, (x,), seeds = there(*call.moments), there(call.x), seeds_of(call)
    z, kl = gaussian.reparameterize_kl(*moments, seeds, 0)
    nll = gaussian.gaussian_nll(x, *moments[:2])
    for i in range(3):
        row = [t[i : i + 1] for t in moments]
        one_z, one_kl = gaussian.reparameterize_kl(*row, seeds[i : i + 1], 0)
        assert_same_bits(one_z, z[i : i + 1])
        assert_same_bits(one_kl, kl[i : i + 1])
        assert_same_bits(gaussian.gaussian_nll(x[i : i + 1], *row[:2]), nll[i : i + 1])


def test_rows_of_any_stride() -> None:
    call = Call((4, 9), torch.float32, per_row=False, prior=3)
    moments, seeds = there(*call.moments), call.seeds
    grad_z, grad = there(call.grad_z, call.grad)
    cut = [torch.cat([t, t.new_full((4, 3), math.nan)], 1)[:, :9] for t in moments]
    turned = [t.T.contiguous().T for t in moments]
    for strided in (cut, turned):
        for a, b in zip(
            gaussian.reparameterize_kl(*strided, seeds, 0), gaussian.reparameterize_kl(*moments, seeds, 0), strict=True
        ):
            assert_same_bits(a, b)
        every = torch.stack([grad, grad], 1)[:, 0], *strided
        got = gaussian.reparameterize_kl_backward(grad_z.T.contiguous().T, *every, seeds, 0)
        want = gaussian.reparameterize_kl_backward(grad_z, grad, *moments, seeds, 0)
        for a, b in zip(got, want, strict=True):
            assert_same_bits(a, b)


@pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")
def test_extremes_are_those_of_the_reference() -> None:
    moments = extremes(4)
    grads = [torch.ones(len(moments[0])), torch.arange(len(moments[0])) % 2.0]
    close(gaussian.gaussian_kl(*there(*moments)), reference.gaussian_kl(*moments))
    close(gaussian.gaussian_nll(*there(*moments[:3])), reference.gaussian_nll(*moments[:3]))
    seeds = torch.tensor([3])
    close(gaussian.reparameterize(*there(*moments[:2]), seeds, 0), reference.reparameterize(*moments[:2], seeds, 0))
    for grad in grads:
        got = gaussian.gaussian_kl_backward(*there(grad, *moments))
        for a, b in zip(got, reference.gaussian_kl_backward(grad, *moments), strict=True):
            close(a, b)
        got = gaussian.gaussian_nll_backward(*there(grad, *moments[:3]))
        for a, b in zip(got, reference.gaussian_nll_backward(grad, *moments[:3]), strict=True):
            close(a, b)


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    """To float32's rounding of exponents of up to 200."""
    assert_close(got, to_numpy(want), 1e-4 * want.abs().nan_to_num(0, 0, 0).numpy() + 1e-30)


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
@pytest.mark.parametrize("places", [(0, 1), (3, 2000), (2000, 5), (10, 4099), (4099, 10)])
def test_off_a_point_mass_there_is_no_density(places: tuple[int, int]) -> None:
    x, mean, logvar = torch.zeros(3, 3, 4100, device=DEVICE).unbind()
    logvar[0, places[0]] = logvar[1:, places] = -math.inf
    x[1:, places[1]] = 1.0
    x[2, 77] = math.nan
    assert_close(gaussian.gaussian_nll(x, mean, logvar), to_numpy(torch.tensor([-math.inf, math.inf, math.nan])), 0.0)
