"""PixelCNN++: two streams at three scales, and a mixture of logistics for every pixel (Salimans et al., ICLR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lapcore.models.autoregressive import AutoregressiveModel
from lapcore.models.base import positive
from lapcore.nn.masked import ConcatELU, GatedActivation, MaskedConv2d, Ones
from lapcore.ops.likelihood import discretized_logistic_mixture_nll, sample_discretized_logistic_mixture
from lapcore.ops.pixelcnn_sampler import Head, Mixture

LEVELS = 256


class PixelCNNPlusPlus(AutoregressiveModel):
    """p(x) as a mixture of discretised logistics for every pixel, green's means moved by red, and blue's by both.

    Two streams: u sees the rows above, ul also what stands to the left in a pixel's own row, and takes u in at every layer.
    `resnets` gated resnets at full, at half and at quarter size, then back up with one more at each of the two larger sizes, every
    one of them with a shortcut from its mirror image on the way down. Concat-ELU, dropout, weight norm, and a channel of
    ones beside the image, which tells its inside from the zeros around it. A pixel's channels are drawn together, so that no
    convolution knows colours. Written as masked convolutions, where the authors shift and pad:

        u:  4x3 "above" first, then 2x3 "rows";    ul: 2x3 "A" first, then 2x2 "B", all four of whose taps are live

    Ours: the way up in scale is a masked convolution, 1x3 "rows" in u and 1x1 in ul, to four times the maps and a pixel shuffle,
    where the authors have transposed convolutions; concat-ELU before the output too; gains start at 1, and at 0.1 in each
    resnet's second convolution and the output, in place of statistics of a first batch.

    The authors train with Adam, betas 0.95 and 0.9995, learning rate 1e-3 * 0.999995^step, and average the weights with
    decay 0.9995: `lapcore train pixelcnn_pp --betas "[0.95,0.9995]" --lr 1e-3 --ema 0.9995`. CIFAR-10: 2.92 bits/dim.

    Args:
        image_size, channels: of 8-bit images, square; a multiple of 4, and 3 or 1.
        hidden: maps of both streams.
        mixtures: logistics for each pixel.
        num_classes: of the labels, which are added in each resnet's second convolution; None for a model without.
        dropout: of the resnets' hidden maps, in training.
        resnets: at each scale.

    Raises ValueError for settings out of range.
    """

    name = "pixelcnn_pp"

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        *,
        hidden: int = 160,
        mixtures: int = 10,
        num_classes: int | None = None,
        dropout: float = 0.5,
        resnets: int = 5,
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")}, LEVELS)
        positive(hidden=hidden, mixtures=mixtures, resnets=resnets)
        if image_size % 4:
            raise ValueError(f"image_size: expected a multiple of 4, as it is halved twice, got {image_size}")
        if channels not in (1, 3):
            raise ValueError(f"channels: expected 3 or 1, got {channels!r}")
        if isinstance(dropout, bool) or not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a number from 0 to below 1, got {dropout!r}")
        self.mixtures = mixtures
        outputs = mixtures * (10 if channels == 3 else 3)
        self.network = Network(channels, hidden, outputs, resnets, dropout, num_classes is not None)
        self._add_class_vectors([2 * hidden] * self.network.resnets)

    def _nll(self, out: Tensor, values: Tensor, indices: Tensor) -> Tensor:
        return discretized_logistic_mixture_nll(out, values)

    def _turns(self) -> Sequence[slice]:
        return [slice(0, self.channels)]

    def _draw(self, out: Tensor, seeds: Tensor, turn: slice, i: int, j: int) -> Tensor:
        drawn = sample_discretized_logistic_mixture(out.float(), seeds, channels=self.channels)
        return drawn[..., i, j].to(self.dtype)

    def _head(self, source: int) -> Head:
        return Mixture(source)

    def _known_channels(self) -> Sequence[int]:
        return (1,)


class NormalizedConv2d(MaskedConv2d):
    """A masked convolution with weight norm, w = g v / |v|: the norm of each output's live taps."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        *,
        mask: str,
        gain: float = 1.0,
        stride: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, mask=mask, stride=stride)
        nn.init.normal_(self.weight, std=0.05)
        self.gain = nn.Parameter(torch.full((out_channels,), gain))

    def effective_weight(self) -> Tensor:
        live = torch.where(self.live(), self.weight, 0)
        # In float64, whose sums round to the same float32 however many threads share them.
        norm = torch.linalg.vector_norm(live, dim=(1, 2, 3), keepdim=True, dtype=torch.float64).to(live.dtype)
        scaled: Tensor = live * (self.gain[:, None, None, None] / norm)
        return scaled


