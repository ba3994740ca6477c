"""A model may be told the class of an image, or a vector of its attributes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F


class Condition(NamedTuple):
    """The labels that a network takes: int64 (N,) below `num_classes`, or float (N, `attributes`), or none."""

    num_classes: int | None = None
    attributes: int = 0

    @property
    def length(self) -> int:
        """Counts the values of a row of `vector`."""
        return self.num_classes or self.attributes

    def vector(self, labels: Tensor) -> Tensor:
        """(N, length) of labels: a 1 in the place of the class, or the attributes themselves."""
        return labels if self.num_classes is None else F.one_hot(labels, self.num_classes).float()


class LabelBias(nn.Module):
    """Adds to the channels of (N, C, ...) a learned vector per class, or a linear map of the attributes, or nothing."""

    def __init__(self, condition: Condition, channels: int) -> None:
        super().__init__()
        classes, attributes = condition
        self.embedding = None if classes is None else nn.Embedding(classes, channels)
        self.linear = nn.Linear(attributes, channels, bias=False) if attributes else None

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        layer = self.embedding if self.linear is None else self.linear
        if layer is None:
            return x
        bias: Tensor = layer(labels)
        return x + bias.reshape(*bias.shape, *[1] * (x.dim() - 2))
