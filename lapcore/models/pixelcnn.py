"""PixelCNN: masked convolutions in residual blocks (van den Oord, Kalchbrenner & Kavukcuoglu, ICML 2016)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from lapcore.models.autoregressive import CategoricalModel
from lapcore.nn.masked import Embed, MaskedConv2d, pointwise


class PixelCNN(CategoricalModel):
    """p(x) as a product of softmaxes over the levels of one value after the other, red before green before blue.

    A 7x7 convolution of mask A, then residual blocks [ReLU, 1x1 2h -> h, ReLU, 3x3 h -> h, ReLU, 1x1 h -> 2h] of mask B, two
    [ReLU, 1x1], and ReLU, 1x1 to the logits. Channels are split among the colours in contiguous parts (`lapcore.nn.mask_of`).
    Masks of this kind leave a blind spot, above and to the right of a pixel, which no layer sees; GatedPixelCNN has none.
    The paper's nets: CIFAR-10 hidden 128, 15 layers, 3.14 bits/dim; MNIST of two levels.

    Ours: labels, as a vector added in each block's 3x3 convolution (the paper has no classes); code maps, by an embedding.

    Args:
        image_size, channels: of the images, square; any size, any number of channels.
        hidden: h, maps of the 3x3 convolutions; the stream between blocks has 2h.
        layers: residual blocks.
        num_classes: of the labels, None for a model without.
        levels: of a value, 2 to 65536: 256 for 8-bit images, 2 for binary ones, K for maps of a codebook's K codes.
        head: maps of the two 1x1 convolutions before the logits; None takes 1024 for colour and 32 for one channel.
        embedding: None feeds the network values 2 k / (levels - 1) - 1; d feeds it a learned vector of length d for each
            level k, which is what codes without an order need.

    Raises ValueError for settings out of range.
    """

    name = "pixelcnn"

    def _network_of(self, hidden: int, layers: int, head: int, embedding: int | None) -> tuple[nn.Module, list[int]]:
        labelled = self.num_classes is not None
        network = Network(self.channels, hidden, layers, self.levels, head, embedding, labelled)
        return network, [hidden] * layers


class Network(nn.Module):
    """Image (N, C, H, W) -> logits (N, C * levels, H, W); with classes, one vector (N, hidden) for each block."""

    def __init__(
        self, channels: int, hidden: int, layers: int, levels: int, head: int, embedding: int | None, labelled: bool
    ) -> None:
        super().__init__()
        self.labelled = labelled
        self.embed = None if embedding is None else Embed(channels, levels, embedding)
        self.first = MaskedConv2d(channels * (embedding or 1), 2 * hidden, 7, mask="A", color_groups=channels)
        self.blocks = nn.ModuleList([Block(hidden, channels) for _ in range(layers)])
        sizes = [2 * hidden, head, head, channels * levels]
        self.head = nn.ModuleList([pointwise(a, b, channels) for a, b in pairwise(sizes)])

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        x: Tensor = self.first(image if self.embed is None else self.embed(image))
        for k, block in enumerate(self.blocks):
            x = block(x, conditions[k] if self.labelled else None)
        for layer in self.head:
            x = layer(torch.relu(x))
        return x


class Block(nn.Module):
    """ReLU, 1x1 2h -> h, ReLU, 3x3 h -> h, ReLU, 1x1 h -> 2h, beside the identity."""

    def __init__(self, hidden: int, color_groups: int) -> None:
        super().__init__()
        self.reduce = pointwise(2 * hidden, hidden, color_groups)
        self.middle = MaskedConv2d(hidden, hidden, 3, mask="B", color_groups=color_groups)
        self.expand = pointwise(hidden, 2 * hidden, color_groups)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        y: Tensor = self.middle(torch.relu(self.reduce(torch.relu(x))), condition)
        y = self.expand(torch.relu(y))
        return x + y
