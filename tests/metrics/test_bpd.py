"""Bits per dimension of a model, and of independent values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lapcore.data import to_model_range
from lapcore.metrics import evaluate_bpd, independent_bpd
from lapcore.models import PixelCNN


def grey(*shape, seed=0, below=256):
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_bits_of_a_model():
    torch.manual_seed(0)
    model = PixelCNN(3, 1, hidden=4, layers=1, levels=5, num_classes=2).eval()
    images, labels = to_model_range(grey(5, 1, 3, 3)), torch.tensor([0, 1, 1, 0, 1])
    result = evaluate_bpd(model, [(images[:3], labels[:3]), (images[3:], labels[3:])])["bpd"]
    bits = -model.log_likelihood(images, labels).double().numpy() / math.log(2) / 9
    assert result == pytest.approx({"mean": bits.mean(), "std": bits.std(), "images": 5}, rel=1e-6)


def test_a_model_that_knows_nothing_needs_log2_of_the_levels():
    model = PixelCNN(3, 3, hidden=4, layers=1, levels=16, head=6).eval()
    for parameter in model.network.head[-1].parameters():
        torch.nn.init.zeros_(parameter)
    result = evaluate_bpd(model, [(to_model_range(grey(2, 3, 3, 3)), None)])["bpd"]
    assert result["mean"] == pytest.approx(4, abs=1e-6) and result["std"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_bits_of_independent_values(levels):
    """Against counts one by one."""
    train, test = grey(40, 3, 2, 3, seed=1), grey(7, 3, 2, 3, seed=2, below=200)
    result = independent_bpd(train, test, levels)["bpd_independent"]
    level = lambda images: np.rint(images.numpy().astype(float) / 255 * (levels - 1)).astype(int)  # noqa: E731
    seen, asked = level(train), level(test)
    bits = np.zeros(7)
    for i in range(7):
        for place in np.ndindex(3, 2, 3):
            count = (seen[(slice(None), *place)] == asked[(i, *place)]).sum()
            bits[i] -= np.log2((count + 1) / (40 + levels)) / 18
    assert result == pytest.approx({"mean": bits.mean(), "std": bits.std(), "images": 7}, rel=1e-9)


def test_constant_places_cost_next_to_nothing():
    train = grey(1, 1, 4, 4).expand(5000, -1, -1, -1)
    assert independent_bpd(train, train[:3])["bpd_independent"]["mean"] < 0.08


def test_bad_images_are_named():
    good = grey(2, 1, 3, 3)
    with pytest.raises(TypeError, match="train: expected uint8"):
        independent_bpd(good.float(), good)
    with pytest.raises(ValueError, match=r"test: expected images \(N, 1, 3, 3\)"):
        independent_bpd(good, grey(2, 3, 3, 3))
    with pytest.raises(ValueError, match="train: expected images"):
        independent_bpd(good[:0], good)
    with pytest.raises(ValueError, match="at least one image"):
        evaluate_bpd(None, [])
