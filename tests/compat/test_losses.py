"""RIFE's and RobustVideoMatting's losses: their own algorithm where it runs, the oracle where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lapcore.compat.rife import LapLoss
from lapcore.compat.rvm import laplacian_loss
from tests.compat import folk_down, folk_up, random_images
from tests.oracle import laplacian_loss as oracle
from tests.oracle.laplacian_loss import Recipe
from tests.tolerance import loss_error, to_numpy

Size = tuple[int, int]
Pair = tuple[torch.Tensor, torch.Tensor]


def rife(input: torch.Tensor, target: torch.Tensor, levels: int) -> torch.Tensor:
    """Two pyramids, compared band by band."""
    total = torch.zeros((), dtype=input.dtype)
    for _ in range(levels):
        a, b = folk_down(input), folk_down(target)
        total = total + F.l1_loss(input - folk_up(a), target - folk_up(b))
        input, target = a, b
    return total


def rvm(pred: torch.Tensor, true: torch.Tensor, levels: int) -> torch.Tensor:
    total = torch.zeros((), dtype=pred.dtype)
    for level in range(levels):
        h, w = pred.shape[2] // 2 * 2, pred.shape[3] // 2 * 2
        pred, true = pred[:, :, :h, :w], true[:, :, :h, :w]
        a, b = folk_down(pred), folk_down(true)
        total = total + 2**level * F.l1_loss(pred - folk_up(a), true - folk_up(b))
        pred, true = a, b
    return total / levels


def folk_error(pair: Pair, levels: int) -> float:
    """Of the two codes together: the folk one rounds a and b apart. Both are below 1, so |h| summed with a plus is below 2, and the
    weights add up to less than 2^levels."""
    return 3 * 2 * 2**levels * loss_error(tuple(pair[0].shape), pair[0].dtype, levels)


def assert_same_loss(ours: torch.Tensor, theirs: torch.Tensor, pair: Pair, levels: int) -> None:
    assert ours.shape == ()
    tolerance = folk_error(pair, levels)
    assert abs(ours.item() - theirs.item()) <= tolerance
    assert theirs.item() > 1e6 * tolerance
    # |h| has the derivative sign(h): no band of random images comes near 0, so both take the same sign everywhere
    for mine, other in zip(torch.autograd.grad(ours, pair), torch.autograd.grad(theirs, pair), strict=True):
        assert (mine - other).abs().max() <= 1e-12 * other.abs().max()


def assert_oracle_loss(loss: torch.Tensor, pair: Pair, recipe: Recipe) -> None:
    images = to_numpy(pair[0]), to_numpy(pair[1])
    relative = loss_error(tuple(pair[0].shape), torch.float64, recipe.levels)
    tolerance = 2 * relative * float(oracle.laplacian_loss_magnitude(*images, recipe))  # the oracle rounds too
    assert abs(loss.item() - float(oracle.laplacian_loss(*images, recipe))) <= tolerance


@pytest.mark.parametrize(
    ("size", "levels"), [((64, 64), 5), ((96, 64), 5), ((128, 160), 5), ((24, 40), 3), ((6, 10), 1)], ids=str
)
def test_rife(size: Size, levels: int) -> None:
    a, b = random_images(2, 3, *size)
    assert_same_loss(LapLoss(levels)(a, b), rife(a, b, levels), (a, b), levels)


def test_rife_by_default() -> None:
    a, b = random_images(1, 3, 64, 64)
    assert_same_loss(LapLoss()(a, b), rife(a, b, 5), (a, b), 5)
    assert torch.equal(LapLoss()(input=a, target=b), LapLoss(max_levels=5, channels=3)(a, b))
    assert not LapLoss().state_dict()


@pytest.mark.parametrize("side", [16, 28, 32, 33, 48, 100, 225])
def test_rife_where_its_own_code_cannot_run(side: int) -> None:
    a, b = random_images(1, 3, side, side)
    with pytest.raises(RuntimeError):
        rife(a, b, 5)
    loss = LapLoss()(a, b)
    assert_oracle_loss(loss, (a, b), Recipe())
    for grad in torch.autograd.grad(loss, (a, b)):
        assert torch.isfinite(grad).all()
        assert grad.any()


@pytest.mark.parametrize("channels", [1, 4])
def test_rife_channels(channels: int) -> None:
    a, b = random_images(1, channels, 24, 24)
    assert_same_loss(LapLoss(3, channels)(a, b), rife(a, b, 3), (a, b), 3)


@pytest.mark.parametrize(
    ("size", "levels"),
    [((64, 64), 5), ((96, 130), 5), ((97, 101), 5), ((225, 150), 5), ((21, 30), 3), ((7, 9), 1)],
    ids=str,
)
def test_rvm(size: Size, levels: int) -> None:
    """Even and odd sides, at the first level and at deeper ones."""
    a, b = random_images(2, 1, *size)
    assert_same_loss(laplacian_loss(a, b, levels), rvm(a, b, levels), (a, b), levels)


def test_rvm_by_default() -> None:
    a, b = random_images(3, 1, 100, 75)
    assert_same_loss(laplacian_loss(a, b), rvm(a, b, 5), (a, b), 5)
    assert torch.equal(laplacian_loss(pred=a, true=b), laplacian_loss(a, b, max_levels=5))


def test_rvm_where_its_own_code_cannot_run() -> None:
    """Down to one cropped pair of samples."""
    a, b = random_images(2, 1, 33, 47)
    with pytest.raises(RuntimeError):
        rvm(a, b, 5)
    assert_oracle_loss(5 * laplacian_loss(a, b), (a, b), Recipe(weights="pow2", odd="crop"))


def test_float32_and_half() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        a, b = random_images(1, 3, 64, 64, dtype=dtype)
        for ours, theirs in (
            (LapLoss()(a, b), rife(a.double(), b.double(), 5)),
            (laplacian_loss(a, b), rvm(a.double(), b.double(), 5)),
        ):
            assert ours.dtype == torch.float32
            assert abs(ours.item() - theirs.item()) <= 32 * loss_error((1, 3, 64, 64), torch.float32, 5)


def test_equal_images_give_zero() -> None:
    a, _ = random_images(1, 3, 17, 40)
    for loss in (LapLoss()(a, a), laplacian_loss(a, a, 4)):
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, a)[0].any()


def test_refusals() -> None:
    a = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match="max_levels: expected an int of at least 1, got 0"):
        LapLoss(0)
    with pytest.raises(TypeError, match=r"channels: expected an int of at least 1, got 2\.5"):
        LapLoss(channels=2.5)
    with pytest.raises(ValueError, match=r"input: expected shape \(N, 1, H, W\), got \(1, 3, 16, 16\)"):
        LapLoss(channels=1)(a, a)
    with pytest.raises(ValueError, match="target"):
        LapLoss()(a, a[..., :8])
    with pytest.raises(TypeError, match="input"):
        LapLoss()(np.zeros((1, 3, 16, 16)), a)
    with pytest.raises(ValueError, match="levels: expected at most 4 for images of 16x16"):
        laplacian_loss(a, a)
    with pytest.raises(ValueError, match="target"):
        laplacian_loss(a, a[:, :1], 2)
