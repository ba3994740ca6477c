"""Masked convolutions and their activations: against the oracle on every backend, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.layouts import LAYOUTS
from tests.ops.masked_conv_checks import ACTIVATIONS, MASKS, check, check_activation, check_gradients, draw
from tests.oracle import masked_conv as oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

PROBE = ("masked_conv2d", (1, 1, 2, 2))
KERNELS = [(k, k) for k in range(1, 8)] + [(2, 3), (1, 2), (1, 3), (1, 7), (3, 1), (4, 5)]

Tensor = torch.Tensor
# NumPy's, in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")


# The mask ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_mask_of(mask: str, kernel: tuple[int, int]) -> None:
    for inputs, outputs, groups in ((1, 1, 1), (3, 3, 3), (3, 6, 3), (7, 8, 3), (4, 10, 2), (5, 4, 1)):
        for gated in (False, True):
            if outputs // (1 + gated) < groups:
                continue
            got = lapcore.mask_of(mask, kernel, inputs, outputs, groups, gated_layout=gated)
            assert got.dtype == torch.bool
            assert np.array_equal(got.numpy(), oracle.mask_of(mask, kernel, inputs, outputs, groups, gated))


def test_mask_of_rgb() -> None:
    """The paper's: red sees no colour of its own pixel, green red, blue red and green; in B each itself too."""
    a, b = (lapcore.mask_of(mask, 1, 3, 3, 3)[:, :, 0, 0].int().tolist() for mask in "AB")
    assert a == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert b == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert lapcore.mask_of("A", 3, 1, 1)[0, 0].int().tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


# Against the oracle --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_every_mask_and_kernel(
    backend: str, slow_backend: bool, device: str, mask: str, kernel: tuple[int, int]
) -> None:
    """Channels that three does not divide, and an image smaller than the largest kernels."""
    for groups, stride in ((3, 1 + kernel[1] % 2),) if slow_backend else ((1, 1), (3, 2)):
        x, weight = draw(2, 4, 5, 6, device=device), draw(5, 4, *kernel, seed=1, device=device)
        check(x, weight, draw(5, seed=2, device=device), mask=mask, color_groups=groups, stride=stride)
        check_gradients(x, weight, mask, groups, False, stride)


