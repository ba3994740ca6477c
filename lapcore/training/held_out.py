"""Images are held out here, and a model's loss on them is measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lapcore.data.images import to_model_range
from lapcore.training import order
from lapcore.training.config import TrainConfig
from lapcore.training.contract import Item, image_shape, spec_of, takes_labels, trainable
from lapcore.training.feed import IN_MEMORY_BYTES, Checked, loaded


class Part(Dataset[Item]):
    """Some items of a data set, with its classes and attributes."""

    def __init__(self, dataset: Dataset[Item], indices: Tensor) -> None:
        self._dataset, self.indices = dataset, indices
        self.classes, self.attributes = getattr(dataset, "classes", ()), getattr(dataset, "attributes", ())
        self.spec = spec_of(dataset)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Item:
        return self._dataset[int(self.indices[index])]

    def name(self, index: int) -> str:
        place = int(self.indices[index])
        return str(self._dataset.name(place)) if hasattr(self._dataset, "name") else f"dataset[{place}]"


class Data(NamedTuple):
    """Holds what is trained on, what is held out, if anything, and how the run's file says so."""

    training: Dataset[Item]
    held_out: Dataset[Item] | None = None
    spec: dict[str, Any] | None = None


def held_out_of(dataset: Dataset[Item], validation: Dataset[Item] | float | None, seed: int) -> Data:
    """`validation` is a data set, or the share of `dataset` to hold out."""
    if validation is None:
        return Data(dataset)
    if isinstance(validation, int | float):
        return Data(*split(dataset, validation, seed), {"fraction": float(validation)})
    return Data(dataset, validation, dict(spec_of(validation)))


def split(dataset: Dataset[Item], fraction: float, seed: int) -> tuple[Part, Part]:
    """Parts what is trained on from what is held out, `fraction` of the pictures, chosen by seed; crops of one stay together.

    ValueError unless both have a picture.
    """
    crops = int(spec_of(dataset).get("crops_per_image", 1))
    pictures = len(dataset) // crops  # type: ignore[arg-type]
    count = round(fraction * pictures)
    if not 0 < count < pictures:
        raise ValueError(
            f"validation: expected a share that leaves pictures on both sides of {pictures}, got {fraction}"
        )
    shuffled = order.shuffled(seed, pictures)
    held, rest = shuffled[:count].sort().values, shuffled[count:].sort().values
    places = [(part[:, None] * crops + torch.arange(crops)).flatten() for part in (rest, held)]
    return Part(dataset, places[0]), Part(dataset, places[1])


class HeldOut:
    """The loss on a data set in evaluation mode, each image with a noise of its own that stays the same.

    Every process measures its share of the images.
    """

    def __init__(self, dataset: Dataset[Item], model: nn.Module, config: TrainConfig, accelerator: Any) -> None:
        self._dataset = Checked(dataset, image_shape(model))
        self._config, self._accelerator = config, accelerator
        if len(self._dataset) < accelerator.num_processes:
            raise ValueError(f"validation: expected an image for each process, got {len(self._dataset)}")
        mine = torch.arange(accelerator.process_index, len(self._dataset), accelerator.num_processes)
        self._indices = torch.split(mine, max(1, config.batch_size // (accelerator.num_processes * config.accumulate)))
        small = len(self._dataset) * torch.Size(image_shape(model)).numel() < IN_MEMORY_BYTES
        self._memory: list[tuple[Tensor, Tensor]] | None = [] if small else None

    @torch.no_grad()
    def losses(self, model: nn.Module, stage: str) -> dict[str, float]:
        """Means over all images of what the loss of `stage` reports; leaves the model in evaluation mode."""
        model.eval()
        sums: dict[str, Tensor] = {}
        for (images, labels), indices in zip(self._batches(), self._indices, strict=True):
            seeds = order.held_out_seeds(self._config.seed, indices)
            for name, value in self._loss(model, stage, images, labels, seeds).items():
                sums[name] = sums.get(name, 0) + value.float() * len(indices)
        whole = self._accelerator.reduce(torch.stack([*sums.values()]), reduction="sum") / len(self._dataset)
        return dict(zip(sums, whole.tolist(), strict=True))

    def _loss(self, model: nn.Module, stage: str, images: Tensor, labels: Tensor, seeds: Tensor) -> dict[str, Tensor]:
        device = self._accelerator.device
        known = labels.to(device) if takes_labels(model) else None
        with self._accelerator.autocast():
            return trainable(model).loss(to_model_range(images.to(device)), known, stage=stage, seeds=seeds.to(device))

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._memory:
            return iter(self._memory)
        read = loaded(self._dataset, [part.tolist() for part in self._indices], self._config.num_workers)
        if self._memory is None:
            return read
        self._memory += read
        return iter(self._memory)
