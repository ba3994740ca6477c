"""Pyramids against OpenCV (one image at a time), kornia, and the fastest eager PyTorch (slices and additions)."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import lapcore
from bench.harness import Case, Work, main


def sliced_down(x: Tensor) -> Tensor:
    """pyr_down of even sizes by strided slices: the fastest that eager PyTorch does."""
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")

    def along(x: Tensor, dim: int) -> Tensor:
        n = x.shape[dim] - 4
        taps = [x.narrow(dim, k, n).unfold(dim, 1, 2).squeeze(-1) for k in range(5)]
        return (taps[0] + taps[4] + 4 * (taps[1] + taps[3]) + 6 * taps[2]) / 16

    return along(along(x, -2), -1)


def sliced_up(x: Tensor) -> Tensor:
    """pyr_up to twice the size by slices."""

    def along(x: Tensor, dim: int) -> Tensor:
        n = x.shape[dim]
        first, last = x.narrow(dim, min(1, n - 1), 1), x.narrow(dim, n - 1, 1)
        line = torch.cat((first, x, last), dim)
        left, middle, right = (line.narrow(dim, k, n) for k in range(3))
        even, odd = (left + 6 * middle + right) / 8, (middle + right) / 2
        return torch.stack((even, odd), dim if dim >= 0 else x.dim() + dim + 1).flatten(
            x.dim() + dim, x.dim() + dim + 1
        )

    return along(along(x, -2), -1)


def sliced_laplacian(x: Tensor, levels: int) -> list[Tensor]:
    bands = []
    for _ in range(levels):
        low = sliced_down(x)
        bands.append(x - sliced_up(low))
        x = low
    return [*bands, x]


def as_hwc(x: Tensor) -> list[np.ndarray]:
    return [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in x]


def cv2_laplacian(image: np.ndarray, levels: int) -> list[np.ndarray]:
    bands = []
    for _ in range(levels):
        low = cv2.pyrDown(image)
        bands.append(cv2.subtract(image, cv2.pyrUp(low, dstsize=(image.shape[1], image.shape[0]))))
        image = low
    return [*bands, image]


def cv2_gaussian(image: np.ndarray, levels: int) -> list[np.ndarray]:
    pyramid = [image]
    for _ in range(levels):
        pyramid.append(cv2.pyrDown(pyramid[-1]))
    return pyramid


def cv2_collapse(pyramid: list[np.ndarray]) -> np.ndarray:
    image = pyramid[-1]
    for band in reversed(pyramid[:-1]):
        image = cv2.add(band, cv2.pyrUp(image, dstsize=(band.shape[1], band.shape[0])))
    return image


def laplacian_case(shape: tuple[int, ...], levels: int = 3) -> Case:
    x = torch.rand(shape)
    images = as_hwc(x)
    peers: dict[str, Work] = {
        "opencv": lambda: [cv2_laplacian(image, levels) for image in images],
        "torch slices": lambda: sliced_laplacian(x, levels),
    }
    moved = sum(2.25 * x.numel() / 4**level for level in range(levels))
    name = f"laplacian_pyramid {levels} levels {'x'.join(map(str, shape))}"
    return Case("laplacian_pyramid", name, lambda: lapcore.laplacian_pyramid(x, levels), int(4 * moved), peers)


def collapse_case(shape: tuple[int, ...], levels: int = 3) -> Case:
    pyramid = lapcore.laplacian_pyramid(torch.rand(shape), levels)
    images = [cv2_laplacian(image, levels) for image in as_hwc(torch.rand(shape))]
    moved = sum(2.25 * pyramid[0].numel() / 4**level for level in range(levels))
    name = f"collapse {levels} levels {'x'.join(map(str, shape))}"
    peers: dict[str, Work] = {"opencv": lambda: [cv2_collapse(image) for image in images]}
    return Case("collapse", name, lambda: lapcore.collapse(pyramid), int(4 * moved), peers)


def down_case(shape: tuple[int, ...]) -> Case:
    x = torch.rand(shape)
    images = as_hwc(x)
    peers: dict[str, Work] = {
        "opencv": lambda: [cv2.pyrDown(image) for image in images],
        "torch slices": lambda: sliced_down(x),
    }
    name = f"pyr_down {'x'.join(map(str, shape))}"
    return Case("pyr_down", name, lambda: lapcore.pyr_down(x), int(4 * 1.25 * x.numel()), peers)


def up_case(shape: tuple[int, ...]) -> Case:
    x = torch.rand(shape)
    images = as_hwc(x)
    peers: dict[str, Work] = {
        "opencv": lambda: [cv2.pyrUp(image) for image in images],
        "torch slices": lambda: sliced_up(x),
    }
    name = f"pyr_up {'x'.join(map(str, shape))}"
    return Case("pyr_up", name, lambda: lapcore.pyr_up(x), int(4 * 5 * x.numel()), peers)


def gaussian_case(shape: tuple[int, ...], levels: int = 3) -> Case:
    x = torch.rand(shape)
    images = as_hwc(x)
    peers: dict[str, Work] = {"opencv": lambda: [cv2_gaussian(image, levels) for image in images]}
    moved = sum(1.25 * x.numel() / 4**level for level in range(levels))
    name = f"gaussian_pyramid {levels} levels {'x'.join(map(str, shape))}"
    return Case("gaussian_pyramid", name, lambda: lapcore.gaussian_pyramid(x, levels), int(4 * moved), peers)


def cases() -> list[Case]:
    return [
        laplacian_case((1, 3, 1080, 1920)),
        laplacian_case((256, 3, 32, 32)),
        laplacian_case((64, 3, 64, 64)),
        laplacian_case((16, 3, 256, 256)),
        collapse_case((1, 3, 1080, 1920)),
        collapse_case((256, 3, 32, 32)),
        gaussian_case((1, 3, 1080, 1920)),
        down_case((1, 3, 1080, 1920)),
        up_case((1, 3, 1080, 1920)),
    ]


if __name__ == "__main__":
    main(cases())
