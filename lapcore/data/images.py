"""One picture at a time: decoding, writing, value ranges, contact sheets."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapcore.data.files import atomic_file
from lapcore.errors import DataError, require

if TYPE_CHECKING:
    from PIL import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".gif")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
"""Pillow's names of these. A file of any other, whatever its name, is not opened: PostScript, say, is a program."""
_MODES = {1: "L", 3: "RGB"}


def read_image(path: str | os.PathLike[str], channels: int = 3, *, convert: bool = False) -> Tensor:
    """Reads one picture: uint8 (C, H, W), values 0..255, the camera's orientation mark applied.

    Raises DataError, naming the file, when it is missing or damaged, has several frames, or has another number of
    channels; see `decode` for `convert`. Deterministic.
    """
    path = Path(path)
    check_channels(channels)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return to_tensor(decode(data, str(path), channels, convert=convert))


def decode(data: bytes, name: str, channels: int, *, convert: bool = False) -> NDArray[np.uint8]:
    """Decodes a file's bytes to uint8 (H, W, C); `name` is for messages.

    What loses nothing is done: palettes are looked up, black-and-white becomes grey, a fully opaque alpha channel goes.
    Anything else (grey to colour, colour to grey by BT.601 luma, CMYK, alpha composited over black) is done only with
    `convert=True`, else it is a DataError. More than 8 bits per channel is always one.
    """
    module = require("PIL.Image", "data")
    if not data:
        raise DataError(f"{name}: the file is empty")
    try:
        with module.open(io.BytesIO(data), formats=_FORMATS) as image:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            deep = _is_deep(image)
            image.load()
            image = _upright(image)
    except module.UnidentifiedImageError as error:
        raise DataError(f"{name}: not a readable image: of no known format, or damaged at its start") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise DataError(f"{name}: not a readable image: {error}") from error
    if frames > 1:
        raise DataError(f"{name}: expected one picture, got {frames} frames")
    if deep:
        raise DataError(f"{name}: expected 8 bits per channel, got 16")
    array = np.asarray(_to_mode(_simplify(image), name, channels, convert))
    return array.reshape(*array.shape[:2], channels)


def write_png(path: str | os.PathLike[str], image: Tensor) -> None:
    """Writes a uint8 tensor (C, H, W), C = 1 or 3, or (H, W), as PNG; the file appears whole or not at all.

    Raises TypeError unless uint8, ValueError for another shape, OSError when it cannot be written.
    """
    if image.dtype != torch.uint8:
        raise TypeError(f"image: expected uint8, got {image.dtype}")
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3 or image.shape[0] not in _MODES or image.numel() == 0:
        raise ValueError(f"image: expected (1, H, W) or (3, H, W), got {tuple(image.shape)}")
    array = image.detach().cpu().permute(1, 2, 0).contiguous().numpy()
    picture = from_array(array)
    with atomic_file(path) as file:
        picture.save(file, format="PNG")


def to_model_range(images: Tensor) -> Tensor:
    """x / 127.5 - 1: uint8 of any shape to float32 in [-1, 1]. TypeError unless uint8."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected uint8, got {images.dtype}")
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """(x + 1) * 127.5, rounded and clamped to 0..255: floats of any shape, nominally in [-1, 1], to uint8.

    It inverts `to_model_range` exactly. TypeError unless floating point, ValueError for NaN.
    """
    if not images.is_floating_point():
        raise TypeError(f"images: expected a floating-point tensor, got {images.dtype}")
    if torch.isnan(images).any():
        raise ValueError("images: expected numbers, got NaN")
    return ((images.detach().float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def grid(images: Tensor, columns: int, *, gap: int = 2, background: int = 255) -> Tensor:
    """A contact sheet, row by row: uint8 (N, C, H, W) to (C, rows * (H + gap) - gap, columns * (W + gap) - gap).

    The last row is filled up with `background`. TypeError unless uint8, ValueError for no images or no columns.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected uint8, got {images.dtype}")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images: expected (N, C, H, W) with N at least 1, got {tuple(images.shape)}")
    if columns < 1 or gap < 0:
        raise ValueError(f"columns, gap: expected at least 1 and 0, got {columns} and {gap}")
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = images.new_full((rows * columns, channels, height + gap, width + gap), background)
    sheet[:count, :, :height, :width] = images
    sheet = sheet.view(rows, columns, channels, height + gap, width + gap).permute(2, 0, 3, 1, 4)
    sheet = sheet.reshape(channels, rows * (height + gap), columns * (width + gap))
    return sheet[:, : sheet.shape[1] - gap, : sheet.shape[2] - gap].contiguous()


def check_channels(channels: int) -> None:
    if channels not in _MODES:
        raise ValueError(f"channels: expected 1 or 3, got {channels!r}")


def to_tensor(array: NDArray[np.uint8]) -> Tensor:
    """uint8 (..., H, W, C) to a contiguous tensor (..., C, H, W) of its own memory."""
    return torch.from_numpy(np.moveaxis(array, -1, -3).copy(order="C"))


def from_array(array: NDArray[np.uint8]) -> Image.Image:
    """uint8 (H, W, C), C = 1 or 3, as a Pillow image."""
    image: Image.Image = require("PIL.Image", "data").fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    return image


def _is_deep(image: Any) -> bool:
    """Tells whether a colour picture, not loaded yet, has more than 8 bits per channel, which Pillow would cut off in silence."""
    if image.mode[0] in "IF":
        return False
    layouts = [tile.args for tile in image.tile]
    if image.format == "PNG":
        return any(";16" in layout for layout in layouts)
    if image.format == "PPM":
        return any(isinstance(layout, tuple) and layout[1] > 255 for layout in layouts)
    bits_per_sample = 258
    return bool(image.format == "TIFF" and max(image.tag_v2.get(bits_per_sample, (1,))) > 8)


def _upright(image: Image.Image) -> Image.Image:
    """The camera's orientation mark applied; a mark that cannot be read turns nothing."""
    try:
        upright: Image.Image = require("PIL.ImageOps", "data").exif_transpose(image)
        return upright
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return image


def _simplify(image: Image.Image) -> Image.Image:
    """The same picture without palette, bit mask or an alpha channel that hides nothing."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif "transparency" in image.info and image.mode in ("L", "RGB"):
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema() == (255, 255):
        return image.convert(image.mode[:-1])
    return image


def _to_mode(image: Image.Image, name: str, channels: int, convert: bool) -> Image.Image:
    mode = _MODES[channels]
    if image.mode == mode:
        return image
    if image.mode.startswith(("I", "F")):
        kind = "NaN values" if np.isnan(np.asarray(image)).any() else "more than 8 bits per channel"
        raise DataError(f"{name}: expected 8 bits per channel, got {kind} (mode {image.mode})")
    if not convert:
        raise DataError(
            f"{name}: expected {channels} channel{'s' * (channels > 1)} (mode {mode}), got mode {image.mode}; "
            f"convert=True (--convert) converts such pictures"
        )
    if image.mode in ("LA", "RGBA"):
        module = require("PIL.Image", "data")
        image = image.convert("RGBA")
        image = module.alpha_composite(module.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert(mode)
