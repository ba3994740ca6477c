"""PixelCNN: the layout of its paper, and what its outputs depend on, the blind spot included."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lapcore.models import PixelCNN
from tests.models.masked_networks import dependencies, kernel, raster_order, reach


def small(**options: Any) -> PixelCNN:
    return PixelCNN(**(dict(image_size=5, channels=3, hidden=12, layers=2, levels=4, head=12) | options))


def test_the_papers_layout() -> None:
    """The network for MNIST that its cost is quoted for, and the one for CIFAR-10."""
    grey = PixelCNN(image_size=28, channels=1, hidden=64, layers=7, head=128, levels=2)
    block = (128 * 64 + 64) + (64 * 64 * 9 + 64) + (64 * 128 + 128)
    expected = (49 * 128 + 128) + 7 * block + 2 * (128 * 128 + 128) + (128 * 2 + 2)
    assert sum(p.numel() for p in grey.parameters()) == expected == 414_210
    with torch.device("meta"):
        shapes = [tuple(p.shape) for p in PixelCNN().parameters() if p.ndim == 4]
    block_shapes = [(128, 256, 1, 1), (128, 128, 3, 3), (256, 128, 1, 1)]
    head = [(1024, 256, 1, 1), (1024, 1024, 1, 1), (768, 1024, 1, 1)]
    assert shapes == [(256, 3, 7, 7), *block_shapes * 15, *head]
    with torch.device("meta"):
        assert PixelCNN(channels=1).network.head[0].out_channels == 32


@pytest.mark.parametrize(("channels", "layers", "size"), [(3, 2, 5), (1, 1, 5), (2, 3, 4), (1, 2, 1)])
def test_outputs_depend_on_what_goes_before_except_in_the_blind_spot(channels: int, layers: int, size: int) -> None:
    torch.manual_seed(0)
    model = small(channels=channels, layers=layers, image_size=size)
    found = dependencies(model.network, channels, size, channels)
    seen = reach(kernel(7, 7, 3 * 7 + 3), *[kernel(3, 3, 5)] * layers)
    pixel = torch.arange(size)
    dy = pixel[None, None, :, None] - pixel[:, None, None, None]
    dx = pixel[None, None, None, :] - pixel[None, :, None, None]
    visible = torch.zeros(size, size, size, size, dtype=torch.bool)
    for y, x in seen | {(0, 0)}:
        visible |= (dy == y) & (dx == x)
    expected = raster_order(channels, size, channels) & visible[None, :, :, None]
    assert torch.equal(found, expected)


def test_the_blind_spot() -> None:
    """From the row above, 3x3 layers reach no further to the right than the first 7x7: pixel (1, 0) never sees (0, 4)."""
    torch.manual_seed(0)
    found = dependencies(small(layers=4).network, 3, 5, 3)
    assert not found[:, 1, 0, :, 0, 4].any()
    assert found[:, 1, 0, :, 0, 3].all() and found[:, 2, 0, :, 0, 4].all()


def test_code_maps_are_embedded() -> None:
    model = small(channels=1, levels=7, embedding=5, image_size=4, head=None)
    assert model.network.first.in_channels == 5
    torch.manual_seed(0)
    codes = torch.randint(0, 7, (6, 1, 4, 4))
    images = 2 * codes / 6 - 1
    before = model.log_likelihood(images)
    with torch.no_grad():
        model.network.embed.weight[:, 3] += 1.0
    after = model.log_likelihood(images)
    has_three = (codes[:, 0].flatten(1)[:, :-1] == 3).any(1)
    assert not torch.equal(before, after)
    assert all((before[i] != after[i]) or not has_three[i] for i in range(6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 2}, "hidden: expected at least 3"),
        ({"head": 2}, "head: expected at least 3"),
        ({"layers": 0}, "layers"),
        ({"levels": 1}, "levels: expected an integer from 2"),
        ({"levels": 2.0}, "levels"),
        ({"embedding": 0}, "embedding"),
        ({"num_classes": 0}, "num_classes"),
        ({"channels": 0}, "channels"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
