"""Masked convolutions: what depends on what, and on which backends the bits depend on nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import lapcore
from tests.ops.masked_conv_checks import ACTIVATIONS, MASKS, draw
from tests.oracle import masked_conv as oracle
from tests.tolerance import assert_same_bits, to_numpy

PROBE = ("masked_conv2d", (1, 1, 2, 2))
EXACT = ("cpu", "cuda")
"""Backends whose sums are one chain whatever the call."""

Tensor = torch.Tensor


# Structure -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mask", MASKS)
def test_the_jacobian_is_the_mask(
    backend: str, slow_backend: bool, device: str, mask: str, stride: int, gated: bool
) -> None:
    """Outputs depend on those inputs that a live tap joins to them, on every one of them, and on no other: forward, on a batch of
    all unit images, and backward, on one of all unit gradients."""
    channels, outputs, kernel = 4, 6, (2, 3)
    height, width = (2, 3) if slow_backend else (3, 4)
    weight = draw(outputs, channels, *kernel, device=device).abs() + 1
    live = oracle.mask_of(mask, kernel, channels, outputs, 3, gated)
    small = -(-height // stride), -(-width // stride)
    want = np.zeros((outputs, *small, channels, height, width), dtype=bool)
    for o, i, j, c, row, column in np.ndindex(want.shape):
        dy, dx = row - stride * i + kernel[0] // 2, column - stride * j + kernel[1] // 2
        want[o, i, j, c, row, column] = 0 <= dy < kernel[0] and 0 <= dx < kernel[1] and live[o, c, dy, dx]

    units = torch.eye(channels * height * width, device=device).view(-1, channels, height, width)
    call = {"mask": mask, "color_groups": 3, "stride": stride, "gated_layout": gated}
    forward = lapcore.masked_conv2d(units, weight, **call)
    assert np.array_equal(to_numpy(forward.flatten(1).T != 0).reshape(want.shape), want)
    x = torch.zeros(want[..., 0, 0, 0].size, channels, height, width, device=device, requires_grad=True)
    y = lapcore.masked_conv2d(x, weight, **call)
    (backward,) = torch.autograd.grad(y, x, torch.eye(len(x), device=device).view(y.shape))
    assert np.array_equal(to_numpy(backward != 0).reshape(want.shape), want)
    assert_same_bits(backward.flatten(1), forward.flatten(1).T.contiguous())


# Bits ----------------------------------------------------------------------------------------------------------------------------


def calls(dtype: torch.dtype, device: str) -> Iterator[tuple[Tensor, Tensor, Tensor, dict[str, object]]]:
    """Wide and narrow ones, of every activation."""
    for mask, channels, outputs, kernel, call in (
        ("A", 3, 66, (7, 7), {"color_groups": 3}),
        ("B", 40, 40, (3, 3), {"color_groups": 3, "activation": "relu"}),
        ("B", 33, 70, (1, 1), {"activation": "none"}),
        ("B", 24, 38, (2, 2), {"color_groups": 2, "activation": "gated"}),
        ("rows", 9, 20, (2, 3), {"stride": 2}),
        ("above", 17, 6, (3, 3), {"activation": "gated"}),
    ):
        x, weight = draw(5, channels, 13, 21, dtype=dtype), draw(outputs, channels, *kernel, seed=1, dtype=dtype)
        bias = draw(outputs, seed=2, dtype=dtype)
        yield x.to(device), weight.to(device), bias.to(device), {"mask": mask, **call}


def exact_only(backend: str) -> None:
    if backend not in EXACT:
        pytest.skip(f"{backend} may sum in any order")


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_an_image_does_not_depend_on_its_batch_or_the_threads(backend: str, device: str, dtype: torch.dtype) -> None:
    exact_only(backend)
    threads = torch.get_num_threads()
    try:
        for x, weight, bias, call in calls(dtype, device):
            torch.set_num_threads(threads)
            whole = lapcore.masked_conv2d(x, weight, bias, **call)
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                assert_same_bits(lapcore.masked_conv2d(x, weight, bias, **call), whole)
                parts = [lapcore.masked_conv2d(part, weight, bias, **call) for part in (x[:1], x[1:3], x[3:])]
                assert_same_bits(torch.cat(parts), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.heavy
def test_a_pixel_does_not_depend_on_its_place(backend: str, device: str) -> None:
    """What a crop knows whole, it computes alike."""
    exact_only(backend)
    for x, weight, bias, call in calls(torch.float32, device):
        if call.get("stride") == 2:
            continue
        height, width = weight.shape[2:]
        whole = lapcore.masked_conv2d(x, weight, bias, **call)
        crop = lapcore.masked_conv2d(x[:, :, 2:11, 3:], weight, bias, **call)
        top, left = height // 2, width // 2
        assert_same_bits(crop[:, :, top:, left:].contiguous(), whole[:, :, 2 + top : 11, 3 + left :].contiguous())


@pytest.mark.heavy
def test_a_stride_or_a_fused_activation_changes_no_bits(backend: str, device: str) -> None:
    exact_only(backend)
    for x, weight, bias, call in calls(torch.float32, device):
        activation, _ = call.pop("activation", "none"), call.pop("stride", None)
        gated = activation == "gated"
        linear = lapcore.masked_conv2d(x, weight, bias, gated_layout=gated, **call)
        halved = lapcore.masked_conv2d(x, weight, bias, gated_layout=gated, stride=2, **call)
        assert_same_bits(halved, linear[:, :, ::2, ::2].contiguous())
        apart = {"none": lambda y: y, "relu": torch.relu, "gated": lapcore.gated_activation}[activation](linear)
        assert_same_bits(lapcore.masked_conv2d(x, weight, bias, activation=activation, **call), apart)


@pytest.mark.heavy
def test_the_chain(backend: str, device: str) -> None:
    """Sums are fused multiply-adds over live taps in raster order, each tap's channels in order, then bias and condition."""
    exact_only(backend)
    if backend == "cpu":
        from lapcore import _C

        if _C.isa() == "baseline":
            pytest.skip("this instruction set has no fused multiply-add")
    for mask, groups in (("A", 3), ("B", 2), ("rows", 1)):
        x, weight = draw(2, 5, 6, 7), draw(7, 5, 3, 3, seed=1)
        bias, condition = draw(7, seed=2), draw(2, 7, seed=3)
        arrays = [t.numpy() for t in (x, weight, bias)]
        call = {"mask": mask, "color_groups": groups}
        want = oracle.masked_conv2d(*arrays, condition=condition.numpy(), accumulate=oracle.fused, **call)
        assert want.dtype == np.float32
        got = lapcore.masked_conv2d(
            x.to(device), weight.to(device), bias.to(device), condition=condition.to(device), **call
        )
        assert_same_bits(got.cpu(), torch.from_numpy(want))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_does_not_depend_on_its_place(backend: str, device: str, name: str) -> None:
    exact_only(backend)
    function = ACTIVATIONS[name][0]
    x = draw(3, 2, 101).to(device) * 3
    want = function(x)
    for part in (slice(0, 1), slice(5, 9), slice(7, 101)):
        assert_same_bits(function(x[:, :, part]), want[:, :, part].contiguous())
    assert_same_bits(function(x[1:2]), want[1:2])
