"""sqrt(MSE) against its definition, and the CelebA preparation against scipy and a direct loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from lapcore.metrics import celeba_crop, evaluate_rmse, rmse, to_uint8_truncated


def test_truncation_is_numpys_cast():
    x = torch.linspace(-1, 1, 10_001)
    expected = ((x.numpy() + np.float32(1)) / np.float32(2) * np.float32(255)).astype(np.uint8)
    assert np.array_equal(to_uint8_truncated(x).numpy(), expected)
    assert to_uint8_truncated(torch.tensor([0.9999, -0.9999, 0.0])).tolist() == [254, 0, 127]


def test_values_outside_the_range_take_its_ends():
    assert to_uint8_truncated(torch.tensor([-1.7, 1.7])).tolist() == [0, 255]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        to_uint8_truncated(torch.tensor([0.0, bad]))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating-point"):
        to_uint8_truncated(torch.zeros(3, dtype=torch.uint8))


def test_rmse_is_its_formula():
    a = torch.randint(0, 256, (4, 3, 9, 7), dtype=torch.uint8)
    b = torch.randint(0, 256, (4, 3, 9, 7), dtype=torch.uint8)
    expected = [math.sqrt(np.mean((a[i].numpy().astype(float) - b[i].numpy()) ** 2)) for i in range(4)]
    np.testing.assert_allclose(rmse(a, b).numpy(), expected, rtol=1e-14)
    # uint8 differences must not wrap around: 0 against 255 is 255, not 1.
    assert rmse(torch.zeros(1, 4, dtype=torch.uint8), torch.full((1, 4), 255, dtype=torch.uint8)).item() == 255


def test_rmse_refuses_other_types_and_shapes():
    image = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(TypeError, match="uint8"):
        rmse(image.float(), image)
    with pytest.raises(ValueError, match="equal shapes"):
        rmse(image, image[:1])
    with pytest.raises(ValueError, match="at least one value"):
        rmse(image[:, :0], image[:, :0])


class Shifts:
    """Reconstructs with a known error: the mean code is `mean` levels too bright, seed s adds s levels."""

    def __init__(self, mean):
        self.mean = mean
        self.seen = []
        self.labels = []

    def reconstruct(self, images, seeds=None, labels=None):
        self.labels.append(labels)
        shift = torch.full((len(images),), float(self.mean))
        if seeds is not None:
            self.seen += seeds.tolist()
            shift = shift + seeds
        return images + shift[:, None, None, None] / 127.5


def grey(count, level):
    # A quarter of a grey level up, so that truncation after float32 arithmetic finds `level`.
    return torch.full((count, 3, 4, 4), (level + 0.25) / 127.5 - 1)


def test_the_paper_protocol_and_the_mean_variant():
    model = Shifts(mean=2)
    results = evaluate_rmse(model, [(grey(2, 100), "first"), (grey(1, 50), "second")], seed=5)
    assert model.seen == [5, 6, 7] and model.labels == ["first", "first", "second", "second"]
    errors = np.array([7.0, 8.0, 9.0])
    assert results["rmse"] == pytest.approx({"mean": errors.mean(), "std": errors.std(), "images": 3})
    assert results["rmse_mean_rounded"] == pytest.approx({"mean": 2.0, "std": 0.0, "images": 3})


def test_the_batch_split_is_no_part_of_the_result():
    images = torch.rand(7, 3, 4, 4) * 2 - 1
    whole = evaluate_rmse(Shifts(1), [(images, None)])
    split = evaluate_rmse(Shifts(1), [(part, None) for part in images.split([3, 1, 3])])
    assert whole == split


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="at least one image"):
        evaluate_rmse(Shifts(0), [])


def keys_cubic(line, position):
    """Catmull-Rom through the four samples around `position`, ends replicated."""
    left = math.floor(position)
    t = position - left
    p0, p1, p2, p3 = (line[min(max(left + k, 0), len(line) - 1)] for k in (-1, 0, 1, 2))
    return p1 + t / 2 * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))


@pytest.mark.parametrize("size", [32, 64, 148])
def test_celeba_crop_is_blur_then_bicubic(size):
    image = np.random.default_rng(0).integers(0, 256, (3, 218, 178), dtype=np.uint8)
    crop = image[:, 40:188, 15:163] / 255.0
    sigma = math.sqrt(148 / size) / 2
    smooth = ndimage.gaussian_filter(crop, (0, sigma, sigma), mode="nearest", truncate=4.0)
    positions = [(i + 0.5) * 148 / size - 0.5 for i in range(size)]
    rows = np.stack([keys_cubic(np.moveaxis(smooth, 1, 0), p) for p in positions], 1)
    both = np.stack([keys_cubic(np.moveaxis(rows, 2, 0), p) for p in positions], 2)
    expected = both.clip(smooth.min(), smooth.max()) * 255
    got = celeba_crop(torch.from_numpy(image), size).numpy()
    assert got.shape == (3, size, size)
    # Truncation: equal to the float64 value's floor unless that value is within rounding of a whole number.
    assert np.all((got == np.floor(expected + 1e-9)) | (got == np.floor(expected - 1e-9)))


def test_celeba_crop_keeps_a_constant_and_refuses_other_sizes():
    flat = torch.full((3, 218, 178), 255, dtype=torch.uint8)
    assert int(celeba_crop(flat, 64).min()) >= 254
    with pytest.raises(ValueError, match="218"):
        celeba_crop(flat[:, :-1], 64)
    with pytest.raises(ValueError, match="uint8"):
        celeba_crop(flat.float(), 64)
