"""OpenCV's image pyramids on NumPy arrays: `from lapcore.compat import cv2`, then cv2.pyrDown, cv2.pyrUp, cv2.buildPyramid.

Images are (H, W) or (H, W, C) and are read where they lie; only a negative stride, one that is no multiple of the element, or a
foreign byte order costs a copy. uint8, uint16 and int16 results are OpenCV's to the bit; float32 and float64 agree to rounding.
What OpenCV refuses with cv2.error raises `error` here. Two sizes that OpenCV takes are refused too, since what it computes there
is not its own filter: pyrDown to n/2 + 1 (the last column is a tap off) and pyrUp to 2n + 1 (partly left uncomputed).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import lapcore
from lapcore.errors import LapcoreError

BORDER_CONSTANT = 0
BORDER_REPLICATE = 1
BORDER_REFLECT = 2
BORDER_WRAP = 3
BORDER_REFLECT_101 = BORDER_REFLECT101 = BORDER_DEFAULT = 4
BORDER_TRANSPARENT = 5
BORDER_ISOLATED = 16

Array = npt.NDArray[Any]
Size = tuple[int, int]

_BORDERS = {1: "replicate", 2: "symmetric", 3: "circular", 4: "reflect"}
_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")
_MAX_CHANNELS = 128  # OpenCV's CV_CN_MAX


class error(LapcoreError, ValueError):
    """Stands for cv2.error: an argument that OpenCV refuses."""


def pyrDown(
    src: Array, dst: Array | None = None, dstsize: Sequence[int] | None = None, borderType: int | None = BORDER_DEFAULT
) -> Array:
    """Blurs an image and keeps every second row and column.

    Formula: dst[i, j] = sum_{k,l} K[k] K[l] src[b(2i+k), b(2j+l)], K = [1, 4, 6, 4, 1]/16, k, l = -2..2, b the border rule.

    Shapes: src (H, W) or (H, W, C), C in 1..128 -> (ceil(H/2), ceil(W/2)[, C]); like OpenCV it drops a last axis of one channel.
        dstsize: (width, height) of the result; None, or a side of at most 0, means the default. Each side is ceil(n/2), or one
        less, which leaves the last sample out.
    dst: an array of the result's shape and dtype, contiguous along each row, is filled and returned; one of another shape or
        dtype is left as it is, and a new array returned.
    Border: BORDER_REFLECT_101 (which is BORDER_DEFAULT, and None), BORDER_REFLECT, BORDER_REPLICATE, BORDER_WRAP.
    Dtypes: uint8, uint16, int16 (rounded half up, once), float32, float64. Any value range.
    Errors: `error`, before anything is computed, for what cv2.pyrDown refuses, for a dstsize with a side of n/2 + 1, and for an
        array that is neither (H, W) nor (H, W, C).
    Determinism: bit-identical for every thread count and stride.
    Source: cv2.pyrDown of OpenCV 5.0; Burt and Adelson, The Laplacian Pyramid as a Compact Image Code, 1983.
    """
    image = _checked_image(src)
    border = _checked_border(borderType)
    _check_dst(dst)
    height, width = image.shape[:2]
    full = (height + 1) // 2, (width + 1) // 2
    size = _checked_size(dstsize, full, (_halves(height), _halves(width)))
    return _run(lambda x, out: lapcore.pyr_down(x, border=border, out=out), image, full, size, dst)


def pyrUp(
    src: Array, dst: Array | None = None, dstsize: Sequence[int] | None = None, borderType: int | None = BORDER_DEFAULT
) -> Array:
    """Doubles an image: zeros between the samples, then the blur, times four.

    Formula, per axis: dst[2i] = (src[i-1] + 6 src[i] + src[i+1])/8, dst[2i+1] = (src[i] + src[i+1])/2; beyond the ends
    src[-1] = src[1] and src[n] = src[n-1].

    Shapes: src (H, W) or (H, W, C), C in 1..128 -> (2H, 2W[, C]); like OpenCV it drops a last axis of one channel.
        dstsize: (width, height) of the result; None, or a side of at most 0, means the default. Each side is 2n or 2n - 1.
    Border: BORDER_DEFAULT only, as in OpenCV. dst and dtypes: as for pyrDown.
    Errors: `error`, before anything is computed, for what cv2.pyrUp refuses, for an empty image (OpenCV returns None), for a
        dstsize with a side of 2n + 1, and for an array that is neither (H, W) nor (H, W, C).
    Determinism: bit-identical for every thread count and stride.
    Source: cv2.pyrUp of OpenCV 5.0; Burt and Adelson 1983.
    """
    image = _checked_image(src)
    if _checked_border(borderType) != "reflect":
        raise error(f"borderType: expected BORDER_DEFAULT (4), the only one pyrUp has, got {borderType}")
    _check_dst(dst)
    height, width = image.shape[:2]
    full = 2 * height, 2 * width
    size = _checked_size(dstsize, full, ((2 * height - 1, 2 * height), (2 * width - 1, 2 * width)))
    return _run(lambda x, out: lapcore.pyr_up(x, size, out=out), image, size, size, dst)


def buildPyramid(src: Array, maxlevel: int, borderType: int | None = BORDER_DEFAULT) -> list[Array]:
    """The image and its `maxlevel` successive reductions.

    Formula: pyramid[0] = src, pyramid[l+1] = pyrDown(pyramid[l], borderType=borderType).

    Shapes: src (H, W) or (H, W, C) -> maxlevel + 1 arrays, the l-th of ceil(H/2^l) x ceil(W/2^l); [0] is src itself.
    Border and dtypes: as for pyrDown.
    Errors: `error`, for what pyrDown refuses and for a maxlevel that is no int of at least 0.
    Determinism: as for pyrDown.
    Source: cv::buildPyramid of OpenCV 5.0, which has it in C++ only.
    """
    _checked_image(src)
    _checked_border(borderType)
    levels = _integer("maxlevel", maxlevel)
    if levels < 0:
        raise error(f"maxlevel: expected an int of at least 0, got {levels}")
    pyramid = [src]
    for _ in range(levels):
        pyramid.append(pyrDown(pyramid[-1], borderType=borderType))
    return pyramid


def _run(op: Callable[[Tensor, Tensor], Tensor], image: Array, full: Size, size: Size, dst: Array | None) -> Array:
    """What op makes of the image, of size `full`, cropped to `size`; in dst, if that fits."""
    channels, dtype = image.shape[2:], image.dtype.newbyteorder("=")
    target = _fitting(dst, (*size, *channels), dtype)
    if dst is not None and target is not None and size == full and not np.may_share_memory(target, image):
        op(_tensor(image), _tensor(target))
        return dst
    result: Array = np.empty((*full, *channels), dtype)
    op(_tensor(image), _tensor(result))
    result = np.ascontiguousarray(result[: size[0], : size[1]])
    if dst is None or target is None:
        return result
    target[...] = result
    return dst


class _Writable:
    """Shows a read-only array as a writable one: torch has no read-only tensors, and this memory is only read."""

    def __init__(self, array: Array) -> None:
        self.array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _tensor(array: Array) -> Tensor:
    """(H, W) or (C, H, W) on the array's own memory; on a copy where torch cannot look at that."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        array = np.asarray(_Writable(array))
    tensor = torch.from_numpy(array)
    return tensor.permute(2, 0, 1) if tensor.dim() == 3 else tensor


