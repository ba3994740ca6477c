"""Multi-band blending of two images."""

from __future__ import annotations

from torch import Tensor

from lapcore.ops.pyramid import collapse, gaussian_pyramid, laplacian_pyramid


def blend(a: Tensor, b: Tensor, mask: Tensor, levels: int) -> Tensor:
    """Joins two images without a seam: each band-pass of the result is g a_k + (1 - g) b_k, g the mask at that level.

    a, b: (N, C, H, W). mask: (N or 1, 1 or C, H, W) in [0, 1]; 1 takes a, 0 takes b. Where the blurred mask is 0 at every level the
    result is b up to rounding. Source: Burt and Adelson, A Multiresolution Spline, 1983.
    """
    bands = zip(laplacian_pyramid(a, levels), laplacian_pyramid(b, levels), gaussian_pyramid(mask, levels), strict=True)
    return collapse([band_b + weight * (band_a - band_b) for band_a, band_b, weight in bands])
