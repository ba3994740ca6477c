"""Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011) and what is drawn from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Array = np.ndarray

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
LOW = np.uint64(MASK)
HALF = np.uint64(32)


def philox4x32(counter: Sequence[Array | int], key: Sequence[Array | int], rounds: int = 10) -> list[Array]:
    """Four 32-bit words, held in uint64 arrays; counter (4 words) and key (2 words) broadcast."""
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = (np.asarray(word, dtype=np.uint64) for word in key)
    for _ in range(rounds):
        left, right = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (right >> HALF) ^ c1 ^ k0, right & LOW, (left >> HALF) ^ c3 ^ k1, left & LOW
        k0, k1 = (k0 + np.uint64(WEYL[0])) & LOW, (k1 + np.uint64(WEYL[1])) & LOW
    return [c0, c1, c2, c3]


def stream_bits(seed: int, count: int, stream: int = 0) -> Array:
    """The first `count` words of one (seed, stream), as uint32: element e is lane e mod 4 of block e div 4."""
    seed, stream = seed % 2**64, stream % 2**64
    block = np.arange((count + 3) // 4, dtype=np.uint64)
    counter = (block & LOW, block >> HALF, stream & MASK, stream >> 32)
    words = philox4x32(counter, (seed & MASK, seed >> 32))
    lanes = [np.broadcast_to(word, block.shape) for word in words]
    return np.stack(lanes, axis=-1).reshape(-1)[:count].astype(np.uint32)


def _fill(draw, shape: Sequence[int], seeds: int | Sequence[int], stream: int) -> Array:
    if isinstance(seeds, int):
        return draw(seeds, math.prod(shape), stream).reshape(shape)
    rows = [draw(int(seed), math.prod(shape[1:]), stream) for seed in seeds]
    return np.stack(rows).reshape(shape) if rows else draw(0, 0, stream).reshape(shape)


def bits(shape: Sequence[int], seeds: int | Sequence[int], stream: int = 0) -> Array:
    """uint32; one int seeds the whole tensor, a sequence one row each."""
    return _fill(stream_bits, shape, seeds, stream)


def to_uniform(words: Array) -> Array:
    """float32 nearest to (bits + 1/2) 2^-32, kept below 1."""
    exact = (words.astype(np.float64) + 0.5) * 2.0**-32  # 33 significant bits: exact in float64
    return np.minimum(exact.astype(np.float32), np.float32(1 - 2.0**-24))


def uniform(shape: Sequence[int], seeds: int | Sequence[int], stream: int = 0) -> Array:
    return to_uniform(bits(shape, seeds, stream))


def _stream_normal(seed: int, count: int, stream: int) -> Array:
    u = to_uniform(stream_bits(seed, count + count % 2, stream)).astype(np.float64).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log(u[:, 0]))
    angle = 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1)[:count]


def normal(shape: Sequence[int], seeds: int | Sequence[int], stream: int = 0) -> Array:
    """Box-Muller on lane pairs (0, 1) and (2, 3), in float64 at the float32 uniforms."""
    return _fill(_stream_normal, shape, seeds, stream)
