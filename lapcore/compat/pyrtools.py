"""pyrtools' Laplacian pyramid on NumPy arrays: `from lapcore.compat.pyrtools import LaplacianPyramid`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import lapcore

Array = npt.NDArray[np.float64]
Key = tuple[int, int]
Size = tuple[int, int]

_TAPS = 5


class LaplacianPyramid:
    """The bands of an image, fine to coarse, and its low-pass, with pyrtools' filters.

    Formula: with K = sqrt(2) [1, 4, 6, 4, 1]/16 per axis, reduce blurs by K and keeps every second sample, expand puts zeros
    between the samples and blurs by K, both mirrored about the first and the last sample of the finer grid. g_0 = image,
    g_{l+1} = reduce(g_l), pyr_coeffs[l, 0] = g_l - expand(g_{l+1}), and last pyr_coeffs[num_scales - 1, 0] = g_{num_scales - 1}.
    K sums to sqrt(2), so level l is 2^l times lapcore's for an image, 2^(l/2) times for a signal.

    image: a 2-D image or a 1-D signal, (n,), (n, 1) or (1, n), of at least one sample; computed in float64.
    height: how many scales, or "auto" for all: one more than the times that min(H, W), floored at each halving, is 5 or more.
    downsample_filter_name, upsample_filter_name: "binom5" (None for the second means the first). edge_type: "reflect1".
    Attributes: image, image_size, pyr_type, edge_type, num_scales, num_orientations, is_complex; pyr_coeffs: (level, 0) -> float64
        array of the image's dimensions; pyr_size: (level, 0) -> shape. A signal (n,) becomes (n, 1).
    Errors: ValueError (a dimension other than 1 or 2, no samples, a height out of range, another filter or edge type), TypeError (a
        height that is neither "auto" nor an int).
    Determinism: bit-identical for every thread count.
    Source: pyrtools 1.1, after Simoncelli's matlabPyrTools; Burt and Adelson 1983. Where expand makes exactly 5 samples, pyrtools
        loses one mirrored tap of the last; that slip is kept, so that pyramids can be exchanged. Unlike there, a single scale
        (height=1, or an image under 5 samples) works.
    """

    def __init__(
        self,
        image: npt.ArrayLike,
        height: int | str = "auto",
        downsample_filter_name: str = "binom5",
        upsample_filter_name: str | None = None,
        edge_type: str = "reflect1",
    ) -> None:
        _check_rules(downsample_filter_name, upsample_filter_name, edge_type)
        self.image = _checked_image(image)
        self.image_size = self.image.shape
        self.pyr_type = "Laplacian"
        self.edge_type = edge_type
        self.num_orientations = 1
        self.is_complex = False
        self.num_scales = _checked_height(height, self.image_size)
        self.pyr_coeffs: dict[Key, Array] = {}
        self.pyr_size: dict[Key, Size] = {}
        self._build_pyr()

    def recon_pyr(
        self,
        upsample_filter_name: str | None = None,
        edge_type: str | None = None,
        levels: str | int | Iterable[str | int] = "all",
    ) -> Array:
        """The image of the coefficients as they stand now.

        Formula: c = 0, then for l from coarse to fine c = expand(c) + pyr_coeffs[l, 0], the last only for the levels asked for.

        levels: "all", a level, or several of 0..num_scales-1; "residual_lowpass" and "residual_highpass" are taken and mean nothing
            here, as in pyrtools: the low-pass is the level num_scales - 1.
        Shapes: -> image_size, float64.
        Errors: ValueError (a level out of range, another filter or edge type), TypeError (a level that is no int).
        """
        _check_rules("binom5", upsample_filter_name, edge_type or self.edge_type)
        wanted = _checked_levels(levels, self.num_scales)
        image = torch.zeros(self.pyr_size[self.num_scales - 1, 0], dtype=torch.float64)
        for level in reversed(range(self.num_scales)):
            if level < self.num_scales - 1:
                image = _expand(image, self.pyr_size[level, 0])
            if level in wanted:
                image = image + torch.tensor(self.pyr_coeffs[level, 0])
        return image.numpy()

    def _build_pyr(self) -> None:
        g = [torch.from_numpy(self.image)]
        for _ in range(self.num_scales - 1):
            g.append(_gain(g[-1]) * lapcore.pyr_down(g[-1]))
        bands = [fine - _expand(coarse, _size(fine)) for fine, coarse in pairwise(g)]
        for level, band in enumerate([*bands, g[-1].clone()]):
            self.pyr_coeffs[level, 0] = band.numpy()
            self.pyr_size[level, 0] = _size(band)


def _size(x: Tensor) -> Size:
    return x.shape[0], x.shape[1]


def _gain(x: Tensor) -> float:
    """What pyrtools' reduce makes of a constant: sqrt(2) for each axis that is filtered."""
    return 2.0 if min(x.shape) > 1 else 2.0**0.5


