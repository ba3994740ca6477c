"""kornia's image pyramids: pyrdown, pyrup, build_pyramid, build_laplacian_pyramid, PyrDown, PyrUp.

Signatures, defaults, sizes and numbers are those of kornia.geometry.transform 0.9. Two things differ. Where kornia fails because a
side is too short for its padding ("reflect" and "circular" need three samples, or two), these compute the result of the border
rule. And gradients are gathers, so they are deterministic on CUDA, except through the resize that align_corners=True needs in
pyrdown. torch.jit.trace is refused; torch.compile and torch.export work.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lapcore
from lapcore.errors import LapcoreError

BORDERS = ("constant", "reflect", "replicate", "circular")


class BaseError(LapcoreError):
    """Stands for kornia.core.check.BaseError: an argument of the wrong value."""


class ShapeError(BaseError, ValueError):
    """Stands for kornia.core.check.ShapeError: a tensor that is not (B, C, H, W)."""


class TypeCheckError(BaseError, TypeError):
    """Stands for kornia.core.check.TypeCheckError: not a tensor."""


class SizeError(ShapeError, RuntimeError):
    """A level without a pixel; there kornia lets torch's RuntimeError through."""


def pyrdown(input: Tensor, border_type: str = "reflect", align_corners: bool = False, factor: float = 2.0) -> Tensor:
    """Blurs an image and resizes it bilinearly.

    Formula: resize(blur(input)), blur = the outer product of [1, 4, 6, 4, 1]/16 with itself at every pixel, resize =
    torch.nn.functional.interpolate(mode="bilinear", align_corners=align_corners).

    Shapes: input (B, C, H, W) -> (B, C, floor(H/factor), floor(W/factor)).
    Border of the blur: "constant" (zeros), "reflect", "replicate" or "circular", in any case.
    Dtypes: float16, bfloat16, float32, float64; integers and bool are computed in float32 and give that. Any value range.
    Errors: ShapeError (not four dimensions), BaseError (unknown border_type), SizeError (a result without a pixel), TypeCheckError.
    Determinism: bit-identical for every batch split and thread count; with align_corners=True as deterministic as interpolate is.
    Source: kornia.geometry.transform.pyrdown 0.9. With align_corners=False this is lapcore.pyr_down(filter="half_pixel"); with True
        the blur is lapcore's and the resize torch's.
    """
    border = _checked_border(input, border_type)
    x = _floating(input)
    size = (int(float(x.shape[2]) / factor), int(float(x.shape[3]) / factor))
    if min(size) < 1:
        raise SizeError(f"input: expected sides of at least factor = {factor}, got {_sides(x)}")
    if align_corners:
        return F.interpolate(_blur(x, border), size=size, mode="bilinear", align_corners=True)
    return lapcore.pyr_down(x, size, filter="half_pixel", border=border)


def pyrup(input: Tensor, border_type: str = "reflect", align_corners: bool = False) -> Tensor:
    """Doubles an image bilinearly and blurs it.

    Formula: blur(resize(input)), as in pyrdown.

    Shapes: input (B, C, H, W) -> (B, C, 2H, 2W).
    Border of the blur: as for pyrdown.
    Dtypes: float16, bfloat16, float32, float64. uint8 is resized in uint8, as interpolate does, and blurred in float32.
    Errors: as for pyrdown; NotImplementedError for the integers that interpolate does not resize.
    Determinism: bit-identical for every batch split and thread count.
    Source: kornia.geometry.transform.pyrup 0.9. With align_corners=False this is lapcore.pyr_up(filter="half_pixel"); with True,
        lapcore.pyr_up(filter="area") and then the blur.
    """
    border = _checked_border(input, border_type)
    if not input.is_floating_point():
        size = (2 * input.shape[2], 2 * input.shape[3])
        return _blur(_floating(F.interpolate(input, size=size, mode="bilinear", align_corners=align_corners)), border)
    if align_corners:
        return _blur(lapcore.pyr_up(input, filter="area"), border)
    return lapcore.pyr_up(input, filter="half_pixel", border=border)


def build_pyramid(
    input: Tensor, max_level: int, border_type: str = "reflect", align_corners: bool = False
) -> list[Tensor]:
    """The image and its max_level - 1 successive reductions.

    Formula: g_0 = input, g_{l+1} = pyrdown(g_l, border_type, align_corners).

    Shapes: input (B, C, H, W) -> max_level tensors, the l-th (B, C, floor(H/2^l), floor(W/2^l)); [0] is input itself.
    Border and dtypes: as for pyrdown.
    Errors: as for pyrdown; BaseError if max_level is no int of at least 1.
    Determinism: as for pyrdown.
    Source: kornia.geometry.transform.build_pyramid 0.9.
    """
    border = _checked_border(input, border_type)
    _check_levels(input, max_level)
    if align_corners:
        pyramid = [input]
        for _ in range(max_level - 1):
            pyramid.append(pyrdown(pyramid[-1], border, align_corners=True))
        return pyramid
    reduced = lapcore.gaussian_pyramid(_floating(input), max_level - 1, filter="half_pixel", border=border)
    return [input, *reduced[1:]]


