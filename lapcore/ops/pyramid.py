"""Image pyramids: blur and halve, double and blur, and the Gaussian and Laplacian pyramids made of the two.

Images are (..., H, W) with any number of leading dimensions and any strides, channels-last ones included; results are contiguous.

Filters, with their exact rules in lapcore.reference.taps:
    "binomial"     OpenCV's arithmetic, which is Burt and Adelson's: [1, 4, 6, 4, 1]/16 per axis; sizes ceil(n/2), and 2n-1 or 2n
    "half_pixel"   kornia's: that blur, and bilinear resampling with align_corners=False; sizes floor(n/2), at least 1, and 2n
    "area"         the LAPGAN code's: area average down, linear with aligned corners up; sizes ceil(n/2) and 2n
pyr_down and pyr_up take any `size` with the last two.

Borders: "reflect" (dcb|abcd|cba, OpenCV's default), "replicate" (aaa|abcd|ddd), "circular" (bcd|abcd|abc), "constant" (zeros),
"symmetric" (cba|abcd|dcb); reflections repeat, so images of one and two pixels work. "area" reads nothing beyond an image
and takes the default only.

Dtypes: float16, bfloat16, float32, float64; 16-bit floats accumulate in float32 and round once. With "binomial" also uint8,
int16 and (but for Laplacian pyramids) uint16, exactly as OpenCV rounds them: integer sums, (sum + half) >> shift, saturated.

Determinism, of every operation here: bit-identical for every batch split, thread count and stride; gradients of every order are
gathers, and torch.use_deterministic_algorithms accepts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._linear import Sizes, call, differentiated, register
from lapcore.reference import pyramid as reference
from lapcore.reference.pyramid import INTEGERS, Apply, band_dtype
from lapcore.reference.taps import Size, tables

FILTERS = ("binomial", "half_pixel", "area")
BORDERS = ("reflect", "replicate", "circular", "constant", "symmetric")
IMAGES = (*_check.IMAGES, torch.uint16)


def pyr_down(
    x: Tensor,
    size: Sequence[int] | None = None,
    *,
    filter: str = "binomial",
    border: str = "reflect",
    out: Tensor | None = None,
) -> Tensor:
    """Blurs an image and halves it.

    Formula ("binomial"): out[i, j] = sum_{k,l} K[k] K[l] x[b(2i+k), b(2j+l)], K = [1, 4, 6, 4, 1]/16, k, l = -2..2, b the
    border rule.
    The other filters: see the module.

    Shapes: x (..., H, W) with H, W >= 1 -> (..., *size), by default (..., ceil(H/2), ceil(W/2)), for "half_pixel" floor and
        at least 1. "half_pixel" takes any size, "area" any up to (H, W).
    out: where to write, a tensor of the result's shape and dtype, of any strides; returned. Not where a gradient is asked for.
    Border, dtypes, determinism: see the module. Any value range.
    Errors: TypeError (not a dense image tensor, size not ints), ValueError (fewer than two dimensions, an empty side,
        unknown filter or border, a size the filter cannot make, an `out` that does not fit, overlaps x, or would cut a gradient).
    Source: Burt and Adelson, The Laplacian Pyramid as a Compact Image Code, 1983; equals cv2.pyrDown, kornia's pyrdown on even
        sizes ("half_pixel"), and the reduction of Denton et al., Deep Generative Image Models using a LAPGAN, 2015 ("area").
    """
    _check_image("x", x, filter, border)
    fine = _size(x)
    coarse = _halved(fine, filter) if size is None else _checked_down_size(fine, size, filter)
    if out is None:
        return call("pyr_down", [x], (fine, coarse), filter, border)[0]
    return _into(out, "pyr_down", x, (fine, coarse), 1, filter, border)


def pyr_up(
    x: Tensor,
    size: Sequence[int] | None = None,
    *,
    filter: str = "binomial",
    border: str = "reflect",
    out: Tensor | None = None,
) -> Tensor:
    """Doubles an image and blurs it.

    Formula ("binomial"), per axis: out[2i] = (x[i-1] + 6 x[i] + x[i+1])/8, out[2i+1] = (x[i] + x[i+1])/2, which is the blur
    of x between zeros, times two. Beyond the ends, for "reflect", x[-1] = x[1] and x[n] = x[n-1] (the upsampled grid is
    mirrored, as OpenCV does); other borders extend x by their rule. The other filters: see the module.

    Shapes: x (..., h, w) -> (..., *size), by default 2n for each side n. "binomial" makes 2n-1 (without the last sample) and 2n,
        "half_pixel" any size, "area" any from (h, w) on.
    out: where to write, a tensor of the result's shape and dtype, of any strides; returned. Not where a gradient is asked for.
    Border, dtypes, determinism: see the module.
    Errors: as for pyr_down. A binomial size of 2n+1 is refused: OpenCV's own is inconsistent there.
    Source: Burt and Adelson 1983; equals cv2.pyrUp for border="reflect", the only one OpenCV has, and kornia's pyrup
        ("half_pixel").
    """
    _check_image("x", x, filter, border)
    coarse = _size(x)
    fine = (2 * coarse[0], 2 * coarse[1]) if size is None else _checked_up_size(coarse, size, filter)
    if out is None:
        return call("pyr_up", [x], (fine, coarse), filter, border)[0]
    return _into(out, "pyr_up", x, (fine, coarse), 0, filter, border)


def gaussian_pyramid(
    x: Tensor, levels: int, *, filter: str = "binomial", border: str = "reflect"
) -> tuple[Tensor, ...]:
    """The image and its `levels` successive reductions.

    Formula: g_0 = x, g_{l+1} = pyr_down(g_l).

    Shapes: x (..., H, W) -> levels + 1 tensors, each of half the sides of the one before (rounded up; down for
        "half_pixel"); [0] is x itself. levels >= 0; an image that has shrunk to 1x1 stays so.
    Border, dtypes, determinism: see the module; each level is rounded to the dtype.
    Errors: as for pyr_down; TypeError or ValueError for levels.
    Source: Burt and Adelson 1983; equals cv2.buildPyramid.
    """
    _check_image("x", x, filter, border)
    _check.count("levels", levels)
    if levels == 0:
        return (x,)
    return (x, *call("gaussian_pyramid", [x], level_sizes(_size(x), levels, filter), filter, border))


def laplacian_pyramid(
    x: Tensor, levels: int, *, filter: str = "binomial", border: str = "reflect"
) -> tuple[Tensor, ...]:
    """The `levels` bands of an image, fine to coarse, and what is left: its low-pass.

    Formula: g_0 = x, g_{l+1} = pyr_down(g_l), h_l = g_l - pyr_up(g_{l+1}, size(g_l)); the result is (h_0, .., h_{L-1}, g_L).

    Shapes: x (..., H, W) -> levels + 1 tensors, each of half the sides of the one before (rounded up; down for "half_pixel").
        levels >= 0; with 0 it is (x,).
    Range: a band of an image in [a, b] lies in [a - b, b - a].
    Border, dtypes, determinism: see the module; the g_l are rounded to the dtype, each band is rounded once. Of uint8 and
        int16 images all levels are int16, the low-pass too; bands of int16 images saturate.
    Errors: as for pyr_down; TypeError or ValueError for levels.
    Inverse: collapse, for every size; about 1e-7 relative in float32, without any loss for uint8.
    Source: Burt and Adelson 1983; equals cv2.detail.createLaplacePyr.
    """
    _check_image("x", x, filter, border, _check.IMAGES)
    _check.count("levels", levels)
    if levels == 0:
        return (x.to(band_dtype(x.dtype)),)
    return tuple(call("laplacian_pyramid", [x], level_sizes(_size(x), levels, filter), filter, border))


def collapse(pyramid: Sequence[Tensor], *, filter: str = "binomial", border: str = "reflect") -> Tensor:
    """The image of a Laplacian pyramid: the inverse of laplacian_pyramid.

    Formula: c_L = pyramid[L], c_l = pyramid[l] + pyr_up(c_{l+1}, size(pyramid[l])); the result is c_0.

    Shapes: L + 1 >= 1 tensors of the same leading dimensions, each side of each half that of the one before (rounded up; down for
        "half_pixel") -> the shape of pyramid[0], contiguous. A pyramid of one tensor is that tensor.
    Border, dtypes, determinism: see the module, one dtype and device for all; int16 for integers, saturated, so that the
        bands of a uint8 image give its values back as int16. filter and border must be those of the decomposition.
    Errors: TypeError (not a sequence of dense image tensors), ValueError (empty, or shapes, dtypes, devices that do not fit).
    Source: Burt and Adelson 1983; equals cv2.detail.restoreImageFromLaplacePyr.
    """
    levels, sizes = _checked_pyramid(pyramid, filter, border)
    if len(levels) == 1:
        return levels[0]
    return call("collapse", levels, sizes, filter, border)[0]


def blend(
    a: Tensor, b: Tensor, mask: Tensor, levels: int, *, filter: str = "binomial", border: str = "reflect"
) -> Tensor:
    """Joins two images without a seam: each band is mixed over a transition as wide as its own details.

    Formula: with m_l the Gaussian pyramid of the mask, h_l(.) the Laplacian pyramid, the result is collapse of
    m_l h_l(a) + (1 - m_l) h_l(b); computed as b + collapse(m_l h_l(a - b)), the same by linearity.

    Shapes: a, b (..., H, W), of one shape; mask broadcastable to it, its last two sides H and W -> (..., H, W). levels >= 0.
    Range: mask in [0, 1]; 1 takes a, 0 takes b. Where the blurred mask is 0 on every level the result is b, to the bit.
    Dtypes: float16, bfloat16, float32, float64, one for all three.
    Border, determinism: see the module. Gradients reach a, b and mask.
    Errors: as for laplacian_pyramid; ValueError for shapes, dtypes or devices that do not fit.
    Source: Burt and Adelson, A Multiresolution Spline with Application to Image Mosaics, 1983.
    """
    _check_image("a", a, filter, border, _check.FLOATS)
    for name, x in (("b", b), ("mask", mask)):
        _check_image(name, x, filter, border, _check.FLOATS)
        _check.like(name, x, a.dtype, a.device, "a")
    if b.shape != a.shape:
        raise ValueError(f"b: expected shape {tuple(a.shape)} like a, got {tuple(b.shape)}")
    if mask.dim() > a.dim() or any(m not in (1, n) for m, n in zip(mask.shape[::-1], a.shape[::-1], strict=False)):
        raise ValueError(f"mask: expected a shape that broadcasts to {tuple(a.shape)}, got {tuple(mask.shape)}")
    if mask.shape[-2:] != a.shape[-2:]:
        raise ValueError(f"mask: expected sides {_size(a)}, got {_size(mask)}")
    bands = laplacian_pyramid(a - b, levels, filter=filter, border=border)
    weights = gaussian_pyramid(mask, levels, filter=filter, border=border)
    return b + collapse([m * band for m, band in zip(weights, bands, strict=True)], filter=filter, border=border)


def _size(x: Tensor) -> Size:
    shape = x.shape
    return shape[-2], shape[-1]


def _halved(size: Size, filter: str) -> Size:
    height, width = size
    if filter == "half_pixel":
        return max(height // 2, 1), max(width // 2, 1)
    return (height + 1) // 2, (width + 1) // 2


def level_sizes(size: Size, levels: int, filter: str) -> Sizes:
    """The sizes of g_0 .. g_L."""
    sizes = [size]
    for _ in range(levels):
        size = _halved(size, filter)
        sizes.append(size)
    return tuple(sizes)


def _check_image(name: str, x: object, filter: str, border: str, dtypes: Sequence[torch.dtype] = IMAGES) -> None:
    _check.image(name, x, dtypes)
    if filter == "binomial" and border in BORDERS:
        return
    _check.choice("filter", filter, FILTERS)
    _check.choice("border", border, BORDERS)
    if filter == "area" and border != "reflect":
        raise ValueError(
            f"border: filter 'area' reads nothing beyond an image and takes 'reflect' only, got {border!r}"
        )
    if isinstance(x, Tensor) and x.dtype in INTEGERS and filter != "binomial":
        raise TypeError(
            f"{name}: expected a float dtype with filter {filter!r}, got {_check.dtype_name(x.dtype)}; only 'binomial' "
            "has a rounding rule for integers"
        )


def _checked_sides(size: Sequence[int]) -> Size:
    sides = tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int | torch.SymInt) for side in sides):
        raise TypeError(f"size: expected two ints (height, width), got {size!r}")
    if sides[0] < 1 or sides[1] < 1:
        raise ValueError(f"size: expected sides of at least 1, got {sides}")
    return sides[0], sides[1]


def _checked_down_size(fine: Size, size: Sequence[int], filter: str) -> Size:
    sides = _checked_sides(size)
    if filter == "binomial" and sides != _halved(fine, filter):
        raise ValueError(f"size: expected {_halved(fine, filter)} for an image of {fine[0]}x{fine[1]}, got {sides}")
    if filter == "area" and (sides[0] > fine[0] or sides[1] > fine[1]):
        raise ValueError(f"size: expected at most {fine}, the image's own, got {sides}")
    return sides


def _checked_up_size(coarse: Size, size: Sequence[int], filter: str) -> Size:
    height, width = coarse
    sides = _checked_sides(size)
    if filter == "binomial" and not (
        2 * height - 1 <= sides[0] <= 2 * height and 2 * width - 1 <= sides[1] <= 2 * width
    ):
        raise ValueError(
            f"size: expected ({2 * height - 1} or {2 * height}, {2 * width - 1} or {2 * width}) "
            f"for an image of {height}x{width}, got {sides}"
        )
    if filter == "area" and (sides[0] < height or sides[1] < width):
        raise ValueError(f"size: expected at least {coarse}, the image's own, got {sides}")
    return sides


def _checked_pyramid(pyramid: Sequence[Tensor], filter: str, border: str) -> tuple[list[Tensor], Sizes]:
    if isinstance(pyramid, Tensor) or not isinstance(pyramid, Sequence):
        raise TypeError(f"pyramid: expected a sequence of tensors, fine to coarse, got {type(pyramid).__name__}")
    if not pyramid:
        raise ValueError("pyramid: expected at least one tensor, got an empty sequence")
    for level, x in enumerate(pyramid):
        _check_image(f"pyramid[{level}]", x, filter, border, (torch.int16, *_check.FLOATS))
    first = pyramid[0]
    sizes = level_sizes(_size(first), len(pyramid) - 1, filter)
    for level, (x, size) in enumerate(zip(pyramid, sizes, strict=True)):
        expected = (*first.shape[:-2], *size)
        if x.shape != expected:
            raise ValueError(
                f"pyramid[{level}]: expected shape {expected} below {tuple(first.shape)}, got {tuple(x.shape)}"
            )
        _check.like(f"pyramid[{level}]", x, first.dtype, first.device, "pyramid[0]")
    return list(pyramid), sizes


def _into(out: Tensor, name: str, x: Tensor, sizes: Sizes, result: int, filter: str, border: str) -> Tensor:
    """The operation, written to `out`."""
    if not torch.compiler.is_compiling() and differentiated([x]):
        raise ValueError("out: expected None where a gradient of x is asked for (or use torch.no_grad()), got a tensor")
    _check.out(out, (*x.shape[:-2], *sizes[result]), x.dtype, x)
    if torch.compiler.is_compiling():
        return out.copy_(call(name, [x], sizes, filter, border)[0])
    run(name, [x], sizes, filter, border, [out])
    return out


def _with_tables(
    apply: Apply, op: str, x: Tensor, size: Size, filter: str, border: str, *rest: Any, **more: Any
) -> Any:
    taps = tables(op, _size(x), size, filter, border, x.device, torch.promote_types(x.dtype, torch.float32))
    return apply(op, x, size, filter, border, *rest, **more, tables=taps)


def apply_of(room: ModuleType, filter: str) -> Apply:
    """The room's apply, which takes the taps of filters other than binomial as tables."""
    return room.apply if filter == "binomial" or room is reference else partial(_with_tables, room.apply)


