"""Pyramids as others write them: OpenCV, kornia, kornia-rs, scikit-image, and PyTorch, eager and compiled.

OpenCV, kornia-rs and scikit-image take one (H, W, C) image at a time and get them as they like them, laid out beforehand. kornia
halves between the pixels, and pads to powers of two where the sides do not halve evenly; scikit-image's Laplacian is another
filter, without a low-pass. They are what one would call for the same purpose; the others compute what lapcore computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .harness import Peers, Work, rotated

Step = Callable[[Tensor], Tensor]
Array = np.ndarray[Any, Any]

# PyTorch ------------------------------------------------------------------------------------------------------------


def binomial(x: Tensor) -> Tensor:
    """The depthwise 5x5 kernel for x (N, C, H, W)."""
    taps = torch.tensor([1.0, 4, 6, 4, 1], dtype=x.dtype, device=x.device) / 16
    return (taps[:, None] * taps).expand(x.shape[1], 1, 5, 5).contiguous()


def blur(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=stride, groups=x.shape[1])


def conv_down(x: Tensor) -> Tensor:
    return blur(x, binomial(x), stride=2)


def conv_up(x: Tensor) -> Tensor:
    """To twice the size: zeros between the samples, then the blur, times four."""
    stuffed = x.new_zeros(*x.shape[:-2], 2 * x.shape[-2], 2 * x.shape[-1])
    stuffed[..., ::2, ::2] = x
    return blur(stuffed, 4 * binomial(x))


def sliced_down(x: Tensor) -> Tensor:
    """pyr_down of even sizes by strided slices, so that only what is kept is computed."""
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")

    def along(x: Tensor, dim: int) -> Tensor:
        n = x.shape[dim] - 4
        taps = [x.narrow(dim, k, n).unfold(dim, 1, 2).squeeze(-1) for k in range(5)]
        return (taps[0] + taps[4] + 4 * (taps[1] + taps[3]) + 6 * taps[2]) / 16

    return along(along(x, -2), -1)


def sliced_up(x: Tensor) -> Tensor:
    """pyr_up to twice the size in polyphase form: even and odd samples apart, no zeros multiplied."""

    def along(x: Tensor, dim: int) -> Tensor:
        n = x.shape[dim]
        line = torch.cat((x.narrow(dim, min(1, n - 1), 1), x, x.narrow(dim, n - 1, 1)), dim)
        left, middle, right = (line.narrow(dim, k, n) for k in range(3))
        even, odd = (left + 6 * middle + right) / 8, (middle + right) / 2
        return torch.stack((even, odd), x.dim() + dim + 1).flatten(x.dim() + dim, x.dim() + dim + 1)

    return along(along(x, -2), -1)


STYLES: dict[str, tuple[Step, Step]] = {"conv": (conv_down, conv_up), "slices": (sliced_down, sliced_up)}


def laplacian(x: Tensor, levels: int, down: Step, up: Step) -> list[Tensor]:
    bands = []
    for _ in range(levels):
        low = down(x)
        bands.append(x - up(low))
        x = low
    return [*bands, x]


def gaussian(x: Tensor, levels: int, down: Step) -> list[Tensor]:
    pyramid = [x]
    for _ in range(levels):
        pyramid.append(down(pyramid[-1]))
    return pyramid


def collapse(pyramid: list[Tensor], up: Step) -> Tensor:
    image = pyramid[-1]
    for band in reversed(pyramid[:-1]):
        image = band + up(image)
    return image


def loss(x: Tensor, y: Tensor, levels: int, down: Step, up: Step) -> Tensor:
    """The loss on one pyramid of the difference, as linearity allows."""
    return torch.stack([band.abs().mean() for band in laplacian(x - y, levels, down, up)[:-1]]).sum()


def rife_loss(x: Tensor, y: Tensor, levels: int) -> Tensor:
    """RIFE's: the pyramids of both images, a blur at full size before every second pixel is taken, kernels made in each call."""
    of_x, of_y = rife_pyramid(x, levels), rife_pyramid(y, levels)
    return torch.stack([F.l1_loss(a, b) for a, b in zip(of_x, of_y, strict=True)]).sum()


def rife_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    kernel = binomial(x)
    bands = []
    for _ in range(levels):
        low = blur(x, kernel)[:, :, ::2, ::2]
        bands.append(x - rife_up(low))
        x = low
    return bands