def _fitting(dst: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """dst, seen with the shape of the result, if the result can be put there."""
    if dst is None or dst.dtype != dtype:
        return None
    view = dst[..., 0] if dst.ndim == 3 and dst.shape[2] == 1 else dst
    return view if view.shape == shape else None


def _checked_image(src: object) -> Array:
    if not isinstance(src, np.ndarray):
        raise error(f"src: expected a NumPy array, got {type(src).__name__}")
    if src.dtype.name not in _DTYPES:
        raise error(f"src: expected dtype {', '.join(_DTYPES)}, got {src.dtype}")
    if src.ndim not in (2, 3) or src.size == 0:
        raise error(f"src: expected shape (H, W) or (H, W, C) with at least one pixel, got {src.shape}")
    if src.ndim == 3 and src.shape[2] > _MAX_CHANNELS:
        raise error(f"src: expected at most {_MAX_CHANNELS} channels, as OpenCV does, got {src.shape[2]}")
    return src[..., 0] if src.ndim == 3 and src.shape[2] == 1 else src


def _check_dst(dst: object) -> None:
    if dst is None:
        return
    if not isinstance(dst, np.ndarray):
        raise error(f"dst: expected a NumPy array or None, got {type(dst).__name__}")
    if dst.dtype.kind not in "biuf" or dst.ndim == 0 or dst.size == 0:
        raise error(f"dst: expected an array of numbers with at least one pixel, got {dst.dtype} of shape {dst.shape}")
    if not dst.flags.writeable:
        raise error("dst: expected a writable array, got a read-only one")
    row = dst[:1]
    if not row.flags.c_contiguous or (len(dst) > 1 and dst.strides[0] < row.nbytes):
        raise error(f"dst: expected rows that are contiguous and lie one after the other, got strides {dst.strides}")


def _checked_border(value: object) -> str:
    border = BORDER_DEFAULT if value is None else _integer("borderType", value)
    if border not in _BORDERS:
        raise error(
            "borderType: expected BORDER_REPLICATE (1), BORDER_REFLECT (2), BORDER_WRAP (3) or BORDER_REFLECT_101 (4), "
            f"got {border}"
        )
    return _BORDERS[border]


def _checked_size(dstsize: object, default: Size, allowed: tuple[Sequence[int], Sequence[int]]) -> Size:
    """(height, width) of the result, from OpenCV's (width, height)."""
    if dstsize is None:
        return default
    if not isinstance(dstsize, Sequence | np.ndarray) or len(dstsize) != 2:
        raise error(f"dstsize: expected (width, height), got {dstsize!r}")
    width, height = (_integer("dstsize", side) for side in dstsize)
    if width <= 0 or height <= 0:
        return default
    if height not in allowed[0] or width not in allowed[1]:
        raise error(
            f"dstsize: expected (width, height) of {' or '.join(map(str, allowed[1]))} and "
            f"{' or '.join(map(str, allowed[0]))}, got ({width}, {height})"
        )
    return height, width


def _halves(side: int) -> Sequence[int]:
    """What a side may be halved to: OpenCV asks for |2d - side| <= 2."""
    half = (side + 1) // 2
    return range(max(1, half - 1), half + 1)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise error(f"{name}: expected an int, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise error(f"{name}: expected an int, got {value!r}") from None
