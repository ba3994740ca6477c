"""What a network's outputs depend on: found by gradients, and worked out from its kernels alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Offsets = set[tuple[int, int]]


def dependencies(network: nn.Module, channels: int, size: int, groups: int, images: int = 2) -> Tensor:
    """bool (groups, size, size, channels, size, size): whether outputs of a group at a pixel depend on a value of the image.

    Outputs of group g of a pixel are added up with random weights, and what has a gradient in one of some images counts: a
    structural zero is exactly 0. Enough maps are needed that ReLUs do not all sleep.
    """
    network = network.double()
    found = torch.zeros(groups, size, size, channels, size, size, dtype=torch.bool)
    for _ in range(images):
        image = torch.rand(1, channels, size, size, dtype=torch.float64).mul(2).sub(1).requires_grad_()
        out = network(image)
        out = (out * torch.randn(out.shape[1], 1, 1, dtype=out.dtype)).view(groups, -1, size, size).sum(1)
        for place in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
            (grad,) = torch.autograd.grad(out[tuple(place)], image, retain_graph=True)
            found[tuple(place)] |= grad[0] != 0
    return found


def raster_order(channels: int, size: int, groups: int) -> Tensor:
    """The same of an autoregressive model that sees all that goes before: earlier pixels, and of its own the colours before."""
    pixel = torch.arange(size * size)
    before = pixel[None, :] < pixel[:, None]
    same = pixel[None, :] == pixel[:, None]
    group_of = torch.arange(channels) * groups // channels
    earlier = group_of[None, :] < torch.arange(groups)[:, None]
    table = before[None, :, None, :] | (same[None, :, None, :] & earlier[:, None, :, None])
    return table.view(groups, size, size, channels, size, size)


def kernel(height: int, width: int, last: int) -> Offsets:
    """(dy, dx) of the first `last` taps of a kernel in raster order."""
    return {(t // width - height // 2, t % width - width // 2) for t in range(last)}


def reach(*layers: Offsets) -> Offsets:
    """(dy, dx) that a chain of convolutions with these live taps reads."""
    seen: Offsets = {(0, 0)}
    for taps in layers:
        seen = {(y + dy, x + dx) for y, x in seen for dy, dx in taps}
    return seen