class GatedResnet(nn.Module):
    """x + a * sigmoid(b), (a, b) = conv(dropout(f(conv(f(x)) + pointwise(f(aside))))) + condition, f the concat-ELU."""

    def __init__(self, kernel_size: tuple[int, int], mask: str, hidden: int, aside: int, dropout: float) -> None:
        super().__init__()
        self.first = NormalizedConv2d(2 * hidden, hidden, kernel_size, mask=mask)
        self.aside = pointwise(2 * aside, hidden) if aside else None
        self.second = NormalizedConv2d(2 * hidden, 2 * hidden, kernel_size, mask=mask, gain=0.1)
        self.dropout = nn.Dropout(dropout)
        self.elu, self.gate = ConcatELU(), GatedActivation(first="identity")

    def forward(self, x: Tensor, aside: Tensor | None, condition: Tensor | None) -> Tensor:
        y: Tensor = self.first(self.elu(x))
        if self.aside is not None:
            y = y + self.aside(self.elu(aside))
        y = self.elu(y)
        y = self.dropout(y) if self.training else y
        y = self.gate(self.second(y, condition))
        return x + y


class Pair(nn.Module):
    """A resnet of u, and one of ul that takes it in; `shortcut`: both take in what stands on the way down too."""

    def __init__(self, hidden: int, dropout: float, *, shortcut: bool) -> None:
        super().__init__()
        self.u = GatedResnet((2, 3), "rows", hidden, hidden if shortcut else 0, dropout)
        self.ul = GatedResnet((2, 2), "B", hidden, 2 * hidden if shortcut else hidden, dropout)

    def forward(
        self, u: Tensor, ul: Tensor, aside: tuple[Tensor, Tensor] | None, conditions: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        u = self.u(u, None if aside is None else aside[0], conditions[0])
        return u, self.ul(ul, u if aside is None else torch.cat([u, aside[1]], 1), conditions[1])


class Network(nn.Module):
    """Image (N, C, H, W) -> parameters (N, outputs, H, W); with classes, one vector (N, 2 hidden) for each resnet."""

    def __init__(self, channels: int, hidden: int, outputs: int, resnets: int, dropout: float, labelled: bool) -> None:
        super().__init__()
        self.labelled = labelled
        self.ones = Ones()
        self.first_u = NormalizedConv2d(channels + 1, hidden, (4, 3), mask="above")
        self.first_ul = NormalizedConv2d(channels + 1, hidden, (2, 3), mask="A")
        self.down = nn.ModuleList([pairs(resnets, hidden, dropout, shortcut=False) for _ in range(3)])
        self.halvings = nn.ModuleList([Halve(hidden) for _ in range(2)])
        counts = (resnets, resnets + 1, resnets + 1)
        self.up = nn.ModuleList([pairs(count, hidden, dropout, shortcut=True) for count in counts])
        self.doublings = nn.ModuleList([Double(hidden) for _ in range(2)])
        self.elu = ConcatELU()
        self.last = NormalizedConv2d(2 * hidden, outputs, (1, 1), mask="B", gain=0.1)
        self.resnets = 2 * (3 * resnets + sum(counts))

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        padded = self.ones(image)
        u, ul = self.first_u(padded), self.first_ul(padded)
        shortcuts = [(u, ul)]
        used = 0
        for scale, stack in enumerate(self.down):
            if scale:
                u, ul = self.halvings[scale - 1](u, ul)
                shortcuts.append((u, ul))
            for pair in cast(nn.ModuleList, stack):
                u, ul = pair(u, ul, None, self._two(conditions, used))
                shortcuts.append((u, ul))
                used += 2
        u, ul = shortcuts.pop()
        for scale, stack in enumerate(self.up):
            if scale:
                u, ul = self.doublings[scale - 1](u, ul)
            for pair in cast(nn.ModuleList, stack):
                u, ul = pair(u, ul, shortcuts.pop(), self._two(conditions, used))
                used += 2
        params: Tensor = self.last(self.elu(ul))
        return params

    def _two(self, conditions: Sequence[Tensor], used: int) -> Sequence[Tensor | None]:
        return (conditions[used], conditions[used + 1]) if self.labelled else (None, None)


class Halve(nn.Module):
    """Both streams to half size."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.u = NormalizedConv2d(hidden, hidden, (2, 3), mask="rows", stride=2)
        self.ul = NormalizedConv2d(hidden, hidden, (2, 2), mask="B", stride=2)

    def forward(self, u: Tensor, ul: Tensor) -> tuple[Tensor, Tensor]:
        return self.u(u), self.ul(ul)


class Double(nn.Module):
    """Both streams to double size. What a place (I, J) knows stands before all four of its pixels (2I, 2J), ..."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.u = NormalizedConv2d(hidden, 4 * hidden, (1, 3), mask="rows")
        self.ul = pointwise(hidden, 4 * hidden)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, u: Tensor, ul: Tensor) -> tuple[Tensor, Tensor]:
        return self.shuffle(self.u(u)), self.shuffle(self.ul(ul))


def pairs(count: int, hidden: int, dropout: float, *, shortcut: bool) -> nn.ModuleList:
    return nn.ModuleList([Pair(hidden, dropout, shortcut=shortcut) for _ in range(count)])


def pointwise(in_channels: int, out_channels: int) -> NormalizedConv2d:
    return NormalizedConv2d(in_channels, out_channels, (1, 1), mask="B")