def _expand(coarse: Tensor, size: Size) -> Tensor:
    """lapcore.pyr_up mirrors the doubled grid about its last sample, 2n - 1; pyrtools about the last sample it keeps, for an odd
    side 2n - 2. A source extended by x[n] = x[n-2] gives that; extended by 0, pyrtools' slip at a side of 5.
    """
    for axis, side in enumerate(size):
        if side % 2 and side > 1:
            mirrored = coarse.narrow(axis, coarse.shape[axis] - 2, 1)
            coarse = torch.cat([coarse, torch.zeros_like(mirrored) if side == _TAPS else mirrored], dim=axis)
    height, width = (2 * n if side > 1 else 1 for n, side in zip(coarse.shape, size, strict=True))
    fine = lapcore.pyr_up(coarse, (height, width))
    return fine[: size[0], : size[1]] / _gain(fine)


def _checked_image(image: npt.ArrayLike) -> Array:
    array = np.array(image, dtype=np.float64)
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"image: expected one or two dimensions and at least one sample, got shape {np.shape(image)}")
    return array


def _check_rules(downsample: str, upsample: str | None, edge_type: str) -> None:
    for name, value in (("downsample_filter_name", downsample), ("upsample_filter_name", upsample or "binom5")):
        if value != "binom5":
            raise ValueError(f"{name}: expected 'binom5', the only filter here, got {value!r}")
    if edge_type != "reflect1":
        raise ValueError(f"edge_type: expected 'reflect1', the only one here, got {edge_type!r}")


def _checked_height(height: int | str, size: Size) -> int:
    sides = [side for side in size if side > 1] or [1]
    highest = 1
    while min(sides) >= _TAPS:
        sides = [side // 2 for side in sides]
        highest += 1
    if height == "auto":
        return highest
    if isinstance(height, bool) or not isinstance(height, int | np.integer):
        raise TypeError(f"height: expected 'auto' or an int, got {height!r}")
    if not 1 <= height <= highest:
        raise ValueError(
            f"height: expected 1 to {highest}. Cannot build pyramid higher than {highest} levels; got {height}"
        )
    return int(height)


def _checked_levels(levels: str | int | Iterable[Any], count: int) -> set[int]:
    if isinstance(levels, str) and levels == "all":
        return set(range(count))
    items = [levels] if isinstance(levels, str | int | np.integer) else list(levels)
    wanted = set()
    for item in items:
        if item in ("residual_lowpass", "residual_highpass"):
            continue
        if isinstance(item, bool) or not (
            isinstance(item, int | np.integer) or (isinstance(item, str) and item.isdigit())
        ):
            raise TypeError(f"levels: expected 'all' or ints, got {item!r}")
        if not 0 <= int(item) < count:
            raise ValueError(f"levels: expected levels in 0..{count - 1}, got {item}")
        wanted.add(int(item))
    return wanted
