"""Gated PixelCNN: its layers, and that its outputs depend on all that goes before, and on nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lapcore.models import GatedPixelCNN
from tests.models.masked_networks import dependencies, raster_order


def small(**options: Any) -> GatedPixelCNN:
    return GatedPixelCNN(**(dict(image_size=5, channels=3, hidden=24, layers=3, levels=4, head=36) | options))


def test_the_layers() -> None:
    with torch.device("meta"):
        network = GatedPixelCNN(channels=3, hidden=128, layers=15).network
    first, *others = [[tuple(p.shape) for p in layer.parameters() if p.ndim == 4] for layer in network.layers]
    pointwise = [(256, 256, 1, 1), (128, 128, 1, 1), (128, 128, 1, 1)]
    assert sorted(first) == sorted([(256, 3, 7, 7), (256, 3, 1, 7), *pointwise])
    assert len(others) == 14
    assert all(sorted(shapes) == sorted([(256, 128, 3, 3), (256, 128, 1, 3), *pointwise]) for shapes in others)
    assert network.head.out_channels == 1024 and network.logits.out_channels == 3 * 256


@pytest.mark.parametrize(
    ("channels", "layers", "size"), [(3, 3, 5), (1, 3, 5), (2, 4, 6), (1, 1, 1), (3, 1, 4), (1, 4, 7)]
)
def test_outputs_depend_on_exactly_what_goes_before(channels: int, layers: int, size: int) -> None:
    """No blind spot: the first layer reaches 3 columns, each later one a column more."""
    torch.manual_seed(1)
    model = small(channels=channels, layers=layers, image_size=size)
    assert size - 1 <= 3 + layers - 1
    assert torch.equal(dependencies(model.network, channels, size, channels), raster_order(channels, size, channels))


def test_every_parameter_has_a_use() -> None:
    torch.manual_seed(0)
    model = small(num_classes=2)
    model.loss(torch.rand(2, 3, 5, 5), torch.tensor([0, 1]))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_the_class_reaches_both_gates_of_every_layer() -> None:
    """Of the first pixel too, which sees nothing else."""
    torch.manual_seed(0)
    model = small(num_classes=2, channels=1)
    assert [v.weight.shape for v in model.class_vectors] == [(2, 48)] * 6
    images = torch.rand(1, 1, 5, 5)
    whole = [model.log_likelihood(images, torch.tensor([c])) for c in (0, 1)]
    assert whole[0] != whole[1]
    for vectors in model.class_vectors:
        before = model.log_likelihood(images, torch.tensor([1]))
        with torch.no_grad():
            vectors.weight[1] += 0.5
        assert model.log_likelihood(images, torch.tensor([1])) != before
    assert model.log_likelihood(images, torch.tensor([0])) == whole[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 2}, "hidden: expected at least 3"),
        ({"head": 2}, "head: expected at least 3"),
        ({"layers": 0}, "layers"),
        ({"levels": 1}, "levels"),
        ({"embedding": 0}, "embedding"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
