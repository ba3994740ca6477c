"""Masked convolutions against PyTorch's convolution with a masked weight, and gates and concatenated ELUs against eager ones.

PyTorch multiplies by every tap. "torch cropped" multiplies by none below the centre's row, which is the best that a dense
convolution can do: 6 taps of 9 where 5 are live.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lapcore

from .harness import Build, Case, Goal, Peers, Work, by_backend, times

BATCH, CHANNELS = 16, 128


def masked(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    height, width = weight.shape[2:]
    return F.conv2d(x, weight * mask, bias, padding=(height // 2, width // 2))


def cropped(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Zeros above the image only, and the rows of the weight that may be live."""
    height, width = weight.shape[2:]
    rows = (weight * mask)[:, :, : height // 2 + 1]
    return F.conv2d(F.pad(x, (0, 0, height // 2, 0)), rows, bias, padding=(0, width // 2))


def convolution(
    found: Peers,
    shape: tuple[int, ...],
    outputs: int,
    kernel: int,
    mask: str,
    backward: bool = False,
    goals: tuple[Goal, ...] = (),
) -> Case:
    inputs = shape[1]
    live = lapcore.mask_of(mask, kernel, inputs, outputs)
    x = torch.randn(shape, requires_grad=backward)
    weight = (torch.randn(outputs, inputs, kernel, kernel) / live[0].sum().sqrt()).requires_grad_(backward)
    bias = torch.randn(outputs, requires_grad=backward)
    grad = torch.randn(shape[0], outputs, *shape[2:])

    def work(convolve: Any) -> Work:
        def run() -> object:
            y = convolve(x, weight, bias)
            return torch.autograd.grad(y, (x, weight, bias), grad) if backward else y

        return run

    rivals = {
        "torch eager: masked weight": work(partial(masked, mask=live.float())),
        "torch cropped: rows to the centre's": work(partial(cropped, mask=live.float())),
    }
    ours = work(partial(lapcore.masked_conv2d, mask=mask))
    operations = 2 * shape[0] * shape[2] * shape[3] * int(live.sum()) * (3 if backward else 1)
    return Case(
        "masked_conv2d",
        0,
        by_backend(ours, "masked_conv2d", x, weight),
        found.only_wanted(rivals),
        goals,
        operations=operations,
    )


def gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


def both_elus(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], 1))


def activation(found: Peers, op: str, shape: tuple[int, ...], backward: bool = False) -> Case:
    ours, eager = {"gated_activation": (lapcore.gated_activation, gate), "concat_elu": (lapcore.concat_elu, both_elus)}[
        op
    ]
    x = torch.randn(shape, requires_grad=backward)
    grad = torch.randn_like(eager(x))

    def work(function: Any) -> Work:
        def run() -> object:
            y = function(x)
            return torch.autograd.grad(y, x, grad) if backward else y

        return run

    moved = (x.nbytes + grad.nbytes) + (2 * x.nbytes + grad.nbytes if backward else 0)
    return Case(op, moved, by_backend(work(ours), op, x), found.only_wanted({"torch eager": work(eager)}))


def cases(found: Peers) -> dict[str, Build]:
    """Every case by name, built when it is measured."""
    built: dict[str, Build] = {}
    c8 = (times("C8", "torch eager", 1.5),)
    for backward, way in ((False, ""), (True, " forward+backward")):
        for kernel, mask, size, goals in (
            (3, "B", 32, c8),
            (3, "A", 28, c8),
            (7, "B", 32, c8),
            (7, "A", 28, c8),
            (1, "B", 32, ()),
        ):
            name = f"masked_conv2d {kernel}x{kernel} {mask} {BATCH}x{CHANNELS}x{size}x{size}{way}"
            shape = (BATCH, CHANNELS, size, size)
            built[name] = partial(convolution, found, shape, CHANNELS, kernel, mask, backward, goals)
        for op in ("gated_activation", "concat_elu"):
            built[f"{op} {BATCH}x{CHANNELS}x32x32{way}"] = partial(
                activation, found, op, (BATCH, CHANNELS, 32, 32), backward
            )
    return built
