"""The map-style dataset that every container becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lapcore.data.images import to_tensor
from lapcore.data.sizing import Resize, resized


class Source(Protocol):
    """A container of pictures: what `ImageDataset` needs to know of one."""

    labels: NDArray[np.int64]  # (N,)
    classes: tuple[str, ...]

    def image(self, index: int) -> NDArray[np.uint8]:
        """Picture `index`, uint8 (H, W, C); DataError, naming it, when it cannot be read."""
        ...

    def name(self, index: int) -> str:
        """Picture `index` for messages: its file, or its place in one."""
        ...


class ImageDataset(Dataset[tuple[Tensor, Any]]):
    """Items `(image, label)`: uint8 (C, H, W) and an int below `len(classes)`, or float32 (A,). Made by `open_images`.

    A function of the index alone: the same item in every process, worker and epoch. Safe in DataLoader workers.

    Attributes: `classes`, names by label; `attributes`, the names of the A values of a vector, none if labels are
    classes; `labels`, int64 (N,) or float32 (N, A), which may be replaced; `spec`, what `open_images` was asked for, the
    number of `images`, and of several `classes` their names, or how many of them were numbers from 0.
    """

    def __init__(
        self,
        source: Source,
        *,
        size: int | None,
        resize: Resize,
        seed: int,
        crops_per_image: int,
        spec: Mapping[str, Any],
        attributes: tuple[tuple[str, ...], NDArray[np.float32]] | None = None,
    ) -> None:
        self.source = source
        self.classes = source.classes
        names, labels = attributes or ((), source.labels.astype(np.int64))
        self.attributes: tuple[str, ...] = names
        self.labels = torch.from_numpy(labels).repeat_interleave(crops_per_image, dim=0)
        self.spec = {**spec, "images": len(self.labels), **self._named_classes()}
        self._size, self._resize, self._seed, self._crops = size, resize, seed, crops_per_image
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected 0 to {len(self) - 1}, got {index}")
        image = self._picture(index // self._crops)
        if self._size is not None:
            image = resized(image, self._size, self._resize, self.name(index), self._seed, index)
        label = self.labels[index]
        return to_tensor(image), label.clone() if label.dim() else int(label)

    def _named_classes(self) -> dict[str, Any]:
        """The name of a single class says where the images lay, and nothing about them."""
        count = len(self.classes)
        if count == 1 or self.attributes:
            return {}
        numbers = tuple(map(str, range(count)))
        return {"classes": count if self.classes == numbers else list(self.classes)}

    def name(self, index: int) -> str:
        """The file, or the place in a file, that item `index` comes from."""
        return self.source.name(index // self._crops)

    def verify(self) -> None:
        """Reads every item once; DataError, naming it, for the first bad one."""
        for index in range(0, len(self), self._crops):
            self[index]

    def _picture(self, index: int) -> NDArray[np.uint8]:
        """Crops of one photograph are neighbours: the last one decoded is kept for the next."""
        if self._crops == 1:
            return self.source.image(index)
        if self._last is None or self._last[0] != index:
            self._last = index, self.source.image(index)
        return self._last[1]
