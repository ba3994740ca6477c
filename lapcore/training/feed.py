"""From a dataset to the batches of one process."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lapcore.data.images import to_model_range
from lapcore.errors import DataError
from lapcore.training import order
from lapcore.training.config import TrainConfig
from lapcore.training.contract import Item
from lapcore.training.stop import SIGNALS

IN_MEMORY_BYTES = 2 << 30


@dataclass(frozen=True)
class Batch:
    images: Tensor  # float32 (n, C, H, W) in [-1, 1]
    labels: Tensor  # int64 (n,), or float32 (n, A) of attributes
    seeds: Tensor  # int64 (n,), the noise of each image


class Feed:
    """Batches of process `rank` of `world`, on `device`; batch b is a function of (config.seed, b) alone.

    Images come as (C, H, W) = `shape` or are a DataError that names them, raised here and not in a worker.
    total: batches of the whole run, all processes' shares together.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        shape: Sequence[int],
        config: TrainConfig,
        total: int,
        device: torch.device,
        rank: int,
        world: int,
    ) -> None:
        self._config, self._device, self._rank, self._world = config, device, rank, world
        self._dataset = Checked(dataset, tuple(shape))
        self._count = len(self._dataset)
        self._memory: tuple[Tensor, Tensor] | None = None
        first = self._dataset[0]
        if isinstance(first, DataError):
            raise first
        small = self._count * torch.Size(shape).numel() < IN_MEMORY_BYTES
        if config.in_memory if config.in_memory is not None else small and total * config.batch_size >= self._count:
            self._memory = self._load()

    def batches(self, start: int, stop: int) -> Iterator[list[Batch]]:
        """The batches of the run from `start` to below `stop`, each in its accumulated parts."""
        read = self._read(_Indices(self, start, stop), self._config.num_workers)
        for batch in range(start, stop):
            yield [self._batch(*next(read), places) for places in self._places(batch)]

    def first(self) -> list[Batch]:
        """The first batch of the run, read in this process."""
        read = self._read(_Indices(self, 0, 1), workers=0)
        return [self._batch(*next(read), places) for places in self._places(0)]

    def indices(self, batch: int) -> list[Tensor]:
        """Returns which images each part of a batch is made of."""
        return [order.images_at(self._config.seed, places, self._count) for places in self._places(batch)]

    def _places(self, batch: int) -> tuple[Tensor, ...]:
        places = order.places(batch, self._config.batch_size, self._rank, self._world)
        return places.chunk(self._config.accumulate)

    def _read(self, batches: Iterable[list[int]], workers: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self._memory is None:
            return loaded(self._dataset, batches, workers)
        images, labels = self._memory
        indices = (torch.tensor(batch, device=self._device) for batch in batches)
        return ((images[index], labels[index]) for index in indices)

    def _batch(self, images: Tensor, labels: Tensor, places: Tensor) -> Batch:
        images = to_model_range(images.to(self._device, non_blocking=True))
        if self._config.flip:
            mirrored = order.flips(self._config.seed, places).to(self._device)
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        seeds = order.noise_seeds(self._config.seed, places).to(self._device)
        return Batch(images, labels.to(self._device, non_blocking=True), seeds)

    def _load(self) -> tuple[Tensor, Tensor]:
        parts = [list(range(i, min(i + 64, self._count))) for i in range(0, self._count, 64)]
        images, labels = zip(*loaded(self._dataset, parts, self._config.num_workers), strict=True)
        return torch.cat(images).to(self._device), torch.cat(labels).to(self._device)


@dataclass(frozen=True)
class _Indices:
    """The parts of all batches from `start` to below `stop`, made as they are asked for."""

    feed: Feed
    start: int
    stop: int

    def __iter__(self) -> Iterator[list[int]]:
        return (part.tolist() for batch in range(self.start, self.stop) for part in self.feed.indices(batch))


class Checked(Dataset[Item | DataError]):
    """Items of the shape asked for, or the error: raised in a worker, it would arrive as the text of a traceback."""

    def __init__(self, dataset: Dataset[Item], shape: tuple[int, ...]) -> None:
        self._dataset, self._shape = dataset, shape
        if len(self) == 0:
            raise DataError("dataset: expected at least one image, got none")

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Item | DataError:
        try:
            image, label = self._dataset[index]
        except DataError as error:
            return error
        if image.dtype != torch.uint8 or tuple(image.shape) != self._shape:
            name = self._dataset.name(index) if hasattr(self._dataset, "name") else f"dataset[{index}]"
            return DataError(f"{name}: expected uint8 {self._shape} (C, H, W), got {image.dtype} {tuple(image.shape)}")
        return image, label


def loaded(dataset: Checked, batches: Iterable[list[int]], workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images, uint8 (n, C, H, W), and labels of batches of indices."""
    options: dict[str, Any] = {
        "num_workers": workers,
        "pin_memory": torch.cuda.is_available(),
        "collate_fn": _collate,
        "worker_init_fn": _outlive_signals,
    }
    for batch in DataLoader(dataset, batch_sampler=batches, **options):
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _outlive_signals(worker: int) -> None:
    """A signal to the whole group of processes must leave a worker its work: the training process finishes its step."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _collate(items: list[Item | DataError]) -> tuple[Tensor, Tensor] | DataError:
    good = []
    for item in items:
        if isinstance(item, DataError):
            return item
        good.append(item)
    images, labels = zip(*good, strict=True)
    return torch.stack(images), torch.stack([torch.as_tensor(label) for label in labels])