def build_laplacian_pyramid(
    input: Tensor, max_level: int, border_type: str = "reflect", align_corners: bool = False
) -> list[Tensor]:
    """The max_level - 1 bands of an image, fine to coarse, and its last Gaussian level.

    Formula: g = build_pyramid(padded input), h_l = g_l - pyrup(g_{l+1}, border_type, align_corners), and last g_{max_level - 1}.
    The input is mirrored at its right and bottom up to the next powers of two if neither side is one, or if a side is not divisible
    by 2^(max_level - 1).

    Shapes: input (B, C, H, W), padded to (B, C, H', W') -> max_level tensors, the l-th (B, C, H'/2^l, W'/2^l).
    Border and dtypes: as for pyrdown.
    Errors: as for build_pyramid.
    Determinism: as for pyrdown.
    Source: kornia.geometry.transform.build_laplacian_pyramid 0.9. kornia has no inverse. For one, and for any size without padding,
        use lapcore.laplacian_pyramid(filter="half_pixel") and lapcore.collapse.
    """
    border = _checked_border(input, border_type)
    _check_max_level(max_level)
    padded = _padded(input, 1 << (max_level - 1))
    _check_levels(padded, max_level)
    if max_level == 1:
        return [padded]
    padded = _floating(padded)
    if not align_corners:
        return list(lapcore.laplacian_pyramid(padded, max_level - 1, filter="half_pixel", border=border))
    g = build_pyramid(padded, max_level, border, align_corners=True)
    bands = [fine - pyrup(coarse, border, align_corners=True) for fine, coarse in pairwise(g)]
    return [*bands, g[-1]]


class PyrDown(nn.Module):
    """pyrdown as a module; its arguments are those of the function.

    Shapes, dtypes, errors, determinism: as for pyrdown. Source: kornia.geometry.transform.PyrDown 0.9.
    """

    def __init__(self, border_type: str = "reflect", align_corners: bool = False, factor: float = 2.0) -> None:
        super().__init__()
        self.border_type = border_type
        self.align_corners = align_corners
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:
        return pyrdown(input, self.border_type, self.align_corners, self.factor)


class PyrUp(nn.Module):
    """pyrup as a module; its arguments are those of the function.

    Shapes, dtypes, errors, determinism: as for pyrup. Source: kornia.geometry.transform.PyrUp 0.9.
    """

    def __init__(self, border_type: str = "reflect", align_corners: bool = False) -> None:
        super().__init__()
        self.border_type = border_type
        self.align_corners = align_corners

    def forward(self, input: Tensor) -> Tensor:
        return pyrup(input, self.border_type, self.align_corners)


def _blur(x: Tensor, border: str) -> Tensor:
    """The 5x5 binomial at every pixel: a resize to the same size leaves the blur alone."""
    return lapcore.pyr_down(x, (x.shape[2], x.shape[3]), filter="half_pixel", border=border)


def _floating(x: Tensor) -> Tensor:
    return x if x.is_floating_point() or x.is_complex() else x.to(torch.float32)


def _padded(x: Tensor, stride: int) -> Tensor:
    height, width = x.shape[2:]
    fits = _is_power_of_two(height) or _is_power_of_two(width)
    if fits and height % stride == 0 and width % stride == 0:
        return x
    return F.pad(x, (0, _next_power_of_two(width) - width, 0, _next_power_of_two(height) - height), "reflect")


def _is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


def _next_power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _sides(x: Tensor) -> str:
    return f"{x.shape[2]}x{x.shape[3]}"


def _checked_border(input: object, border_type: str) -> str:
    """The border's name, once input is known to be an image."""
    if not isinstance(input, Tensor):
        raise TypeCheckError(f"input: expected a torch.Tensor, got {type(input).__name__}")
    if input.dim() != 4:
        raise ShapeError(
            f"Shape dimension mismatch: expected 4 dimensions, got {input.dim()}.\n"
            f"  Expected shape: ['B', 'C', 'H', 'W']\n  Actual shape: {list(input.shape)}"
        )
    border = str(border_type).lower()
    if border not in BORDERS:
        raise BaseError(f"Invalid border, {border_type}. Expected one of {', '.join(BORDERS)}")
    return border


def _check_max_level(max_level: object) -> None:
    if isinstance(max_level, bool) or not isinstance(max_level, int) or max_level < 1:
        raise BaseError(f"Invalid max_level, it must be a positive integer. Got: {max_level}")


def _check_levels(input: Tensor, max_level: int) -> None:
    _check_max_level(max_level)
    if min(input.shape[2:]) >> (max_level - 1) < 1:
        raise SizeError(
            f"max_level: expected sides of at least {2 ** (max_level - 1)} for {max_level}, got {_sides(input)}"
        )
