"""The contact sheet of a folder of samples: the first ones in the order of their seeds, none left out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from lapcore.data import grid, open_images, write_png
from lapcore.data.files import SHEET
from lapcore.errors import DataError
from lapcore.sampling.formats import FORMATS


def write_sheet(folder: Path, count: int, channels: int = 3) -> Path:
    """Writes `sheet.png`: the first `count` samples of `folder`, or all, row by row; returns its path.

    A set that is read from the folder does not hold it. Raises ValueError for a count below 1, DataError for a folder
    without samples.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    images = list(islice(_samples(folder, channels), count))
    if not images:
        raise DataError(f"{folder}: expected samples to make {SHEET} of, found none")
    write_png(folder / SHEET, grid(torch.stack(images), math.ceil(math.sqrt(len(images)))))
    return folder / SHEET


def _samples(folder: Path, channels: int) -> Iterator[Tensor]:
    names = [path for path in folder.iterdir() if re.fullmatch(rf"\d{{8,}}\.({'|'.join(FORMATS)})", path.name)]
    for path in sorted(names, key=lambda path: int(path.stem)):
        dataset = open_images(path, channels=channels)
        yield from (dataset[index][0] for index in range(len(dataset)))