def rife_up(x: Tensor) -> Tensor:
    """Zeros woven in by concatenation, along the columns and, transposed, along the rows."""
    n, c, h, w = x.shape
    x = torch.cat((x, x.new_zeros(n, c, h, w)), dim=3).view(n, c, 2 * h, w).transpose(2, 3)
    x = torch.cat((x, x.new_zeros(n, c, w, 2 * h)), dim=3).view(n, c, 2 * w, 2 * h).transpose(2, 3)
    return blur(x, 4 * binomial(x))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled for the shapes of the first call. What was compiled before is dropped: its versions count towards a limit."""
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, dynamic=False)


def to_type(step: Step, dtype: torch.dtype) -> Step:
    """A step for integers: in float32, rounded half up."""
    if dtype.is_floating_point:
        return step
    return lambda x: (step(x.float()) + 0.5).floor().clamp_(0, torch.iinfo(dtype).max).to(dtype)


# What they have in common -------------------------------------------------------------------------------------------


def each(found: Peers, who: str, items: Sequence[Any], work: Callable[[Any, Any], object]) -> dict[str, Work]:
    """work(module, item) for every item, under the library's name; nothing without the library."""
    module = found.module(who)
    if module is None:
        return {}
    return {who: lambda: [work(module, item) for item in items]}


# OpenCV -------------------------------------------------------------------------------------------------------------


def images_of(x: Tensor) -> list[Array]:
    """(N, C, H, W) -> N contiguous (H, W, C) arrays."""
    return [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in x]


def planes_of(x: Tensor) -> list[Array]:
    return [plane.numpy() for plane in x.flatten(0, -3)]


def opencv(
    found: Peers,
    x: Tensor,
    work: Callable[[Any, Any], object],
    prepare: Callable[[Any, Array], Any] = lambda cv2, image: image,
) -> dict[str, Work]:
    """work(cv2, item) for every image, and for every plane, of x; items are prepared before."""
    cv2 = found.module("opencv")
    if cv2 is None:
        return {}
    ways = {"opencv: interleaved": images_of(x), "opencv: planes": planes_of(x)}
    works: dict[str, Work] = {}
    for way, arrays in ways.items():
        works |= each(found, way, [prepare(cv2, array) for array in arrays], work)
    return works


def columns_rows(image: Array) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def cv2_laplacian(cv2: Any, image: Array, levels: int) -> list[Array]:
    bands = []
    for _ in range(levels):
        low = cv2.pyrDown(image)
        up = cv2.pyrUp(low, dstsize=columns_rows(image))
        exact = image.dtype != np.uint8
        bands.append(cv2.subtract(image, up, dst=up) if exact else cv2.subtract(image, up, dtype=cv2.CV_16S))
        image = low
    return [*bands, image]


def cv2_laplacian_into(cv2: Any, image: Array, bands: list[Array], lows: list[Array]) -> None:
    """The same into arrays that are there already, of floats."""
    for band, low in zip(bands, lows, strict=True):
        cv2.pyrDown(image, dst=low)
        cv2.pyrUp(low, dst=band, dstsize=columns_rows(image))
        cv2.subtract(image, band, dst=band)
        image = low


def cv2_gaussian(cv2: Any, image: Array, levels: int) -> list[Array]:
    pyramid = [image]
    for _ in range(levels):
        pyramid.append(cv2.pyrDown(pyramid[-1]))
    return pyramid


def cv2_collapse(cv2: Any, pyramid: list[Array]) -> Array:
    image = pyramid[-1]
    for band in reversed(pyramid[:-1]):
        image = cv2.pyrUp(image, dstsize=columns_rows(band))
        cv2.add(band, image, dst=image)
    return image


def cv2_loss(cv2: Any, x: Array, y: Array, levels: int) -> float:
    bands = cv2_laplacian(cv2, cv2.subtract(x, y), levels)[:-1]
    return sum(float(cv2.norm(band, cv2.NORM_L1)) / band.size for band in bands)


# kornia, kornia-rs, scikit-image ------------------------------------------------------------------------------------


def kornia(found: Peers, name: str, xs: list[Tensor], *arguments: object) -> dict[str, Work]:
    """kornia.geometry.transform.<name>(x, ...); integers go there and back, as it takes floats only."""
    module = found.module("kornia")
    if module is None:
        return {}
    function = to_type(lambda x: getattr(module, name)(x, *arguments), xs[0].dtype)
    return {"kornia": rotated(function, xs)}


def kornia_rs_laplacian(module: Any, image: Array, levels: int) -> list[Array]:
    lows = module.build_pyramid(image, levels)
    return [*(fine - module.pyrup(coarse) for fine, coarse in pairwise(lows)), lows[-1]]


def kornia_rs_collapse(module: Any, pyramid: list[Array]) -> Array:
    image = pyramid[-1]
    for band in reversed(pyramid[:-1]):
        image = band + module.pyrup(image)
    return image
