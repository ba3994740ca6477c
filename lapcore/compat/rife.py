"""RIFE's Laplacian loss: `from lapcore.compat.rife import LapLoss` for `from model.laplacian import LapLoss`."""

from __future__ import annotations

from torch import Tensor, nn

import lapcore


class LapLoss(nn.Module):
    """The sum over the levels of the mean absolute difference of two images' Laplacian bands.

    Formula: sum_{l < max_levels} mean |h_l(input) - h_l(target)|, h_l the bands of lapcore.laplacian_pyramid; the low-pass that is
    left does not count. Computed from the one pyramid of input - target, which is the same, the bands being linear.

    Shapes: input, target (N, channels, H, W) -> a scalar. Any H and W of at least 1; RIFE's own code needs sides that halve evenly
        and stay above two samples at every level.
    Dtypes: as for lapcore.laplacian_loss. There are no parameters or buffers, so the module runs on its inputs' device.
    Errors: ValueError (shapes that are not these, or max_levels, channels less than 1), TypeError (types and dtypes).
    Determinism: bit-identical for every thread count; the gradient is a gather, deterministic on CUDA.
    Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation, 2022; its model/laplacian.py.
    """

    def __init__(self, max_levels: int = 5, channels: int = 3) -> None:
        super().__init__()
        for name, value in (("max_levels", max_levels), ("channels", channels)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}: expected an int of at least 1, got {value!r}")
            if value < 1:
                raise ValueError(f"{name}: expected an int of at least 1, got {value}")
        self.max_levels = max_levels
        self.channels = channels

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if isinstance(input, Tensor) and (input.dim() != 4 or input.shape[1] != self.channels):
            raise ValueError(f"input: expected shape (N, {self.channels}, H, W), got {tuple(input.shape)}")
        return lapcore.laplacian_loss(input, target, self.max_levels)
