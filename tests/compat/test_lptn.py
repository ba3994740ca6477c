"""LPTN's pyramid: its own algorithm where that runs, exact inversion at every size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lapcore.compat.lptn import Lap_Pyramid_Conv
from tests.compat import folk_down, folk_up, random_images
from tests.tolerance import ROUND_TRIP, assert_close, bound, to_numpy

Size = tuple[int, int]
SIZES = [(64, 64), (24, 40), (65, 64), (33, 47), (225, 31)]


def fitted(image: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """LPTN resizes an expansion that is one sample too large by its nearest neighbours, which drops the last sample."""
    return image if image.shape == level.shape else F.interpolate(image, size=level.shape[2:])


def folk_decom(image: torch.Tensor, levels: int) -> list[torch.Tensor]:
    pyramid = []
    for _ in range(levels):
        down = folk_down(image)
        pyramid.append(image - fitted(folk_up(down), image))
        image = down
    return [*pyramid, image]


def folk_recons(pyramid: list[torch.Tensor]) -> torch.Tensor:
    image = pyramid[-1]
    for level in reversed(pyramid[:-1]):
        image = fitted(folk_up(image), level) + level
    return image


def assert_near(got: torch.Tensor, expected: torch.Tensor, op: str, scale: float = 4.0) -> None:
    """Both codes round; images are in [0, 1), and no intermediate sum of magnitudes reaches 4."""
    assert_close(got, to_numpy(expected), 2 * bound(op, got.dtype, scale, 3), op)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_decomposition(size: Size, channels: int) -> None:
    (image,) = random_images(2, channels, *size, count=1)
    ours, theirs = Lap_Pyramid_Conv().pyramid_decom(img=image), folk_decom(image, 3)
    assert isinstance(ours, list)
    assert len(ours) == len(theirs) == 4
    for mine, other in zip(ours, theirs, strict=True):
        assert_near(mine, other, "laplacian_pyramid")
    weights = random_images(3, count=1)[0].detach()
    mine, other = (
        torch.autograd.grad(sum(w * (level**2).sum() for w, level in zip(weights, levels[:3], strict=True)), image)[0]
        for levels in (ours, theirs)
    )
    assert (mine - other).abs().max() <= 1e-12 * other.abs().max()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_reconstruction_of_changed_bands(size: Size) -> None:
    """Translated bands are no image's pyramid: the two codes must still agree."""
    (image,) = random_images(1, 3, *size, count=1)
    pyramid = [torch.rand_like(level).requires_grad_() for level in folk_decom(image, 3)]
    ours, theirs = Lap_Pyramid_Conv(3).pyramid_recons(pyramid), folk_recons(pyramid)
    assert_near(ours, theirs, "collapse")
    for mine, other in zip(
        torch.autograd.grad((ours**2).sum(), pyramid), torch.autograd.grad((theirs**2).sum(), pyramid), strict=True
    ):
        assert (mine - other).abs().max() <= 1e-12 * other.abs().max()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 8), (17, 100)], ids=str)
@pytest.mark.parametrize("num_high", [0, 1, 4])
def test_inverts_at_every_size(size: Size, num_high: int) -> None:
    pyramid = Lap_Pyramid_Conv(num_high)
    image = torch.rand(2, 3, *size)
    levels = pyramid.pyramid_decom(image)
    assert len(levels) == num_high + 1
    assert (pyramid.pyramid_recons(levels) - image).abs().max() <= ROUND_TRIP


def test_is_a_module_without_state() -> None:
    pyramid = Lap_Pyramid_Conv()
    assert isinstance(pyramid, torch.nn.Module)
    assert pyramid.num_high == 3
    assert not pyramid.state_dict()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="num_high: expected an int of at least 0, got -1"):
        Lap_Pyramid_Conv(-1)
    with pytest.raises(TypeError, match=r"num_high: expected an int of at least 0, got 1\.5"):
        Lap_Pyramid_Conv(1.5)
    with pytest.raises(ValueError, match=r"pyramid\[1\]: expected shape"):
        Lap_Pyramid_Conv().pyramid_recons([torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 4)])
