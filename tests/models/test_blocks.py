"""The pieces of the models: sizes, bounds, cosine bases, and the blending of the editor."""

from __future__ import annotations

import pytest
import torch

import lapcore
from lapcore.nn.blocks import Down, Up, halvings, soft_clamp
from lapcore.nn.cosine import cosine_basis, lapped_cosine_basis

# float32's unit of rounding. Sixteen of it, times the largest value, cover the few roundings of a band's taps and additions;
# an inner product of up to 192 rounded cosines gets a third of its worst case, 192.
EPS = torch.finfo(torch.float32).eps


def test_halvings_are_the_pyramids_sizes() -> None:
    for size in ((1, 1), (7, 10), (64, 63)):
        images = lapcore.gaussian_pyramid(torch.zeros(1, *size), 4)
        assert halvings(size, 4) == [tuple(image.shape[1:]) for image in images]


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (16, 13)])
def test_down_and_up_agree_on_sizes(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    y = Down(3, 4)(x)
    assert tuple(y.shape) == (2, 4, *halvings(size, 1)[1])
    assert Up(4, 3, size)(y).shape == x.shape


def test_soft_clamp_is_the_identity_inside_and_bounded_outside() -> None:
    x = torch.linspace(-1e4, 1e4, 2001, requires_grad=True)
    y = soft_clamp(x, -14.0, 4.0)
    assert y.min() >= -14 and y.max() <= 4 and (y.diff() >= 0).all()
    inner = torch.tensor([-6.0, -5.0, -4.0], dtype=torch.float64)
    torch.testing.assert_close(soft_clamp(inner, -14.0, 4.0), inner, rtol=0, atol=2 * torch.e**-8)
    near = torch.tensor([-17.0, 7.0], requires_grad=True)
    soft_clamp(near, -14.0, 4.0).sum().backward()
    assert near.grad is not None and (near.grad > 0).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (4, 7), (1, 3)])
def test_cosine_basis_is_orthonormal(channels: int, size: tuple[int, int]) -> None:
    count = channels * size[0] * size[1]
    basis, amplitude = cosine_basis(count + 2, channels, size)
    flat = basis.flatten(1)
    torch.testing.assert_close(flat[:count] @ flat[:count].T, torch.eye(count), rtol=0, atol=64 * EPS)
    assert (flat[count:] == 0).all()
    assert (amplitude > 0).all()
    constant = flat[0]
    torch.testing.assert_close(constant, torch.full_like(constant, count**-0.5))


@pytest.mark.parametrize("channels", [1, 3])
def test_lapped_cosine_basis_inverts_itself(channels: int) -> None:
    basis, _ = lapped_cosine_basis(channels * 16, channels, 4)
    x = torch.randn(2, channels, 24, 24)
    codes = torch.nn.functional.conv2d(x, basis, stride=4, padding=4)
    again = torch.nn.functional.conv_transpose2d(codes, basis, stride=4, padding=4)
    torch.testing.assert_close(again, x, rtol=0, atol=16 * EPS * float(x.abs().max()))


@pytest.mark.parametrize("size", [16, 21])
def test_blend_takes_a_where_the_mask_is_one_and_b_where_it_is_zero(size: int) -> None:
    a, b = torch.randn(2, 3, size, size), torch.randn(2, 3, size, size)
    ones = torch.ones(1, 1, size, size)
    rounding = 16 * EPS * float(torch.stack((a, b)).abs().max())
    torch.testing.assert_close(lapcore.blend(a, b, ones, 2), a, rtol=0, atol=rounding)
    torch.testing.assert_close(lapcore.blend(a, b, 0 * ones, 2), b, rtol=0, atol=rounding)
    half = lapcore.blend(a, b, 0.25 * ones, 2)
    torch.testing.assert_close(half, 0.25 * a + 0.75 * b, rtol=0, atol=rounding)


def test_blend_of_flat_images_crosses_over_smoothly() -> None:
    white, black = torch.ones(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    row = lapcore.blend(white, black, mask, 3)[0, 0, 16]
    assert row[0] > 0.95 and row[-1] < 0.05 and (row.diff() < 1e-5).all() and row.diff().abs().max() < 0.2
