"""How far a result may be from the oracle: one table, derived from the arithmetic.

A sum of `taps` products in precision u = eps/2 is off by at most taps * u * sum |weight| |x| (Higham, "Accuracy and Stability
of Numerical Algorithms", 2002, section 4.2), and every value stored in the result's type by u_out of it. Errors made early pass
through the later steps, whose weights act on them as they act on |x|. So with `scale` the largest value the oracle gives for |x|
with every minus made a plus, the error is at most (operations * u + stores * u_out) * scale. 16-bit floats accumulate in float32:
there u_out rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

ACCUMULATOR = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}


@dataclass(frozen=True)
class Cost:
    """The longest chain of rounded operations, and of values stored in the tensor's type, from an input to an output."""

    operations: int = 0
    operations_per_level: int = 0
    stores: int = 1
    stores_per_level: int = 0

    def error(self, dtype: torch.dtype, levels: int) -> float:
        u, u_out = torch.finfo(ACCUMULATOR[dtype]).eps / 2, torch.finfo(dtype).eps / 2
        operations = self.operations + self.operations_per_level * levels
        stores = self.stores + self.stores_per_level * levels
        return operations * u + stores * u_out


@dataclass(frozen=True)
class Taps:
    """How many inputs a sample of each operator reads in two dimensions, and the roundings in one weight of them."""

    down: int
    up: int
    down_adjoint: int
    up_adjoint: int
    weight: int = 0


# Between an image and its next level. Borders fold taps together, never add any. Binomial weights are exact; the others' are
# rounded on each axis and once more in their product.
TAPS = {
    "binomial": Taps(25, 9, 25, 25),
    "half_pixel": Taps(36, 16, 9, 81, weight=3),
    "area": Taps(9, 4, 4, 16, weight=3),
}


def _costs(taps: Taps) -> dict[str, Cost]:
    """Whether a fused kernel keeps a level's sums or stores them is its own affair: both fit."""
    down, up = taps.down + taps.weight, taps.up + taps.weight
    down_adjoint, up_adjoint = taps.down_adjoint + taps.weight, taps.up_adjoint + taps.weight
    return {
        "pyr_down": Cost(down),
        "pyr_up": Cost(up),
        "gaussian_pyramid": Cost(0, down, 0, 1),
        "laplacian_pyramid": Cost(up + 1, down, 2, 1),
        "collapse": Cost(0, up + 1, 1, 2),
        "pyr_down_backward": Cost(down_adjoint),
        "pyr_up_backward": Cost(up_adjoint),
        "gaussian_pyramid_backward": Cost(0, down_adjoint + 1, 1, 2),
        "laplacian_pyramid_backward": Cost(up_adjoint + 1, down_adjoint + 2, 3, 3),
        "collapse_backward": Cost(0, up_adjoint, 1, 1),
        # a - b, its pyramid and the mask's, their product, the collapse, + b
        "blend": Cost(up + 4, 2 * down + up + 1, 6, 4),
    }


TABLE = {filter: _costs(taps) for filter, taps in TAPS.items()}

NORMAL = 4e-6  # the noise contract: float32 normals against float64 at the same uniforms
ROUND_TRIP = 1e-6  # collapse(laplacian_pyramid(x)) in float32, relative to max|x|
OPENCV = 5e-7  # float32 images in [0, 1] against cv2.pyrDown and cv2.pyrUp


def bound(op: str, dtype: torch.dtype, scale: float, levels: int = 0, filter: str = "binomial") -> float:
    """The absolute error allowed to `op`; `scale` as the module explains. Subnormal results may be flushed."""
    return TABLE[filter][op].error(dtype, levels) * scale + torch.finfo(dtype).tiny


def resize_bound(taps: int, dtype: torch.dtype, scale: float) -> float:
    """As `bound`, for one operator between any two sizes that reads this many samples."""
    return Cost(taps + TAPS["half_pixel"].weight).error(dtype, 0) * scale + torch.finfo(dtype).tiny


def loss_error(shape: tuple[int, ...], dtype: torch.dtype, levels: int) -> float:
    """The error of laplacian_loss relative to its magnitude: difference, bands, then sums along a row, along the rows, over the
    images. 16-bit inputs are exact in float32, where everything happens."""
    bands = TABLE["binomial"]["laplacian_pyramid"].error(ACCUMULATOR[dtype], levels)
    sums = shape[-1] + shape[-2] + math.prod(shape[:-2]).bit_length() + levels + 4
    return bands + sums * torch.finfo(ACCUMULATOR[dtype]).eps / 2


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """float64 for floats, exact; integers as they are."""
    tensor = tensor.detach().cpu()
    return tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy()


def largest(*arrays: np.ndarray) -> float:
    """The largest finite magnitude, 0 for empty arrays."""
    values = np.concatenate([np.abs(a).ravel() for a in arrays])
    return float(values[np.isfinite(values)].max(initial=0.0))


def assert_close(got: torch.Tensor, expected: np.ndarray, tolerance: float | np.ndarray, what: str = "result") -> None:
    """|got - expected| <= tolerance everywhere; NaN and infinities must be in the same places. Names the worst element."""
    actual, expected = to_numpy(got), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: got shape {actual.shape}, expected {expected.shape}"
    if not actual.size:
        return
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - expected)
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
    allowed = np.broadcast_to(tolerance, error.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(error <= allowed, 0.0, error / allowed)
    if not excess.any():
        return
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    index = tuple(int(i) for i in worst)
    raise AssertionError(
        f"{what}: {int((excess > 0).sum())} of {excess.size} elements are off; worst at {index}: "
        f"got {actual[worst]!r}, expected {expected[worst]!r}, error {error[worst]:.3g}, allowed {allowed[worst]:.3g}"
    )


def assert_same_bits(got: torch.Tensor, expected: torch.Tensor, what: str = "result") -> None:
    """Equal to the bit, zeros' signs included (any NaN equals any NaN)."""
    assert got.shape == expected.shape, f"{what}: got shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    assert got.dtype == expected.dtype, f"{what}: got {got.dtype}, expected {expected.dtype}"
    wanted = to_numpy(expected)
    assert_close(got, wanted, 0.0, what)
    turned = (np.signbit(to_numpy(got)) != np.signbit(wanted)) & (wanted == 0)
    assert not turned.any(), f"{what}: {int(turned.sum())} zeros of {turned.size} elements are of the other sign"
