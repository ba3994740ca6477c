"""PixelCNN++: its size, its layers, and what its outputs depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lapcore.models import PixelCNNPlusPlus
from lapcore.models.pixelcnn_pp import NormalizedConv2d
from tests.models.masked_networks import dependencies, raster_order


def small(**options: Any) -> PixelCNNPlusPlus:
    return PixelCNNPlusPlus(**(dict(image_size=8, channels=3, hidden=4, mixtures=2, resnets=1) | options))


def test_the_papers_size() -> None:
    """160 maps: 53.7 million parameters; ours has half a percent more where it goes up in scale."""
    with torch.device("meta"):
        model = PixelCNNPlusPlus()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(53.7e6, rel=0.01)
    assert model.network.last.out_channels == 100
    assert model.network.resnets == 2 * (5 + 5 + 5 + 5 + 6 + 6)


@pytest.mark.parametrize(("channels", "size", "resnets"), [(3, 4, 1), (1, 8, 2)])
def test_outputs_depend_on_exactly_what_goes_before(channels: int, size: int, resnets: int) -> None:
    """Through both streams and all three scales; a pixel's channels are drawn together, so it sees none of its own."""
    torch.manual_seed(0)
    model = small(channels=channels, image_size=size, resnets=resnets).eval()
    assert torch.equal(dependencies(model.network, channels, size, 1, images=1), raster_order(channels, size, 1))


def test_weights_are_normed_over_live_taps() -> None:
    torch.manual_seed(0)
    conv = NormalizedConv2d(3, 5, (2, 3), mask="A", gain=0.5)
    weight = conv.effective_weight()
    live = conv.live()
    torch.testing.assert_close(
        weight[:, :, 0].square().sum((1, 2)) + weight[:, :, 1, 0].square().sum(1), 0.25 * torch.ones(5)
    )
    assert (weight[~live] == 0).all()
    with torch.no_grad():
        conv.weight[~live] = float("nan")
        conv.weight[live] *= 3
    torch.testing.assert_close(conv.effective_weight(), weight)
    image = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(conv(image), conv.to_conv2d()(image))


def test_every_parameter_has_a_use() -> None:
    torch.manual_seed(0)
    model = small(num_classes=2)
    model.loss(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_it_starts_as_one_broad_distribution() -> None:
    """Gains of 0.1 at the end: no worse than 8 bits for a value by much, at any depth."""
    torch.manual_seed(0)
    model = small(hidden=8, resnets=3).eval()
    bpd = model.loss(torch.rand(4, 3, 8, 8).mul(2).sub(1))["bpd"]
    assert 7 < bpd < 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 6}, "image_size: expected a multiple of 4"),
        ({"channels": 2}, "channels: expected 3 or 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"mixtures": 0}, "mixtures"),
        ({"resnets": 0}, "resnets"),
        ({"hidden": 1.5}, "hidden"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
