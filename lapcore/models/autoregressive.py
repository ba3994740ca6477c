"""What the autoregressive models share: exact likelihoods, and drawing one pixel after the other."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lapcore.models.base import ImageModel, check_tensor, inference, positive
from lapcore.nn.blocks import full_precision
from lapcore.nn.tracing import program_of
from lapcore.ops import random
from lapcore.ops.pixelcnn_sampler import Categorical, Head, categorical, level_indices, level_values, sample_program


class AutoregressiveModel(ImageModel):
    """p(x) = prod_t p(x_t | x_1, ..., x_{t-1}): pixels row by row and, inside a pixel, its channels in order.

    Values have `levels` levels: images in [-1, 1] are rounded to the nearest first, and likelihoods are probabilities of what
    comes out. A subclass has `network(images, *conditions)`, which gives at every pixel the parameters of its distribution from
    what goes before it alone; `class_vectors`, for each condition an embedding of the labels; and says in
    `_nll`, `_draw` and `_head` what the parameters mean.
    """

    network: nn.Module
    terms: ClassVar[dict[str, str]] = {
        "loss": "-log p(x), nats per value of an image: exact",
        "bpd": "the same in bits: bits per dimension",
    }

    def __init__(self, config: dict[str, Any], levels: int) -> None:
        super().__init__(config)
        if isinstance(levels, bool) or not isinstance(levels, int) or not 2 <= levels <= 65536:
            raise ValueError(f"levels: expected an integer from 2 to 65536, got {levels!r}")
        self.levels = levels
        self.class_vectors = nn.ModuleList()

    def _add_class_vectors(self, sizes: Sequence[int]) -> None:
        """One embedding of the labels for each of the network's conditions; none without classes."""
        if self.num_classes is None:
            return
        for size in sizes:
            vectors = nn.Embedding(self.num_classes, size)
            nn.init.normal_(vectors.weight, std=0.05)
            self.class_vectors.append(vectors)

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"all": (self.network, self.class_vectors)}

    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """-log p(images | labels) for one value of an image: "loss" in nats, "bpd" in bits. Nothing is drawn from seeds."""
        self._check_labelled(images, labels)
        self._stage(stage)
        loss = self._nll_of(images, labels).mean() / images[0].numel()
        return {"loss": loss, "bpd": loss.detach() / math.log(2)}

    @inference
    def log_likelihood(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(images | labels) in nats, (N,): exact, of images rounded to the model's levels.

        Bits per dimension are -log_likelihood / (ln 2 C H W). images: (N, C, H, W) in [-1, 1]. In evaluation mode, without
        gradient; `loss` has one.
        """
        self._check_labelled(images, labels)
        return -self._nll_of(images, labels)

    def _nll_of(self, images: Tensor, labels: Tensor | None) -> Tensor:
        indices = level_indices(images, self.levels)
        values = self._values(indices)
        return self._nll(full_precision(self.network(values, *self._conditions(labels))), values, indices)

    def _values(self, indices: Tensor) -> Tensor:
        """Levels, int64 of any shape, as values in [-1, 1]."""
        return level_values(self.levels, indices.device)[indices].to(self.dtype)

    def _conditions(self, labels: Tensor | None) -> list[Tensor]:
        return [vectors(labels) for vectors in self.class_vectors]

    @inference
    def sample(
        self,
        seeds: Tensor,
        labels: Tensor | None = None,
        *,
        given: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Draws images (N, C, H, W), float32 in [-1, 1]; image i depends on (weights, seeds[i], labels[i], given[i]) only.

        The network runs once in total, not once for each pixel: `lapcore.ops.pixelcnn_sampler` keeps of every layer the rows
        that others still read. On the cpu backend, and on cuda in float32, the images are those of `naive_sample` to the bit,
        however the batch is split.

        seeds: int64 (N,). labels: int64 (N,), for a model with classes. given, known: images (N, C, H, W) in [-1, 1] and bool
        (N, 1, H, W) or (N, C, H, W); what is known stays as given, rounded to the model's levels, and the rest is drawn from what
        goes before it, the known included (completion). Errors: TypeError, ValueError naming the argument.
        """
        given, known = self._check_request(seeds, labels, given, known)
        conditions = [condition.float() for condition in self._conditions(labels)]
        program = program_of(
            self.network,
            (self.image_size, self.image_size),
            self.channels,
            self._head,
            color_groups=len(self._turns()),
            conditions=[condition.shape[1:] for condition in conditions],
        )
        given = None if given is None else given.float()
        return sample_program(program, seeds, conditions, given=given, known=known)

    @inference
    def naive_sample(
        self,
        seeds: Tensor,
        labels: Tensor | None = None,
        *,
        given: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """`sample` by its definition: the whole network for every pixel and every channel that is drawn by itself. For tests."""
        given, known = self._check_request(seeds, labels, given, known)
        shape = (len(seeds), self.channels, self.image_size, self.image_size)
        if given is None or known is None:
            given = torch.zeros(shape, dtype=self.dtype, device=self.device)
            known = torch.zeros(shape, dtype=torch.bool, device=self.device)
        known = known.expand(shape)
        images, conditions = given.where(known, 0), self._conditions(labels)
        for i, j, turn in product(range(self.image_size), range(self.image_size), self._turns()):
            at = (slice(None), turn, i, j)
            if not known[at].all():
                drawn = self._draw(self.network(images, *conditions), seeds, *at[1:])
                images[at] = images[at].where(known[at], drawn)
        return images

    @abstractmethod
    def _nll(self, out: Tensor, values: Tensor, indices: Tensor) -> Tensor:
        """-log p in nats, (N,), of images given both ways, from the network's output."""

    @abstractmethod
    def _turns(self) -> Sequence[slice]:
        """The channels of a pixel that are drawn together, turn by turn."""

    @abstractmethod
    def _draw(self, out: Tensor, seeds: Tensor, turn: slice, i: int, j: int) -> Tensor:
        """Values (N, channels of the turn) of pixel (i, j), from the network's output."""

    @abstractmethod
    def _head(self, source: int) -> Head:
        """The distribution for `lapcore.ops.pixelcnn_sampler`, whose buffer `source` is the network's output."""

    def _check_labelled(self, images: Tensor, labels: Tensor | None) -> None:
        self._check_images("images", images)
        self._check_labels(labels, len(images))

    def _check_request(
        self, seeds: Tensor, labels: Tensor | None, given: Tensor | None, known: Tensor | None
    ) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Checked, and given on the levels."""
        self._check_seeds(seeds)
        self._check_labels(labels, len(seeds))
        if given is None and known is None:
            return None, None
        if given is None or known is None:
            raise ValueError("given, known: expected both or neither, got one")
        self._check_images("given", given)
        if len(given) != len(seeds):
            raise ValueError(f"given: expected {len(seeds)} images, one per seed, got {len(given)}")
        check_tensor("known", known, torch.bool, self.device)
        shapes = [(len(seeds), channels, *given.shape[2:]) for channels in self._known_channels()]
        if tuple(known.shape) not in shapes:
            raise ValueError(f"known: expected shape {' or '.join(map(str, shapes))}, got {tuple(known.shape)}")
        return self._values(level_indices(given, self.levels)), known

    def _known_channels(self) -> Sequence[int]:
        """How many channels `known` may have; 1 is for all of a pixel's."""
        return sorted({1, self.channels})


class CategoricalModel(AutoregressiveModel):
    """One softmax for each channel of a pixel, over all levels: the network's output is (N, channels * levels, H, W).

    A subclass builds its network in `_network_of` and says in its docstring what the settings mean to it.
    """

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        *,
        hidden: int = 128,
        layers: int = 15,
        num_classes: int | None = None,
        levels: int = 256,
        head: int | None = None,
        embedding: int | None = None,
    ) -> None:
        settings = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__(settings, levels)
        head = (32 if channels == 1 else 1024) if head is None else head
        positive(hidden=hidden, layers=layers, head=head, embedding=1 if embedding is None else embedding)
        at_least("hidden", hidden, channels)
        at_least("head", head, channels)
        self.network, conditions = self._network_of(hidden, layers, head, embedding)
        self._add_class_vectors(conditions)

    @abstractmethod
    def _network_of(self, hidden: int, layers: int, head: int, embedding: int | None) -> tuple[nn.Module, list[int]]:
        """The network, and the lengths of the vectors that it takes with classes."""

    def _nll(self, out: Tensor, values: Tensor, indices: Tensor) -> Tensor:
        logits = self._logits(out).flatten(0, 1)
        nll = F.cross_entropy(logits, indices.flatten(0, 1), reduction="none")
        return nll.view(len(out), -1).sum(1, dtype=torch.float64).to(out.dtype)

    def _logits(self, out: Tensor) -> Tensor:
        """(N, channels, levels, H, W)"""
        return out.view(len(out), self.channels, self.levels, *out.shape[2:])

    def _turns(self) -> Sequence[slice]:
        return [slice(c, c + 1) for c in range(self.channels)]

    def _draw(self, out: Tensor, seeds: Tensor, turn: slice, i: int, j: int) -> Tensor:
        logits = self._logits(out)[:, turn.start, :, i, j]
        noise = random.uniform((len(out), self.channels, *out.shape[2:]), seeds, device=out.device)
        return self._values(categorical(logits.float(), noise[:, turn.start, i, j]))[:, None]

    def _head(self, source: int) -> Head:
        return Categorical(source, self.levels)


def at_least(name: str, value: int, channels: int) -> None:
    """Every colour needs a map of its own."""
    if value < channels:
        raise ValueError(f"{name}: expected at least {channels}, one map for each channel, got {value}")
