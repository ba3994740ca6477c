"""A prior of code vectors that is learned, one value after the other, for codes that are not N(0, I) taken over the data."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.nn.blocks import CODE_LOGVAR, full_precision, soft_clamp
from lapcore.nn.condition import Condition, LabelBias

MIXTURES = 5
"""Gaussians for each value of a code."""

INITIAL_LOGVAR = -1.0
"""Where the log-variances of these Gaussians start, their means being drawn from N(0, 1)."""


class MaskedLinear(nn.Linear):
    """A linear map whose inputs and outputs have places: an output sees the inputs of its place and before."""

    input_places: Tensor
    output_places: Tensor

    def __init__(self, input_places: Tensor, output_places: Tensor) -> None:
        super().__init__(len(input_places), len(output_places))
        self.register_buffer("input_places", input_places.clone())
        self.register_buffer("output_places", output_places.clone())

    def live_weight(self) -> Tensor:
        return self.weight.where(self.output_places[:, None] >= self.input_places, 0)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.live_weight(), self.bias)


class AutoregressivePrior(nn.Module):
    """p(z) = prod_d sum_j w_j N(z_d; m_j, s_j^2), whose weights, means and variances come from z_1, ..., z_{d-1} and the labels.

    The network is of `layers` hidden layers of `width` units, residual from the second on, whose masks let output d see what goes
    before z_d alone. Without layers p is N(0, I).

    Source: MADE (Germain, Gregor, Murray and Larochelle, ICML 2015); mixtures for each value, RNADE (Uria, Murray and Larochelle,
    NIPS 2013).
    """

    def __init__(self, length: int, layers: int, width: int, condition: Condition) -> None:
        super().__init__()
        self.length, self.layers = length, layers
        if layers == 0:
            return
        places = torch.arange(length, dtype=torch.float32)
        # Between z_d and z_{d+1} stand the hidden units that see z_d, and that the outputs of z_{d+1} see.
        units = 0.5 + torch.arange(width, dtype=torch.float32) % max(length - 1, 1)
        outputs = places.repeat_interleave(3 * MIXTURES)
        self.first = MaskedLinear(places, units)
        self.label = LabelBias(condition, width)
        self.others = nn.ModuleList([MaskedLinear(units, units) for _ in range(layers - 1)])
        self.out = MaskedLinear(units, outputs)
        self.out_label = LabelBias(condition, len(outputs))
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        nn.init.normal_(self.out.weight, std=0.01)
        weights, means, logvars = self.out.bias.view(self.length, 3, MIXTURES).unbind(1)
        weights.zero_()
        means.normal_()
        logvars.fill_(INITIAL_LOGVAR)

    def log_prob(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """log p(z) in nats, (N,), of codes (N, length)."""
        if self.layers == 0:
            return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
        out = self.out_label(self.out(self._hidden(z, labels)), labels)
        weights, means, logvars = self._mixture(out.view(len(z), self.length, -1))
        errors = (z[:, :, None] - means).square() * torch.exp(-logvars)
        each = F.log_softmax(weights, -1) - 0.5 * (errors + logvars + math.log(2 * math.pi))
        return torch.logsumexp(each, -1).sum(1)

    def draw(self, noise: Tensor, uniforms: Tensor, labels: Tensor | None, temperature: float = 1.0) -> Tensor:
        """Codes (N, length) of standard normal noise (N, length), and uniforms (N, length, MIXTURES) that choose the Gaussians.

        Of Gaussian j it takes that with the largest log w_j + temperature g_j, g_j = -log(-log u_j), which at 1 is a draw by the
        weights (Gumbel 1954), and of it m_j + temperature s_j e.
        """
        if self.layers == 0:
            return temperature * noise
        gumbels = -torch.log(-torch.log(uniforms))
        z = torch.zeros_like(noise)
        for place, out in self._outputs(z, labels):
            weights, means, logvars = self._mixture(out)
            chosen = (weights + temperature * gumbels[:, place]).argmax(1, keepdim=True)
            mean, logvar = means.gather(1, chosen)[:, 0], logvars.gather(1, chosen)[:, 0]
            z[:, place] = mean + temperature * torch.exp(0.5 * logvar) * noise[:, place]
        return z

    def _outputs(self, z: Tensor, labels: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """Each place with its outputs (N, 3 MIXTURES), from what `z` holds before it by then."""
        bias = self.out_label(self.out.bias.expand(len(z), -1), labels).view(len(z), self.length, -1)
        weight = self.out.live_weight().view(self.length, -1, self.out.in_features)
        for place in range(self.length):
            yield place, F.linear(self._hidden(z, labels), weight[place]) + bias[:, place]

    def _hidden(self, z: Tensor, labels: Tensor | None) -> Tensor:
        features = F.relu(self.label(self.first(z), labels))
        for layer in self.others:
            features = features + F.relu(layer(features))
        return features

    def _mixture(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of weights, means and log-variances, (..., MIXTURES) each, of outputs (..., 3 MIXTURES)."""
        weights, means, logvars = full_precision(out).chunk(3, -1)
        return weights, means, soft_clamp(logvars, *CODE_LOGVAR)
