"""Which image, mirrored or not, with which noise, has place p in a run: functions of (seed, p) alone.

A run is one long line of images, from place 0 on. Its batch b takes the places from b * batch_size to below
(b + 1) * batch_size, and each process its share of them: the line is the same however many processes there are, and
wherever the run was cut and resumed. A step takes as many batches as its stage's players have turns.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ORDER, _NOISE, _FLIP, _TURN, _HELD_OUT, _HELD_OUT_NOISE = range(6)  # streams of one seed


def places(batch: int, batch_size: int, rank: int = 0, world: int = 1) -> Tensor:
    """The places, int64 (batch_size / world,), that process `rank` of `world` takes in `batch` of the run."""
    share = batch_size // world
    start = batch * batch_size + rank * share
    return torch.arange(start, start + share)


def images_at(seed: int, places: Tensor, count: int) -> Tensor:
    """Which of `count` images have these consecutive places. Each `count` places are a permutation of their own."""
    epochs = places // count
    found = torch.empty_like(places)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        here = epochs == epoch
        found[here] = _permutation(seed, epoch, count)[places[here] % count]
    return found


def noise_seeds(seed: int, places: Tensor) -> Tensor:
    """The seed, int64, of the noise that the image at each place is trained with; distinct for distinct places."""
    return _hashed(seed, _NOISE, places)


def flips(seed: int, places: Tensor) -> Tensor:
    """Which places, bool, show their image mirrored."""
    return _hashed(seed, _FLIP, places) < 0


def turn_seed(seed: int, batch: int, rank: int) -> int:
    """The seed of torch's generators in the turn that takes `batch`, for layers that draw from them, such as dropout."""
    return int(_hashed(seed, _TURN, torch.tensor([batch * 65536 + rank])).item())


def shuffled(seed: int, count: int) -> Tensor:
    """A permutation of `count` pictures, the first of which are held out."""
    generator = torch.Generator().manual_seed(int(_hashed(seed, _HELD_OUT, torch.tensor([0])).item()))
    return torch.randperm(count, generator=generator)


def held_out_seeds(seed: int, indices: Tensor) -> Tensor:
    """The seed, int64, of the noise that each image that is held out is always measured with."""
    return _hashed(seed, _HELD_OUT_NOISE, indices)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(int(_hashed(seed, _ORDER, torch.tensor([epoch])).item()))
    return torch.randperm(count, generator=generator)


def _hashed(seed: int, stream: int, counters: Tensor) -> Tensor:
    """SplitMix64 (Steele, Lea, Flood 2014), started at a hash of (seed, stream): a bijection of the counter."""
    start = _mix(_mix(np.array([seed], np.uint64)) + np.uint64(stream))
    with np.errstate(over="ignore"):
        state = start + counters.numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return torch.from_numpy(_mix(state).view(np.int64))


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        value = value + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