def run(
    name: str,
    inputs: list[Tensor],
    sizes: Sizes,
    filter: str,
    border: str,
    out: list[Tensor] | None = None,
    work: list[Tensor] | None = None,
) -> list[Tensor]:
    """The operation on the backend that these tensors go to: fused there, or composed of its apply."""
    for i, x in enumerate(inputs):
        if x.is_neg():
            inputs = [*inputs[:i], x.resolve_neg(), *inputs[i + 1 :]]
    room = backends.select("pyramid", inputs)
    fused = getattr(room, name, None)
    if fused is not None and room is not reference:
        results: list[Tensor] | None = fused(inputs, sizes, filter, border, out, work)
        if results is not None:
            return results
    composed: list[Tensor] = getattr(reference, name)(inputs, sizes, filter, border, apply_of(room, filter), out, work)
    return composed


def _same(dtype: torch.dtype) -> torch.dtype:
    return dtype


_FINEST, _COARSER, _ALL = slice(0, 1), slice(1, None), slice(None)
_OUTPUTS = {
    "pyr_down": _COARSER,
    "pyr_down_adjoint": _FINEST,
    "pyr_up": _FINEST,
    "pyr_up_adjoint": _COARSER,
    "gaussian_pyramid": _COARSER,
    "gaussian_pyramid_adjoint": _FINEST,
    "laplacian_pyramid": _ALL,
    "laplacian_pyramid_adjoint": _FINEST,
    "collapse": _FINEST,
    "collapse_adjoint": _ALL,
}
for _name, _outputs in _OUTPUTS.items():
    register(_name, partial(run, _name), _outputs, band_dtype if _name == "laplacian_pyramid" else _same)
