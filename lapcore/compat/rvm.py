"""RobustVideoMatting's Laplacian loss: `from lapcore.compat.rvm import laplacian_loss` for `from train_loss import ...`."""

from __future__ import annotations

from torch import Tensor

import lapcore


def laplacian_loss(pred: Tensor, true: Tensor, max_levels: int = 5) -> Tensor:
    """The mean over the levels of 2^l times the mean absolute difference of two images' Laplacian bands.

    Formula: 1/max_levels sum_{l < max_levels} 2^l mean |h_l(pred) - h_l(true)|. Each level is cropped to even sides before it is
    halved, as the original does. Computed from the one pyramid of pred - true, which is the same, the bands being linear.

    Shapes: pred, true (N, C, H, W), for a video (B T, C, H, W) -> a scalar.
    Dtypes: as for lapcore.laplacian_loss.
    Errors: as for lapcore.laplacian_loss with odd="crop".
    Determinism: bit-identical for every thread count; the gradient is a gather, deterministic on CUDA.
    Source: Lin et al., Robust High-Resolution Video Matting with Temporal Guidance, 2022; train_loss.py of its code.
    """
    return lapcore.laplacian_loss(pred, true, max_levels, weights="pow2", odd="crop") / max_levels
