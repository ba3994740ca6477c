"""Images from autoregressive networks: the network runs once in all, against once for every pixel, which is what PyTorch offers.

Naive sampling takes minutes, and is the same forward pass at every pixel and colour: one pass is timed, and its time is multiplied
by their number. Its weights are masked beforehand, and nothing is drawn. Our reference is cached sampling in plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import lapcore
from lapcore.models.autoregressive import AutoregressiveModel
from lapcore.models.gated_pixelcnn import GatedPixelCNN
from lapcore.models.pixelcnn import PixelCNN
from lapcore.nn import GatedActivation, MaskedConv2d
from lapcore.nn.tracing import program_of
from lapcore.ops.pixelcnn_sampler import Categorical, Program

from .harness import Build, Case, Goal, Peers, Work, by_backend, of_matrix_rate, times


class Plain(nn.Module):
    """A MaskedConv2d as PyTorch's convolution, whose weight was masked once."""

    def __init__(self, layer: MaskedConv2d) -> None:
        super().__init__()
        self.plain = layer.to_conv2d()

    def forward(self, x: Tensor, condition: None = None) -> Tensor:
        y: Tensor = self.plain(x)
        return y


class PlainGate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.tanh(a) * torch.sigmoid(b)


def in_plain_torch(module: nn.Module) -> nn.Module:
    if isinstance(module, MaskedConv2d):
        return Plain(module)
    if isinstance(module, GatedActivation):
        return PlainGate()
    for name, child in module.named_children():
        setattr(module, name, in_plain_torch(child))
    return module


def operations(program: Program, images: int) -> int:
    """Of convolutions: two for each live weight at each place."""
    total = 0
    for conv in program.convolutions():
        height, width = program.size_of(conv.dst)
        for group in range(program.groups):
            for part in program.channels_of(conv.dst, group):
                total += 2 * program.matrix(conv, group, part).numel() * height * width
    return total * images


def share_of_images_that_differ(a: object, b: object) -> float:
    """One draw on the border of two values, and all later pixels are others."""
    assert isinstance(a, Tensor) and isinstance(b, Tensor)
    return float((a != b).flatten(1).any(1).float().mean())


def sampling(
    found: Peers,
    make: Callable[[], AutoregressiveModel],
    images: int,
    goals: tuple[Goal, ...] = (),
    device: str = "cpu",
) -> Case:
    """On a card without our reference, whose launches are millions."""
    torch.manual_seed(0)
    model, plain = make().eval().to(device), in_plain_torch(make().eval().network).to(device)
    size, seeds = (model.image_size, model.image_size), torch.arange(images, device=device)
    head = partial(Categorical, levels=model.levels)
    program = program_of(model.network, size, model.channels, head, color_groups=model.channels)
    passes = program.size[0] * program.size[1] * program.groups
    image = torch.rand(images, program.channels, *program.size, device=device) * 2 - 1

    def forward(network: nn.Module) -> Work:
        return torch.inference_mode()(lambda: network(image))

    name = f"one of {passes} equal passes, times {passes}"
    naive: dict[str, Work] = {}
    if found.wants("torch eager"):
        naive = {f"torch eager: naive, {name}": forward(plain), f"lapcore naive: {name}": forward(model.network)}
    ours = by_backend(lambda: lapcore.sample_program(program, seeds), "sample_program", seeds)
    if device != "cpu":
        del ours["lapcore reference"]
    return Case(
        "sample_program",
        0,
        ours,
        naive,
        goals,
        difference=share_of_images_that_differ,
        tolerance=0.2,
        operations=operations(program, images),
        images=images,
        peaks=True,
        least_samples=3,
        repeats=dict.fromkeys(naive, passes),
    )


def draws(found: Peers, rows: int, levels: int) -> Case:
    logits, u = torch.randn(rows, levels), torch.rand(rows)
    ways: dict[str, Work] = {
        "torch eager: softmax, multinomial": lambda: torch.multinomial(logits.softmax(1), 1),
        "torch eager: softmax, cumsum, searchsorted": lambda: torch.searchsorted(
            logits.softmax(1).cumsum(1), u[:, None]
        ),
    }
    return Case(
        "categorical",
        4 * rows * (levels + 1) + 8 * rows,
        by_backend(lambda: lapcore.categorical(logits, u), "categorical", logits),
        found.only_wanted(ways),
        difference=lambda a, b: float((a != b).float().mean()),  # type: ignore[attr-defined]
        tolerance=0.01,
    )


def cases(found: Peers) -> dict[str, Build]:
    """Every case by name, built when it is measured."""
    binary = partial(PixelCNN, 28, 1, hidden=64, layers=7, head=128, levels=2)
    colour = partial(PixelCNN, 32, 3, hidden=60, layers=5, head=240)
    gated = partial(GatedPixelCNN, 28, 1, hidden=64, layers=7, levels=2)
    rate = of_matrix_rate("C9", 50)
    return {
        "categorical 65536 of 256": partial(draws, found, 65536, 256),
        "PixelCNN 28x28 binary, 16 images": partial(sampling, found, binary, 16, (times("C9", "torch eager", 300),)),
        "PixelCNN 28x28 binary, 64 images": partial(
            sampling, found, binary, 64, (times("C9", "torch eager", 500), rate)
        ),
        "PixelCNN 32x32 colour, 16 images": partial(sampling, found, colour, 16),
        "GatedPixelCNN 28x28 binary, 64 images": partial(sampling, found, gated, 64),
    }
