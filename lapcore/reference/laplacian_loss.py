"""The Laplacian loss in plain PyTorch.

loss_n = sum_l c[n, l] sum m_l |h_l| over sample n, h_l the levels of the Laplacian pyramid of input - target (c has one column more
where the residual counts). Its gradient is the pyramid's transpose of c m sign(h).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lapcore.reference import pyramid
from lapcore.reference.pyramid import Apply, Sizes, Tensors


def per_sample(c: Tensor, like: Tensor) -> Tensor:
    """One number for each sample, to multiply a tensor (N, ...)."""
    return c.reshape(-1, *(1,) * (like.dim() - 1))


def cropped(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x[..., : size[0], : size[1]]


def padded(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The transpose of cropped."""
    return torch.nn.functional.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]))


def levels_of(difference: Tensor, sizes: Sizes, border: str, apply: Apply) -> Tensors:
    """h_0 .. h_{L-1}, g_L; where the next size asks for it, a level is cropped to even sides before it is halved."""
    image, bands = difference, []
    for size, low in pairwise(sizes):
        image = cropped(image, size)
        half = apply("down", image, low_of(size), "binomial", border)
        bands.append(apply("up", half, size, "binomial", border, image, -1))
        image = cropped(half, low)
    return [*bands, image]


def low_of(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def transposed(grads: Sequence[Tensor], sizes: Sizes, size: tuple[int, int], border: str, apply: Apply) -> Tensor:
    """The transpose of levels_of, for an image of `size`."""
    *bands, total = grads
    for band, fine in zip(reversed(bands), reversed(sizes[:-1]), strict=True):
        total = padded(total, low_of(fine))
        low = apply("up_adjoint", band, low_of(fine), "binomial", border, total, -1)
        total = apply("down_adjoint", low, fine, "binomial", border, band)
    return padded(total, size)


def laplacian_loss(
    input: Tensor,
    target: Tensor,
    mask: Tensors | None,
    coefficients: Tensor,
    sizes: Sizes,
    border: str,
    with_grad: bool,
    apply: Apply = pyramid.apply,
) -> tuple[Tensor, Tensor | None]:
    """(loss (N,), d(sum of loss)/d input or None), both in the type of the sums.

    sizes: of the levels after cropping, the residual's last.
    """
    compute = torch.promote_types(input.dtype, torch.float32)
    difference = (input.to(compute) - target.to(compute)).contiguous()
    levels = levels_of(difference, sizes, border, apply)
    loss = difference.new_zeros(len(input))
    grads = []
    for level, band in enumerate(levels):
        if level == coefficients.shape[1]:
            grads.append(torch.zeros_like(band))
            continue
        c = coefficients[:, level]
        weight = band.new_ones(()) if mask is None else mask[level].to(compute)
        loss = loss + c * (band.abs() * weight).flatten(1).sum(1)
        grads.append(band.sign() * weight * per_sample(c, band))
    if not with_grad:
        return loss, None
    return loss, transposed(grads, sizes, pyramid.size_of(input), border, apply)
