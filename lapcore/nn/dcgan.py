"""DCGAN's generator and critic (Radford et al. 2016), for images of any size."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from lapcore.nn.adversarial import CriticHead, Verdict
from lapcore.nn.batch_norm import BatchNorm2d
from lapcore.nn.blocks import Size, Up, halvings
from lapcore.nn.condition import Condition
from lapcore.nn.dense import with_labels

SMALLEST = 6
"""A generator starts from, and a critic ends with, a map of at most this side: 64 pixels halve to 4, as in the paper, 48 to 6."""

WIDEST = 8
"""Maps have at most so many times `width` channels: the paper's 1024 at 4x4 for 128 at 32x32."""

NORMS = ("batch", "spectral", "none")


def sizes_of(size: Size) -> list[Size]:
    """`size` and its halvings, at least one, until both sides are at most `SMALLEST`."""
    times = 1
    while max(halvings(size, times)[-1]) > SMALLEST:
        times += 1
    return halvings(size, times)


def widths_of(width: int, count: int) -> list[int]:
    """`width`, doubled at each halving up to `WIDEST` times."""
    return [width * min(2**i, WIDEST) for i in range(count)]


class LabelPlane(nn.Module):
    """Labels -> a plane (N, 1, H, W): a linear map of the one-hot class, or of the attributes, and ReLU.

    Source: Denton et al., LAPGAN, 2015, section 2.3.
    """

    def __init__(self, condition: Condition, size: Size) -> None:
        super().__init__()
        self.condition, self.size = condition, size
        self.linear = nn.Linear(condition.length, size[0] * size[1])

    def forward(self, labels: Tensor) -> Tensor:
        vector = self.condition.vector(labels).to(self.linear.weight.dtype)
        plane: Tensor = F.relu(self.linear(vector))
        return plane.reshape(-1, 1, *self.size)


class Planes(nn.Module):
    """Joins maps (N, C_i, H, W), and with labels their plane, to one; `extra`: the planes it adds."""

    def __init__(self, condition: Condition, size: Size) -> None:
        super().__init__()
        self.plane = LabelPlane(condition, size) if condition.length else None
        self.extra = 0 if self.plane is None else 1

    def forward(self, labels: Tensor | None, *maps: Tensor) -> Tensor:
        return torch.cat([*maps, *([] if self.plane is None else [self.plane(labels)])], 1)


class DCGANGenerator(nn.Module):
    """z (N, latent) and labels -> images in (-1, 1): linear to a small map, 5x5 transposed convolutions of stride 2, tanh.

    Batch norm and ReLU after every layer but the last. Labels stand beside z.
    """

    def __init__(self, channels: int, size: Size, width: int, latent: int, condition: Condition) -> None:
        super().__init__()
        self.condition, self.size = condition, size
        _, *inner = sizes_of(size)
        widths = widths_of(width, len(inner))
        self.start_shape = (widths[-1], *inner[-1])
        self.start = nn.Linear(latent + condition.length, widths[-1] * inner[-1][0] * inner[-1][1], bias=False)
        self.norm = BatchNorm2d(widths[-1])
        steps = zip(pairwise(reversed(widths)), reversed(inner[:-1]), strict=True)
        self.ups = nn.Sequential(*[Up(a, b, s) for (a, b), s in steps])
        self.last = nn.ConvTranspose2d(width, channels, 5, stride=2, padding=2)
        start_dcgan(self)

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        features = self.start(with_labels(z, self.condition, labels)).unflatten(1, self.start_shape)
        features = self.ups(F.relu(self.norm(features)))
        return torch.tanh(self.last(features, output_size=list(self.size)))


class DCGANCritic(nn.Module):
    """Images and labels -> `Verdict`: 5x5 convolutions of stride 2 with leaky ReLU of slope 0.2, linear.

    Labels come as one more plane. norm: "batch" - batch norm after every convolution but the first; "spectral" - every weight
    divided by its largest singular value (Miyato et al. 2018); "none". classes: of AC-GAN's head.
    """

    def __init__(
        self, channels: int, size: Size, width: int, norm: str, condition: Condition, classes: int | None = None
    ) -> None:
        super().__init__()
        _, *inner = sizes_of(size)
        widths = widths_of(width, len(inner))
        self.planes = Planes(condition, size)
        layers: list[nn.Module] = []
        for a, b in pairwise([channels + self.planes.extra, *widths]):
            batch = norm == "batch" and bool(layers)
            layers.append(nn.Conv2d(a, b, 5, stride=2, padding=2, bias=not batch))
            layers += [BatchNorm2d(b)] if batch else []
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers)
        self.head = CriticHead(widths[-1] * inner[-1][0] * inner[-1][1], classes)
        start_dcgan(self)
        if norm == "spectral":
            for module in [*self.layers, *self.head.children()]:
                if hasattr(module, "weight"):
                    spectral_norm(module)

    def forward(self, images: Tensor, labels: Tensor | None) -> Verdict:
        verdict: Verdict = self.head(self.layers(self.planes(labels, images)).flatten(1))
        return verdict


def start_dcgan(network: nn.Module) -> None:
    """Weights from N(0, 0.02^2), batch norm's scales from N(1, 0.02^2), biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | BatchNorm2d):
            nn.init.normal_(module.weight, float(isinstance(module, BatchNorm2d)), 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
