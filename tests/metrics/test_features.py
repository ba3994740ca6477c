"""Features of a network: what it is given, whatever the batch, and where it may come from."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lapcore.errors import LapcoreError, MissingDependencyError
from lapcore.metrics import FeatureNetwork, feature_network, features

U = torch.finfo(torch.float32).eps / 2
"""The relative error of one rounding."""


def draw(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def means(images):
    """(N, 3 C): a network whose features of an image do not depend on the others."""
    return torch.cat([images.mean((2, 3)), images.amax((2, 3)), images[:, :, 0, 0]], 1)


class Places(torch.nn.Module):
    def forward(self, images):
        return images.flatten(2).mean(2)


def pillow_resized(images, size):
    """Bicubic with antialiasing, channel by channel in float, as clean-fid does."""
    planes = images.numpy().astype(np.float32).reshape(-1, *images.shape[2:])
    resized = [np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC)) for plane in planes]
    return np.array(resized).reshape(*images.shape[:2], size, size).clip(0, 255) / 255


def test_a_network_sees_images_from_0_to_1_32_at_a_time():
    images, seen = draw(70, 3, 5, 4), []

    def network(batch):
        seen.append(batch)
        return means(batch)

    done = []
    found = features(images, network, on_images=done.append)
    assert found.dtype == torch.float32 and found.shape == (70, 9) and done == [32, 32, 6]
    assert [tuple(batch.shape) for batch in seen] == [(32, 3, 5, 4)] * 3
    assert all(batch.dtype == torch.float32 for batch in seen)
    given = torch.cat(seen)[:70]
    # One division; and in the means 20 sums and another one.
    np.testing.assert_allclose(given, images.numpy() / 255, rtol=U)
    np.testing.assert_allclose(found, means(images.double() / 255), rtol=22 * U)


def test_features_depend_on_their_image_only():
    images = draw(40, 3, 9, 9)
    network = FeatureNetwork("conv", torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten()), 12)
    whole = features(images, network)
    assert torch.equal(whole, features(images, network))
    assert torch.equal(whole[:7], features(images[:7], network))
    assert torch.equal(whole[32:], features(images[32:], network))


@pytest.mark.parametrize("size", [4, 9, 16, 37])
def test_resizing_is_pillows(size):
    images, seen = draw(3, 3, 16, 16), []
    features(images, lambda batch: seen.append(batch) or means(batch), size=size)
    # Two passes of at most 16 taps each, whose weights' magnitudes add up to less than 1.5, on values up to 1, here and there.
    np.testing.assert_allclose(seen[0][:3], pillow_resized(images, size), rtol=0, atol=2 * 32 * U)


def test_efficientnet_lite0():
    """1280 numbers, the last layer's input: with it they give the package's own logits of pictures from -127/128 to 1."""
    images = draw(2, 3, 40, 40)
    found = features(images, "efficientnet_lite0")
    assert found.shape == (2, 1280) and (found >= 0).all() and found.std() > 0.05
    network = feature_network("efficientnet_lite0")
    assert (network.name, network.size) == ("efficientnet_lite0", 224)
    small = feature_network("efficientnet_lite0", size=96)
    assert (small.name, small.size) == ("efficientnet_lite0 at 96x96", 96)
    whole = network.network.network
    pictures = torch.from_numpy((pillow_resized(images, 224) * 255 - 127) / 128).float()
    with torch.no_grad():
        # The pictures differ by a few u from those that the network saw, and each of its 99 layers rounds its sums.
        logits, size = whole._fc(found), found @ whole._fc.weight.abs().T
        assert ((logits - whole(pictures)).abs() <= 99 * 8 * U * size).all()
        grey = torch.rand(1, 1, 64, 64)
        torch.testing.assert_close(network.network(grey), network.network(grey.expand(1, 3, 64, 64)))


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingDependencyError, match=r"lapcore\[features\]"):
        feature_network("efficientnet_lite0")


def test_networks_of_modules(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def corner(images):\n    return images[:, :, 0, 0]\n"
        "class Holder:\n    network = torch.nn.Sequential(torch.nn.Dropout(0.9), torch.nn.Flatten())\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    images = draw(5, 3, 2, 2)
    assert torch.equal(features(images, "mine:corner"), images[:, :, 0, 0].float() / 255)
    assert torch.equal(features(images, "mine:Holder.network"), images.flatten(1).float() / 255)
    sized = feature_network("mine:corner", size=7)
    assert (sized.name, sized.size) == ("mine:corner at 7x7", 7)
    for bad, words in (
        ("mine:number", "expected a callable, got int"),
        ("mine:nothing", "nothing"),
        ("nowhere_to_be_found:f", "No module named"),
        ("inception", "expected efficientnet_lite0, module:function, or a file"),
        ("no/such/file.pt", "expected efficientnet_lite0, module:function, or a file"),
    ):
        with pytest.raises(LapcoreError, match=f"features {bad}: .*{words}"):
            feature_network(bad)


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_networks_of_files(tmp_path, capfd):
    images = draw(35, 3, 4, 4)
    want = images.float().flatten(2).mean(2) / 255
    torch.jit.save(torch.jit.script(Places()), tmp_path / "places.pt")
    example = torch.rand(32, 3, 4, 4)
    torch.export.save(torch.export.export(Places(), (example,)), tmp_path / "places.pt2")
    for name in ("places.pt", "places.pt2"):
        network = feature_network(str(tmp_path / name))
        assert network.name == str(tmp_path / name)
        torch.testing.assert_close(features(images, network), want)
    torch.save({"weights": example}, tmp_path / "weights.pt")
    (tmp_path / "text.pt2").write_text("no program")
    capfd.readouterr()
    for name in ("weights.pt", "text.pt2"):
        with pytest.raises(LapcoreError, match=f"{name}: neither TorchScript nor"):
            feature_network(str(tmp_path / name))
    assert capfd.readouterr() == ("", "")


def test_a_callable_keeps_its_mode_and_its_name():
    network = Places()
    features(draw(2, 3, 4, 4), network)
    assert network.training
    assert feature_network(means).name.endswith("test_features:means")
    assert feature_network(network).name.endswith("test_features:Places")


def test_bad_images_and_features_are_named():
    good = draw(3, 3, 4, 4)
    with pytest.raises(TypeError, match="images: expected uint8"):
        features(good.float(), means)
    for bad in (good[0], good[:0]):
        with pytest.raises(ValueError, match=r"images: expected \(N, C, H, W\)"):
            features(bad, means)
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        features(good, means, size=0)
    with pytest.raises(ValueError, match="size: expected None beside a FeatureNetwork"):
        features(good, FeatureNetwork("means", means), size=4)
    for network in (
        lambda x: x,
        lambda x: x.flatten(1)[:-1],
        lambda x: x.flatten(1).long(),
        lambda x: [x.flatten(1)],
        lambda x: x.flatten(1).log() * 0,
    ):
        with pytest.raises(ValueError, match=r"features .*: expected (a floating-point tensor \(32, D\)|finite)"):
            features(good * 0, network)
