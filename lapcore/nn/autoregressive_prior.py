"""A prior of code vectors that is learned, one value after the other, for codes that are not N(0, I) taken over the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.nn.blocks import CODE_LOGVAR, full_precision, soft_clamp
from lapcore.nn.condition import Condition, LabelBias

MIXTURES = 5
"""Gaussians for each value of a code."""

INITIAL_LOGVAR = -1.0
"""The log-variances of these Gaussians start here, and their means are drawn from N(0, 1)."""


class AutoregressivePrior(nn.Module):
    """p(z) = prod_d sum_j w_j N(z_d; m_j, s_j^2), whose weights, means and variances come from z_1, ..., z_{d-1} and the labels.

    The network has `layers` hidden layers of `width` units, or as many as z has values, if that is more; they are residual from the
    second on. Masks hide from z_d's outputs all but z_1, ..., z_{d-1}. Without layers p is N(0, I).

    Source: MADE (Germain, Gregor, Murray and Larochelle, ICML 2015); mixtures for each value, RNADE (Uria, Murray and Larochelle,
    NIPS 2013).
    """

    def __init__(self, length: int, layers: int, width: int, condition: Condition) -> None:
        super().__init__()
        self.length, self.layers, self.width = length, layers, max(width, length)
        if layers == 0:
            return
        outputs = 3 * MIXTURES * length
        self.first = nn.Linear(length, self.width)
        self.label = LabelBias(condition, self.width)
        self.others = nn.ModuleList([nn.Linear(self.width, self.width) for _ in range(layers - 1)])
        self.out = nn.Linear(self.width, outputs)
        self.out_label = LabelBias(condition, outputs)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        for parameter in self.out_label.parameters():
            nn.init.zeros_(parameter)
        nn.init.normal_(self.out.weight, std=0.01)
        weights, means, logvars = self.out.bias.view(self.length, 3, MIXTURES).unbind(1)
        weights.zero_()
        means.normal_()
        logvars.fill_(INITIAL_LOGVAR)

    def log_prob(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """log p(z) in nats, (N,), of codes (N, length)."""
        if self.layers == 0:
            return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
        *hidden, last = self._live_weights()
        out = F.linear(self._hidden(z, labels, hidden), last, self.out.bias)
        weights, means, logvars = self._mixture(self.out_label(out, labels).view(len(z), self.length, -1))
        errors = (z[:, :, None] - means).square() * torch.exp(-logvars)
        each = F.log_softmax(weights, -1) - 0.5 * (errors + logvars + math.log(2 * math.pi))
        return torch.logsumexp(each, -1).sum(1)

    def draw(self, noise: Tensor, uniforms: Tensor, labels: Tensor | None, temperature: float = 1.0) -> Tensor:
        """Codes (N, length) of standard normal noise (N, length), and uniforms (N, length, MIXTURES) that choose the Gaussians.

        Of a value's Gaussians it takes that with the largest log w_j + temperature g_j, g_j = -log(-log u_j), which is a draw by
        the weights at 1 (Gumbel 1954), and of that m_j + temperature s_j e.
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
        *hidden, last = self._live_weights()
        bias = self.out_label(self.out.bias.expand(len(z), -1), labels).view(len(z), self.length, -1)
        rows = last.view(self.length, -1, self.width)
        for place in range(self.length):
            yield place, F.linear(self._hidden(z, labels, hidden), rows[place]) + bias[:, place]

    def _live_weights(self) -> list[Tensor]:
        """The weights of all layers, with zeros where an input has no place before the output: a unit of place d sees z_0, ..., z_d
        and is seen by the outputs of z_{d+1} and later."""
        device = self.out.weight.device
        places = torch.arange(self.length, device=device)
        units = torch.arange(self.width, device=device) % max(self.length - 1, 1)
        outputs = places.repeat_interleave(3 * MIXTURES)
        hidden = [layer.weight.where(units[:, None] >= units, 0) for layer in self._others()]
        first, last = units[:, None] >= places, outputs[:, None] > units
        return [self.first.weight.where(first, 0), *hidden, self.out.weight.where(last, 0)]

    def _others(self) -> Sequence[nn.Linear]:
        return cast(Sequence[nn.Linear], self.others)

    def _hidden(self, z: Tensor, labels: Tensor | None, weights: Sequence[Tensor]) -> Tensor:
        features = F.relu(self.label(F.linear(z, weights[0], self.first.bias), labels))
        for layer, weight in zip(self._others(), weights[1:], strict=True):
            features = features + F.relu(F.linear(features, weight, layer.bias))
        return features

    def _mixture(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of weights, means and log-variances, (..., MIXTURES) each, of outputs (..., 3 MIXTURES)."""
        weights, means, logvars = full_precision(out).chunk(3, -1)
        return weights, means, soft_clamp(logvars, *CODE_LOGVAR)
