"""LPTN's Laplacian pyramid: `from lapcore.compat.lptn import Lap_Pyramid_Conv` for the class of models/archs/LPTN_arch.py."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

import lapcore


class Lap_Pyramid_Conv(nn.Module):
    """The Laplacian pyramid of an image, and its inverse.

    num_high: how many bands. Like the original it has no parameters and no buffers, and no forward; unlike it, it runs on the
    device of its images, with any number of channels, and at any size.
    Errors: TypeError or ValueError if num_high is no int of at least 0.
    Source: Liang, Zeng and Zhang, High-Resolution Photorealistic Image Translation in Real-Time: A Laplacian Pyramid Translation
        Network, 2021; Lap_Pyramid_Conv of its code.
    """

    def __init__(self, num_high: int = 3) -> None:
        super().__init__()
        if isinstance(num_high, bool) or not isinstance(num_high, int):
            raise TypeError(f"num_high: expected an int of at least 0, got {num_high!r}")
        if num_high < 0:
            raise ValueError(f"num_high: expected an int of at least 0, got {num_high}")
        self.num_high = num_high

    def pyramid_decom(self, img: Tensor) -> list[Tensor]:
        """The num_high bands, fine to coarse, and the low-pass.

        Formula, errors, determinism: lapcore.laplacian_pyramid(img, num_high).
        Shapes: img (N, C, H, W) -> num_high + 1 tensors, the l-th (N, C, ceil(H/2^l), ceil(W/2^l)). Dtypes: floats.
        """
        return list(lapcore.laplacian_pyramid(img, self.num_high))

    def pyramid_recons(self, pyr: Sequence[Tensor]) -> Tensor:
        """The image of a pyramid in the order of pyramid_decom.

        Formula, errors, determinism: lapcore.collapse(pyr).
        Shapes: those of pyramid_decom, of any number of levels -> (N, C, H, W).
        """
        return lapcore.collapse(pyr)
