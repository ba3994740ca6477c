"""From seeds to images, in fixed blocks.

A network's rounding may depend on the batch shape and on an image's place in the batch. So the network always runs on
`batch` images at once, and seed s always stands at place s mod batch of block s // batch: a block whose seeds are not
all asked for is computed whole and the rest is dropped. What an image is then depends on the weights, its seed, its
label, `batch`, the options of `sample` and the kind of device, on CPUs also on their instruction set.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any, Protocol

import torch
from torch import Tensor

from lapcore.data.images import to_uint8
from lapcore.errors import LapcoreError

LARGEST_SEED = 2**63 - 1

Labels = Sequence[int] | Sequence[Sequence[float]] | Tensor
"""Classes, or vectors of a model's attributes. Seed s takes the (s mod n)-th of n."""


class Sampler(Protocol):
    """The loop asks this of a model; every `lapcore.models.ImageModel` that has `sample` will do."""

    config: dict[str, Any]
    num_classes: int | None
    attributes: tuple[str, ...]

    @property
    def device(self) -> torch.device: ...

    def state_dict(self) -> dict[str, Any]: ...

    def sample(self, seeds: Tensor, labels: Tensor | None = None, **options: Any) -> Tensor: ...


def sample_blocks(
    model: Sampler,
    seeds: Sequence[range],
    *,
    labels: Labels | None = None,
    batch: int = 64,
    options: Mapping[str, Any] | None = None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Yields (seeds, uint8 images (n, C, H, W) on the CPU) for each block of `batch` seeds that is asked for, in order.

    `seeds`: ascending ranges of step 1 that do not overlap, from 0 to 2**63 - 1. `labels`: classes, or vectors of the
    model's attributes; seed s takes `labels[s % len(labels)]`. `options` go to every call of the model's `sample`, such
    as {"temperature": 0.7}; a tensor among them goes to the model's device. Raises ValueError before anything is
    computed. Deterministic: see the module.
    """
    checked = check(model, seeds, labels, batch, options)
    return (one_block(model, list(block), checked, batch, options) for _, block in blocks(seeds, batch))


def check(
    model: Sampler, seeds: Sequence[range], labels: Labels | None, batch: int, options: Mapping[str, Any] | None
) -> Tensor | None:
    """Raises ValueError for bad arguments; returns the labels, int64 (n,) or float32 (n, attributes)."""
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, got {batch}")
    last = -1
    for part in seeds:
        if part.step != 1 or not part or part.start <= last or part[-1] > LARGEST_SEED:
            raise ValueError(f"seeds: expected ascending, separate, non-empty ranges within 0..2**63-1, got {part}")
        last = part[-1]
    if last < 0:
        raise ValueError("seeds: expected at least one range, got none")
    takes = inspect.signature(model.sample).parameters
    for name in options or {}:
        if name not in takes:
            raise ValueError(f"{name}: {type(model).__name__}.sample does not take it")
    return _vectors(model, labels) if model.attributes else _classes(model, labels)


def _classes(model: Sampler, labels: Labels | None) -> Tensor | None:
    if model.num_classes is None:
        if labels is not None:
            raise ValueError("labels: this model was trained without classes; leave them out")
        return None
    last = model.num_classes - 1
    if labels is None:
        raise ValueError(f"labels: this model was trained with classes; choose some of 0..{last}")
    classes = torch.as_tensor(labels)
    if classes.dim() != 1 or classes.is_floating_point() or not ((classes >= 0) & (classes <= last)).all():
        raise ValueError(f"labels: expected numbers in 0..{last}, got {list(labels)}")
    return classes.long()


def _vectors(model: Sampler, labels: Labels | None) -> Tensor:
    names = ", ".join(model.attributes)
    if labels is None:
        raise ValueError(f"labels: this model was trained with attributes; expected vectors of {names}")
    vectors = torch.as_tensor(labels, dtype=torch.float32)
    if vectors.dim() != 2 or vectors.shape[1] != len(model.attributes) or not len(vectors):
        raise ValueError(f"labels: expected shape (n, {len(model.attributes)}), {names}; got {tuple(vectors.shape)}")
    if not torch.isfinite(vectors).all():
        raise ValueError("labels: expected finite values, got NaN or infinity")
    return vectors


def blocks(seeds: Sequence[range], batch: int) -> Iterator[tuple[int, Iterator[int]]]:
    """(number of the block, its seeds) for each block that is asked for."""
    return groupby(chain.from_iterable(seeds), key=lambda seed: seed // batch)


def one_block(
    model: Sampler, seeds: list[int], labels: Tensor | None, batch: int, options: Mapping[str, Any] | None
) -> tuple[list[int], Tensor]:
    """The images of `seeds`, all of one block, through the whole block."""
    device = model.device
    start = seeds[0] // batch * batch
    # The last block of all ends at the largest seed: its places beyond repeat that one.
    whole = [min(seed, LARGEST_SEED) for seed in range(start, start + batch)]
    their = None if labels is None else labels[[seed % len(labels) for seed in whole]].to(device)
    given = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in (options or {}).items()}
    with torch.no_grad():
        images = model.sample(torch.tensor(whole, dtype=torch.int64, device=device), their, **given)
    if not torch.isfinite(images).all():
        raise LapcoreError(
            f"seeds {start}-{whole[-1]}: the model gave NaN or infinity; its weights are damaged or diverged"
        )
    return seeds, to_uint8(images[[seed - start for seed in seeds]]).cpu()
