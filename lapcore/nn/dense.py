"""Fully connected generators and critics of images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lapcore.nn.adversarial import CriticHead, Verdict
from lapcore.nn.condition import Condition

DEVIATION = 0.5
"""Pixels of photographs in [-1, 1] deviate by about this, which is the networks' unit.

Published GANs without norms standardise their images. At the published starting weights and learning rates, networks whose unit
is the range in place of the deviation learn several times more slowly; a constant serves as well as statistics of the data.
"""

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class Maxout(nn.Module):
    """The largest of `pieces` linear maps for each unit, (N, inputs) -> (N, units). Source: Goodfellow et al., Maxout, 2013."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units * pieces)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.linear(x).unflatten(1, (-1, self.pieces))
        return maps.amax(2)


class DenseGenerator(nn.Module):
    """z (N, latent) and labels -> images (N, *shape): linear layers with `activations`, and a last one, in units of `DEVIATION`.

    squash: end in tanh in place of the unit.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent: int,
        hidden: Sequence[int],
        activations: Sequence[str],
        condition: Condition,
        *,
        squash: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.condition, self.squash = tuple(shape), condition, squash
        layers: list[nn.Module] = []
        for (inputs, units), activation in zip(
            pairwise([latent + condition.length, *hidden]), activations, strict=True
        ):
            layers += [nn.Linear(inputs, units), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], math.prod(self.shape)))

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        images: Tensor = self.layers(with_labels(z, self.condition, labels)).unflatten(1, self.shape)
        return torch.tanh(images) if self.squash else DEVIATION * images


class DenseCritic(nn.Module):
    """Images (N, *shape) and labels -> `Verdict`: linear layers with ReLU, or maxout of several `pieces`, and dropout after each.

    Images are taken in units of `DEVIATION`. dropout: of hidden units; input_dropout: of pixels and labels. classes: of
    AC-GAN's head.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        condition: Condition,
        classes: int | None = None,
        *,
        pieces: int = 1,
        dropout: float = 0.5,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.condition = condition
        layers: list[nn.Module] = [nn.Dropout(input_dropout)]
        for inputs, units in pairwise([math.prod(shape) + condition.length, *hidden]):
            layers += [nn.Linear(inputs, units), nn.ReLU()] if pieces == 1 else [Maxout(inputs, units, pieces)]
            layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)
        self.head = CriticHead(hidden[-1], classes)

    def forward(self, images: Tensor, labels: Tensor | None) -> Verdict:
        values = with_labels(images.flatten(1) / DEVIATION, self.condition, labels)
        verdict: Verdict = self.head(self.layers(values))
        return verdict


def with_labels(x: Tensor, condition: Condition, labels: Tensor | None) -> Tensor:
    """(N, F) -> (N, F + condition.length): the labels' vectors behind x. Source: Mirza and Osindero, Conditional GANs, 2014."""
    if labels is None or not condition.length:
        return x
    return torch.cat([x, condition.vector(labels).to(x.dtype)], 1)


def start_dense(module: nn.Module, distribution: str, scale: float) -> None:
    """Draws the weights of all linear layers from "normal", N(0, scale^2), or "uniform", U(-scale, scale); biases are 0."""
    for layer in linear_layers(module):
        if distribution == "normal":
            nn.init.normal_(layer.weight, std=scale)
        else:
            nn.init.uniform_(layer.weight, -scale, scale)
        nn.init.zeros_(layer.bias)


def linear_layers(module: nn.Module) -> Iterable[nn.Linear]:
    return (layer for layer in module.modules() if isinstance(layer, nn.Linear))
