"""Image pyramids: blur and halve, double and blur, and the Gaussian and Laplacian pyramids made of the two.

Images are (..., H, W) with any number of leading dimensions and any strides; results are contiguous. The arithmetic is
OpenCV's, which is Burt and Adelson's with the kernel [1, 4, 6, 4, 1]/16 per axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._linear import call, register
from lapcore.reference import pyramid as reference
from lapcore.reference.pyramid import Size, sizes_of

FILTERS = ("binomial",)
BORDERS = ("reflect", "replicate", "circular", "constant", "symmetric")


def pyr_down(x: Tensor, *, filter: str = "binomial", border: str = "reflect") -> Tensor:
    """Blurs an image and keeps every second row and column.

    Formula: out[i, j] = sum_{k,l} K[k] K[l] x[b(2i+k), b(2j+l)], K = [1, 4, 6, 4, 1]/16, k, l = -2..2, b the border rule.

    Shapes: x (..., H, W) with H, W >= 1 -> (..., ceil(H/2), ceil(W/2)), contiguous.
    Border: "reflect" (dcb|abcd|cba, OpenCV's default), "replicate" (aaa|abcd|ddd), "circular" (bcd|abcd|abc), "constant"
        (zeros), "symmetric" (cba|abcd|dcb); reflections repeat, so images of one and two pixels work.
    Dtypes: float16, bfloat16, float32, float64; 16-bit floats accumulate in float32 and round once. Any value range.
    Errors: TypeError (not a dense float tensor), ValueError (fewer than two dimensions, an empty side, unknown filter or border).
    Determinism: bit-identical for every batch split, thread count and stride; gradients of every order are gathers.
    Source: Burt and Adelson, The Laplacian Pyramid as a Compact Image Code, 1983; equals cv2.pyrDown.
    """
    _check.image("x", x)
    _check_rules(filter, border)
    return call("pyr_down", [x], _size(x), 1, border)[0]


def pyr_up(
    x: Tensor, size: Sequence[int] | None = None, *, filter: str = "binomial", border: str = "reflect"
) -> Tensor:
    """Doubles an image: zeros between the samples, then the blur, times four.

    Formula, per axis: out[2i] = (x[i-1] + 6 x[i] + x[i+1])/8, out[2i+1] = (x[i] + x[i+1])/2. Beyond the ends, for "reflect",
    x[-1] = x[1] and x[n] = x[n-1] (the upsampled grid is mirrored, as OpenCV does); other borders extend x by their rule.

    Shapes: x (..., h, w) -> (..., *size), contiguous; each side of size is 2n-1 or 2n, by default 2n. 2n-1 drops the last sample.
    Border and dtypes: as for pyr_down.
    Errors: TypeError (not a dense float tensor; size not ints), ValueError (shape, filter, border, or a size that is neither 2n-1
        nor 2n: OpenCV's own 2n+1 is inconsistent).
    Determinism: bit-identical for every batch split, thread count and stride; gradients of every order are gathers.
    Source: Burt and Adelson 1983; equals cv2.pyrUp for border="reflect", the only one OpenCV has.
    """
    _check.image("x", x)
    _check_rules(filter, border)
    return call("pyr_up", [x], _checked_up_size(x, size), 1, border)[0]


def gaussian_pyramid(
    x: Tensor, levels: int, *, filter: str = "binomial", border: str = "reflect"
) -> tuple[Tensor, ...]:
    """The image and its `levels` successive reductions.

    Formula: g_0 = x, g_{l+1} = pyr_down(g_l).

    Shapes: x (..., H, W) -> levels + 1 tensors, the l-th (..., ceil(H/2^l), ceil(W/2^l)); [0] is x itself. levels >= 0; an image
        that has shrunk to 1x1 stays so.
    Border and dtypes: as for pyr_down; each level is rounded to the dtype.
    Errors: as for pyr_down; TypeError or ValueError for levels.
    Determinism: as for pyr_down.
    Source: Burt and Adelson 1983; equals cv2.buildPyramid.
    """
    _check.image("x", x)
    _check.count("levels", levels)
    _check_rules(filter, border)
    if levels == 0:
        return (x,)
    return (x, *call("gaussian_pyramid", [x], _size(x), levels, border))


def laplacian_pyramid(
    x: Tensor, levels: int, *, filter: str = "binomial", border: str = "reflect"
) -> tuple[Tensor, ...]:
    """The `levels` bands of an image, fine to coarse, and what is left: its low-pass.

    Formula: g_0 = x, g_{l+1} = pyr_down(g_l), h_l = g_l - pyr_up(g_{l+1}, size(g_l)); the result is (h_0, .., h_{L-1}, g_L).

    Shapes: x (..., H, W) -> levels + 1 tensors, the l-th (..., ceil(H/2^l), ceil(W/2^l)). levels >= 0; with 0 it is (x,).
    Range: a band of an image in [a, b] lies in [a - b, b - a].
    Border and dtypes: as for pyr_down; the g_l are rounded to the dtype, each band is rounded once.
    Errors: as for pyr_down; TypeError or ValueError for levels.
    Determinism: as for pyr_down. collapse gives the image back for every size: about 1e-7 relative in float32.
    Source: Burt and Adelson 1983; equals cv2.detail.createLaplacePyr.
    """
    _check.image("x", x)
    _check.count("levels", levels)
    _check_rules(filter, border)
    if levels == 0:
        return (x,)
    return tuple(call("laplacian_pyramid", [x], _size(x), levels, border))


def collapse(pyramid: Sequence[Tensor], *, filter: str = "binomial", border: str = "reflect") -> Tensor:
    """The image of a Laplacian pyramid: the inverse of laplacian_pyramid.

    Formula: c_L = pyramid[L], c_l = pyramid[l] + pyr_up(c_{l+1}, size(pyramid[l])); the result is c_0.

    Shapes: L + 1 >= 1 tensors of the same leading dimensions, each side of each half that of the one before, rounded up
        -> the shape of pyramid[0], contiguous. A pyramid of one tensor is that tensor.
    Border and dtypes: as for pyr_down, one dtype and device for all; filter and border must be those of the decomposition.
    Errors: TypeError (not a sequence of dense float tensors), ValueError (empty, or shapes, dtypes, devices that do not fit).
    Determinism: as for pyr_down.
    Source: Burt and Adelson 1983; equals cv2.detail.restoreImageFromLaplacePyr.
    """
    levels = _checked_pyramid(pyramid)
    _check_rules(filter, border)
    if len(levels) == 1:
        return levels[0]
    return call("collapse", levels, _size(levels[0]), len(levels) - 1, border)[0]


def _size(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]


def _check_rules(filter: str, border: str) -> None:
    if filter not in FILTERS or border not in BORDERS:
        _check.choice("filter", filter, FILTERS)
        _check.choice("border", border, BORDERS)


def _checked_up_size(x: Tensor, size: Sequence[int] | None) -> Size:
    height, width = _size(x)
    if size is None:
        return 2 * height, 2 * width
    sides = tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) for side in sides):
        raise TypeError(f"size: expected two ints (height, width), got {size!r}")
    if sides[0] not in (2 * height - 1, 2 * height) or sides[1] not in (2 * width - 1, 2 * width):
        raise ValueError(
            f"size: expected ({2 * height - 1} or {2 * height}, {2 * width - 1} or {2 * width}) "
            f"for an image of {height}x{width}, got {sides}"
        )
    return sides[0], sides[1]


def _checked_pyramid(pyramid: Sequence[Tensor]) -> list[Tensor]:
    if isinstance(pyramid, Tensor) or not isinstance(pyramid, Sequence):
        raise TypeError(f"pyramid: expected a sequence of tensors, fine to coarse, got {type(pyramid).__name__}")
    if not pyramid:
        raise ValueError("pyramid: expected at least one tensor, got an empty sequence")
    for level, x in enumerate(pyramid):
        _check.image(f"pyramid[{level}]", x)
    first = pyramid[0]
    sizes = sizes_of(_size(first), len(pyramid) - 1)
    for level, (x, (height, width)) in enumerate(zip(pyramid, sizes, strict=True)):
        expected = (*first.shape[:-2], height, width)
        if x.shape != expected:
            raise ValueError(
                f"pyramid[{level}]: expected shape {expected} below {tuple(first.shape)}, got {tuple(x.shape)}"
            )
        if x.dtype != first.dtype or x.device != first.device:
            raise ValueError(
                f"pyramid[{level}]: expected {first.dtype} on {first.device} like pyramid[0], got {x.dtype} on {x.device}"
            )
    return list(pyramid)


def _run(name: str, inputs: list[Tensor], size: Size, levels: int, border: str) -> list[Tensor]:
    inputs = [x.resolve_neg() if x.is_neg() else x for x in inputs]
    backend = backends.select("pyramid", inputs)
    fused = getattr(backend, name, None)
    if fused is not None:
        return list(fused(inputs, size, levels, border))
    return list(getattr(reference, name)(inputs, size, levels, border, backend.apply))


def _finest(size: Size, levels: int) -> list[Size]:
    return [size]


def _halved(size: Size, levels: int) -> list[Size]:
    return sizes_of(size, 1)[1:]


def _coarser(size: Size, levels: int) -> list[Size]:
    return sizes_of(size, levels)[1:]


_SHAPES = {
    "pyr_down": _halved,
    "pyr_down_adjoint": _finest,
    "pyr_up": _finest,
    "pyr_up_adjoint": _halved,
    "gaussian_pyramid": _coarser,
    "gaussian_pyramid_adjoint": _finest,
    "laplacian_pyramid": sizes_of,
    "laplacian_pyramid_adjoint": _finest,
    "collapse": _finest,
    "collapse_adjoint": sizes_of,
}
for _name, _shapes in _SHAPES.items():
    register(_name, partial(_run, _name), _shapes)