@pytest.mark.parametrize("dtype", strategies.DTYPES, ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_every_dtype_and_activation(backend: str, device: str, mask: str, dtype: torch.dtype) -> None:
    x, weight = draw(2, 7, 4, 5, dtype=dtype, device=device), draw(10, 7, 3, 3, seed=1, dtype=dtype, device=device)
    vectors, maps = (draw(*s, seed=3, dtype=dtype, device=device) for s in ((2, 10), (2, 10, 4, 5)))
    for activation in ("none", "relu", "gated"):
        for condition in (None, vectors, maps):
            check(x, weight, mask=mask, color_groups=3, condition=condition, activation=activation)
    check_gradients(x, weight, mask, 3, True, 1)


SIZES = [(1, 1, 1, 1), (1, 1, 1, 9), (3, 2, 8, 1), (1, 3, 2, 3), (1, 1, 33, 17), (0, 3, 4, 5)]


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_every_size(backend: str, device: str, shape: tuple[int, ...]) -> None:
    for mask, stride in (("A", 1), ("B", 2), ("rows", 2)):
        x, weight = draw(*shape, device=device), draw(2, shape[1], 3, 3, seed=1, device=device)
        y = check(x, weight, mask=mask, stride=stride)
        assert y.shape == (shape[0], 2, -(-shape[2] // stride), -(-shape[3] // stride))
        check_gradients(x, weight, mask, 1, False, stride)


@pytest.mark.heavy
@pytest.mark.parametrize("channels", [(3, 130), (70, 34)], ids=str)
def test_more_channels_than_a_tile(backend: str, device: str, channels: tuple[int, int]) -> None:
    x, weight = draw(1, channels[0], 9, 11, device=device), draw(channels[1], channels[0], 3, 3, seed=1, device=device)
    check(x, weight, mask="B", color_groups=3, activation="gated")
    check_gradients(x, weight, "B", 3, True, 1)


def test_any_call(backend: str, slow_backend: bool, device: str) -> None:
    side, channels = (6, 5) if slow_backend else (12, 10)

    @settings(max_examples=8 if slow_backend else 30)
    @given(
        sizes=st.tuples(st.integers(1, 3), st.integers(1, channels), st.integers(1, side), st.integers(1, side)),
        half=st.integers(1, channels),
        kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        mask=st.sampled_from(MASKS),
        groups=st.integers(1, 3),
        stride=st.sampled_from((1, 2)),
        activation=st.sampled_from(("none", "relu", "gated")),
        gated=st.booleans(),
        dtype=strategies.dtypes,
        layouts=st.tuples(strategies.layouts, strategies.layouts),
    )
    def run(sizes, half, kernel, mask, groups, stride, activation, gated, dtype, layouts) -> None:
        x, weight = draw(*sizes).to(device, dtype), draw(2 * half, sizes[1], *kernel, seed=1).to(device, dtype)
        x, weight = (LAYOUTS[name](t) for name, t in zip(layouts, (x, weight), strict=True))
        groups = min(groups, half, sizes[1])
        call = {"mask": mask, "color_groups": groups, "stride": stride}
        y = check(x, weight, activation=activation, gated_layout=gated, **call)
        assert_same_bits(
            y, check(x.contiguous(), weight.contiguous(), activation=activation, gated_layout=gated, **call)
        )
        check_gradients(x, weight, mask, groups, gated, stride)

    run()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", strategies.DTYPES, ids=str)
def test_activations(backend: str, slow_backend: bool, device: str, name: str, dtype: torch.dtype) -> None:
    for shape in ((2, 6), (3, 4, 5), (2, 10, 7, 3), (1, 2, 1, 1), (0, 4, 2, 2), (1, 2, 700)):
        outputs = shape[0], 2 * shape[1] if name == "elu" else shape[1] // 2, *shape[2:]
        for scale in (3,) if slow_backend else (0.01, 1, 30):
            x, grad = ((draw(*s, seed=i) * scale).to(device, dtype) for i, s in enumerate((shape, outputs)))
            check_activation(name, x, grad)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_the_ends(backend: str, device: str, name: str) -> None:
    """Exponentials may stop near the last normal number; such a one, and an infinity, meet no factor that could bring them back."""
    function, want, _ = ACTIVATIONS[name]
    ends = torch.tensor([0.0, -0.0, 1e-30, 88.8, -88.8, 104.0, -104.0, 1e30, -1e30, torch.inf, -torch.inf, torch.nan])
    x = torch.cartesian_prod(ends, ends).T.reshape(1, 2, -1).to(device)
    if name == "identity":
        x = torch.cat([x[:, :1].clamp(-1e30, 1e30), x[:, 1:].clamp(-80, 80)], 1)
    with np.errstate(all="ignore"):
        exact = want(to_numpy(x))
    allowed = np.nan_to_num(8 * torch.finfo(torch.float32).eps * np.abs(exact), posinf=0)
    assert_close(function(x), exact.astype(np.float32), allowed + 2 * torch.finfo(torch.float32).tiny)


# Gradients -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "gated"])
def test_gradients_of_every_order(backend: str, device: str, activation: str) -> None:
    x, weight = draw(1, 3, 2, 3, dtype=torch.float64, device=device), draw(6, 3, 2, 2, seed=1).double().to(device)
    condition = draw(1, 6, *(() if activation == "relu" else (1, 2)), seed=3).double().to(device)
    tensors = x, weight, draw(6, seed=2).double().to(device), condition

    def function(x: Tensor, weight: Tensor, bias: Tensor, condition: Tensor) -> Tensor:
        call = {"color_groups": 3, "stride": 2, "activation": activation}
        return lapcore.masked_conv2d(x, weight, bias, mask="B", condition=condition, **call)

    inputs = [t.requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_only_the_gradients_that_are_wanted(backend: str, device: str) -> None:
    tensors = [draw(1, 2, 3, 3), draw(4, 2, 3, 3, seed=1), draw(4, seed=2), draw(1, 4, seed=3)]
    tensors = [t.to(device) for t in tensors]
    every = [t.clone().requires_grad_() for t in tensors]

    def run(x: Tensor, weight: Tensor, bias: Tensor, condition: Tensor) -> Tensor:
        return lapcore.masked_conv2d(x, weight, bias, mask="B", condition=condition, activation="gated").sum()

    want = torch.autograd.grad(run(*every), every)
    for i in range(4):
        one = [t.clone().requires_grad_(i == j) for j, t in enumerate(tensors)]
        assert_same_bits(torch.autograd.grad(run(*one), one[i])[0], want[i])


def test_a_fused_activation_has_its_gradient() -> None:
    """Of a graph that was exported without gradients, and then trained."""
    inputs = [draw(1, 2, 3, 3).requires_grad_(), draw(4, 2, 3, 3, seed=1).requires_grad_()]
    got = torch.ops.lapcore.masked_conv2d(*inputs, None, None, "B", 1, 1, "gated", True)
    want = lapcore.masked_conv2d(*inputs, mask="B", activation="gated")
    grads = [torch.autograd.grad(y.square().sum(), inputs) for y in (got, want)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, to_numpy(b), 1e-5)
