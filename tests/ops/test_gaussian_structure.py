"""Gaussians as structure: seeds of torch's own, every stride, batches, and deterministic algorithms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import lapcore
from tests.layouts import LAYOUTS
from tests.ops.gaussian_checks import EPS, draw, four, leaves
from tests.tolerance import assert_close, assert_same_bits, to_numpy

PROBE = ("reparameterize_kl", (2, 3))
# NumPy's, in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")


# seeds=None --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sample",
    [
        lambda m, v: lapcore.reparameterize(m, v),
        lambda m, v: lapcore.reparameterize_kl(m, v)[0],
        lambda m, v: lapcore.DiagonalGaussian(m, v).sample(),
    ],
    ids=["reparameterize", "reparameterize_kl", "DiagonalGaussian"],
)
def test_no_seed_follows_torch_manual_seed(backend: str, device: str, sample: Callable[..., torch.Tensor]) -> None:
    mean, logvar = draw((2, 30), 1, device=device), draw((2, 30), 2, device=device)
    torch.manual_seed(5)
    first, second = sample(mean, logvar), sample(mean, logvar)
    torch.manual_seed(5)
    assert_same_bits(sample(mean, logvar), first)
    assert_same_bits(sample(mean, logvar), second)
    torch.manual_seed(6)
    assert not torch.equal(sample(mean, logvar), first)
    assert not torch.equal(first, second)


def test_no_seed_gives_the_gradient_of_the_noise_it_drew(backend: str, device: str) -> None:
    mean, logvar = leaves(torch.zeros(2, 30, device=device), torch.zeros(2, 30, device=device))
    z = lapcore.reparameterize(mean, logvar)
    torch.rand(100)  # what happens to the generator in between must not matter
    z.sum().backward()
    assert_close(logvar.grad, to_numpy(z) / 2, 4 * EPS)


# Layouts, determinism, higher derivatives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4), (1, 2, 1, 3), (2, 0, 4, 5)])
def test_every_layout(
    backend: str,
    slow_backend: bool,
    device: str,
    layout: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
) -> None:
    tensors = [layout(t) for t in four(shape, device=device)]
    plain = leaves(*tensors)
    strided = [t.detach().requires_grad_() for t in tensors]
    grad_z, grad_kl = draw(shape, 8, device=device), draw((shape[0],), 9, device=device)
    expanded_kl = grad_kl[:1].expand(shape[0])
    incoming = [(layout(grad_z), expanded_kl), (grad_z, grad_kl)]
    for grads in incoming[:1] if slow_backend else incoming:
        want = lapcore.reparameterize_kl(*plain, seeds=3)
        got = lapcore.reparameterize_kl(*strided, seeds=3)
        for a, b in zip(got, want, strict=True):
            assert_close(a, to_numpy(b), 8 * EPS * (1 + np.abs(to_numpy(b))))
        want_grads = torch.autograd.grad(want, plain, [g.contiguous() for g in grads])
        for a, b in zip(torch.autograd.grad(got, strided, grads), want_grads, strict=True):
            assert_close(a, to_numpy(b), 8 * EPS * (1 + np.abs(to_numpy(b))))
    x = layout(draw(shape, 10, device=device))
    assert_close(
        lapcore.gaussian_nll(x, *tensors[:2]),
        to_numpy(lapcore.gaussian_nll(x.contiguous(), *plain[:2])),
        8 * EPS * (1 + np.abs(to_numpy(lapcore.gaussian_nll(x.contiguous(), *plain[:2])))),
    )


def test_rows_do_not_depend_on_their_batch(backend: str, device: str) -> None:
    if backend == "reference":
        pytest.skip("torch's own exp rounds by the place in memory")
    tensors, seeds = four((6, 3, 333), device=device), torch.arange(6, device=device)
    z, kl = lapcore.reparameterize_kl(*tensors, seeds=seeds)
    nll = lapcore.gaussian_nll(*tensors[:3])
    for i in range(6):
        row = [t[i : i + 1] for t in tensors]
        one_z, one_kl = lapcore.reparameterize_kl(*row, seeds=seeds[i : i + 1])
        assert_same_bits(one_z, z[i : i + 1])
        assert_same_bits(one_kl, kl[i : i + 1])
        assert_same_bits(lapcore.gaussian_nll(*row[:3]), nll[i : i + 1])


def test_deterministic_algorithms_are_accepted(backend: str, device: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        tensors = leaves(*four((3, 40), device=device))
        z, kl = lapcore.reparameterize_kl(*tensors, seeds=1)
        (z.sum() + kl.sum()).backward()
        lapcore.gaussian_nll(*tensors[:3]).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.isfinite(t.grad).all() for t in tensors)
