"""The network of the Gated PixelCNN: of the model, and of decoders' likelihoods (`PixelLikelihood`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lapcore.nn.masked import Embed, GatedMaskedConv2d, pointwise


class GatedNetwork(nn.Module):
    """Image (N, C, H, W) -> parameters (N, outputs, H, W) of each pixel's distribution, from what goes before it alone.

    hidden: maps of each stack after the gate. head: maps of the 1x1 convolution before the parameters. color_groups: in how many
    turns a pixel's channels are drawn. embed: turns values into vectors first. conditioned: two conditions for each layer, of its
    vertical and of its horizontal gate, (N, 2 hidden) or (N, 2 hidden, H, W), come after the image.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        layers: int,
        head: int,
        outputs: int,
        *,
        color_groups: int,
        embed: Embed | None = None,
        conditioned: bool = False,
    ) -> None:
        super().__init__()
        self.conditioned = conditioned
        self.embed = embed
        inputs = channels if embed is None else channels * embed.dim
        first = GatedMaskedConv2d(inputs, hidden, 7, first=True, color_groups=color_groups)
        others = [GatedMaskedConv2d(hidden, hidden, 3, color_groups=color_groups) for _ in range(layers - 1)]
        self.layers = nn.ModuleList([first, *others])
        self.head = pointwise(hidden, head, color_groups)
        self.logits = pointwise(head, outputs, color_groups)

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        v = h = image if self.embed is None else self.embed(image)
        skips = []
        for k, layer in enumerate(self.layers):
            of_layer = (conditions[2 * k], conditions[2 * k + 1]) if self.conditioned else ()
            v, h, skip = layer(v, h, *of_layer)
            skips.append(skip)
        total = sum(skips, start=h)
        parameters: Tensor = self.logits(torch.relu(self.head(torch.relu(total))))
        return parameters
