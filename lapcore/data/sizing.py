"""From a picture of any size to the square a model takes."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lapcore.data.images import from_array
from lapcore.errors import DataError, require

Resize = Literal["none", "crop", "fit", "random_crop"]
RESIZES = get_args(Resize)


def resized(image: NDArray[np.uint8], size: int, mode: Resize, name: str, seed: int, index: int) -> NDArray[np.uint8]:
    """uint8 (H, W, C) to (size, size, C) by one of the rules of `open_images`; `name` is for messages."""
    height, width, channels = image.shape
    if mode != "random_crop" and (height, width) == (size, size):
        return image
    if mode == "none":
        raise DataError(f"{name}: expected {size}x{size}, got {height}x{width} (rows x columns)")
    if mode == "random_crop":
        return _random_crop(image, size, name, seed, index)
    if mode == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _bicubic(image[top : top + side, left : left + side], size, size)
    scale = size / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    framed = np.zeros((size, size, channels), np.uint8)
    top, left = (size - rows) // 2, (size - columns) // 2
    framed[top : top + rows, left : left + columns] = _bicubic(image, rows, columns)
    return framed


def _random_crop(image: NDArray[np.uint8], size: int, name: str, seed: int, index: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if min(height, width) < size:
        raise DataError(f"{name}: expected at least {size}x{size} to crop from, got {height}x{width} (rows x columns)")
    draw = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    top, left = draw.integers(height - size + 1), draw.integers(width - size + 1)
    return image[top : top + size, left : left + size]


def _bicubic(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Pillow's bicubic: its kernel widens with the reduction, which is what keeps it free of aliasing."""
    if image.shape[:2] == (rows, columns):
        return image
    picture = from_array(np.ascontiguousarray(image))
    shrunk = picture.resize((columns, rows), resample=require("PIL.Image", "data").Resampling.BICUBIC)
    return np.asarray(shrunk).reshape(rows, columns, image.shape[-1])
