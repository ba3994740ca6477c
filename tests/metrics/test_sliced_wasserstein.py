"""The sliced Wasserstein distance of patches, against one patch and one direction after the other in NumPy."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

import lapcore
from lapcore.metrics import sliced_wasserstein
from tests.oracle import pyramid as oracle

module = importlib.import_module("lapcore.metrics.sliced_wasserstein")


def draw(*shape, seed=0, below=256):
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def distance_oracle(real, fake, levels, patches, directions, seed):
    count = patches * min(len(real), len(fake))
    found = {}
    for level in range(levels + 1):
        places = lapcore.random.uniform((2, count), seed, stream=2 * level).double().numpy()
        normals = lapcore.random.normal((directions, real.shape[1] * 49), seed, stream=2 * level + 1).double().numpy()
        sets = []
        for images in (real, fake):
            x = oracle.laplacian_pyramid(images.double().numpy(), levels)[level]
            rows, columns = x.shape[2] - 6, x.shape[3] - 6
            cut = []
            for p in range(count):
                row, column = int(places[0, p] * rows), int(places[1, p] * columns)
                cut.append(x[p * len(images) // count, :, row : row + 7, column : column + 7])
            cut = np.array(cut)
            cut = (cut - cut.mean((0, 2, 3), keepdims=True)) / cut.std((0, 2, 3), keepdims=True)
            sets.append(cut.reshape(count, -1))
        each = []
        for normal in normals:
            w = normal / np.sqrt((normal**2).sum())
            each.append(np.abs(np.sort(sets[0] @ w) - np.sort(sets[1] @ w)).mean())
        found[f"level{level}"] = 1000 * np.mean(each)
    return found | {"mean": np.mean(list(found.values()))}


@pytest.mark.parametrize(
    ("shape", "counts", "levels"),
    [((3, 32, 32), (4, 4), 1), ((1, 19, 26), (5, 3), 1), ((1, 7, 9), (2, 7), 0), ((3, 40, 28), (3, 3), 2)],
)
def test_it_is_the_definition(shape, counts, levels):
    real, fake = draw(counts[0], *shape, seed=1), draw(counts[1], *shape, seed=2, below=90)
    found = sliced_wasserstein(real, fake, levels=levels, patches=9, directions=11, seed=5)
    assert found == pytest.approx(distance_oracle(real, fake, levels, 9, 11, 5), rel=1e-4)
    assert list(found) == [*(f"level{k}" for k in range(levels + 1)), "mean"]


def test_blocks_change_nothing(monkeypatch):
    real, fake = draw(7, 3, 16, 16, seed=1), draw(5, 3, 16, 16, seed=2, below=90)
    want = sliced_wasserstein(real, fake, patches=8, directions=10)
    monkeypatch.setattr(module, "IMAGES", 2)
    monkeypatch.setattr(module, "DIRECTIONS", 3)
    assert sliced_wasserstein(real, fake, patches=8, directions=10) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(("side", "levels"), [(7, 0), (28, 0), (31, 1), (32, 1), (48, 1), (64, 2), (128, 3)])
def test_the_coarsest_level_is_16_wide_or_more(side, levels):
    images = draw(2, 1, side, side)
    assert list(sliced_wasserstein(images, images, patches=1, directions=1)) == [
        *(f"level{k}" for k in range(levels + 1)),
        "mean",
    ]


def test_a_set_is_at_0_from_itself_and_far_from_others():
    """Noise against the same noise blurred: every level tells them apart; brightness and contrast of a level it does not see."""
    noise = draw(40, 3, 32, 32, below=128)
    blurred = lapcore.pyr_up(lapcore.pyr_down(noise))
    assert set(sliced_wasserstein(noise, noise).values()) == {0.0}
    assert max(sliced_wasserstein(noise, noise + 100, directions=64).values()) < 1e-2
    assert max(sliced_wasserstein(noise, 2 * noise, directions=64).values()) < 1e-2
    apart, near = (sliced_wasserstein(noise, other, directions=64) for other in (blurred, draw(40, 3, 32, 32, seed=9)))
    assert apart["level0"] > 3 * near["level0"]


def test_constant_images_have_patches_of_0():
    flat = torch.full((3, 3, 16, 16), 77, dtype=torch.uint8)
    assert sliced_wasserstein(flat, flat + 9)["mean"] < 1e-3
    assert np.isfinite(sliced_wasserstein(flat, draw(3, 3, 16, 16))["mean"])


def test_it_depends_on_the_seed_alone():
    real, fake = draw(6, 1, 16, 16, seed=1), draw(6, 1, 16, 16, seed=2)
    found = sliced_wasserstein(real, fake)
    torch.manual_seed(3)
    assert sliced_wasserstein(real, fake) == found
    assert sliced_wasserstein(real, fake, seed=1) != found
    channels_last = real.contiguous(memory_format=torch.channels_last)
    assert sliced_wasserstein(channels_last, fake.flip(0).flip(0)) == found


def test_bad_arguments_are_named():
    good = draw(2, 3, 16, 16)
    with pytest.raises(TypeError, match="real: expected uint8"):
        sliced_wasserstein(good.float(), good)
    for bad in (good[0], good[:, :1], good[:0]):
        with pytest.raises(ValueError, match=r"fake: expected images \(N, 3, 16, 16\)"):
            sliced_wasserstein(good, bad)
    with pytest.raises(ValueError, match="sides of at least 7 at level 2, got 16x16"):
        sliced_wasserstein(good, good, levels=2)
    with pytest.raises(ValueError, match="real: expected sides of at least 7 at level 0, got 6x16"):
        sliced_wasserstein(good[:, :, :6], good[:, :, :6])
    for name in ("patches", "directions"):
        with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
            sliced_wasserstein(good, good, **{name: 0})
    with pytest.raises(ValueError, match="levels: expected at least 0, got -1"):
        sliced_wasserstein(good, good, levels=-1)
