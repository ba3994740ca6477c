"""Gated PixelCNN: a vertical and a horizontal stack without a blind spot (van den Oord et al., NIPS 2016)."""

from __future__ import annotations

from torch import nn

from lapcore.models.autoregressive import CategoricalModel
from lapcore.nn.gated_pixelcnn import GatedNetwork
from lapcore.nn.masked import Embed


class GatedPixelCNN(CategoricalModel):
    """p(x) as a product of softmaxes over the levels of one value after the other, red before green before blue.

    Each layer is a `lapcore.nn.GatedMaskedConv2d`: a vertical stack v, of the rows above, feeds a horizontal one h, of the
    pixel's own row; both have gates tanh(..) * sigmoid(..), to whose two arguments the class adds a vector. The skips of all
    layers are summed into the head: ReLU, 1x1, ReLU, 1x1 to the logits. The rows above enter strictly in the first layer, a
    7x7 convolution of mask "above", so that nothing is shifted later: equal to the paper's shift but for the top border. With
    enough layers every pixel that goes before is seen. The vertical stack sees whole pixels, the colours are the horizontal
    one's. CIFAR-10: 3.03 bits/dim.

    Ours: skips as wide as the stacks, and the last h in their sum, without which its weights would have no use; code maps, by
    an embedding.

    Args:
        image_size, channels: of the images, square; any size, any number of channels.
        hidden: p, maps of each stack after the gate.
        layers: gated layers, the first one of 7x7 included.
        num_classes: of the labels, which are added before both gates of every layer; None for a model without.
        levels: of a value, 2 to 65536: 256 for 8-bit images, 2 for binary ones, K for maps of a codebook's K codes.
        head: maps of the 1x1 convolution before the logits; None takes 1024 for colour and 32 for one channel.
        embedding: None feeds the network values 2 k / (levels - 1) - 1; d feeds it a learned vector of length d for each
            level k, which is what codes without an order need.

    Raises ValueError for settings out of range.
    """

    name = "gated_pixelcnn"

    def _network_of(self, hidden: int, layers: int, head: int, embedding: int | None) -> tuple[nn.Module, list[int]]:
        network = GatedNetwork(
            self.channels,
            hidden,
            layers,
            head,
            self.channels * self.levels,
            color_groups=self.channels,
            embed=None if embedding is None else Embed(self.channels, self.levels, embedding),
            conditioned=self.num_classes is not None,
        )
        return network, [2 * hidden] * (2 * layers)
