"""Philox4x32-10 noise in plain PyTorch: the readable definition of what every kernel must draw, to the bit.

Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The contract is in
`csrc/common/philox.h`, whose float32 arithmetic this repeats: additions, multiplications and a square root, each
rounded by itself, which every machine does alike. `seeds` holds one seed for the whole tensor, or
one for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
# Blocks of four words drawn at a time: what stays in a core's cache, or what keeps an accelerator busy.
_CPU_TILE, _DEVICE_TILE = 1 << 14, 1 << 20

Key = tuple[int, int] | tuple[Tensor, Tensor]
Words = tuple[Tensor, Tensor, Tensor, Tensor]


def bits(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device) -> Tensor:
    """The words themselves, as the int32 of the same 32 bits."""
    return _draw(shape, seeds, stream, device, torch.int32, lambda words: [word.to(torch.int32) for word in words])


def uniform(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Uniforms in the open interval (0, 1), rounded once from float32 to `dtype` and kept inside the interval."""
    info = torch.finfo(dtype)
    smallest, largest = info.smallest_normal * info.eps, 1 - info.eps / 2
    return _draw(
        shape, seeds, stream, device, dtype, lambda words: [_uniform(w).clamp_(smallest, largest) for w in words]
    )


def normal(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Standard normals, made in float32 and rounded to `dtype`."""
    return _draw(
        shape, seeds, stream, device, dtype, lambda words: [*_box_muller(*words[:2]), *_box_muller(*words[2:])]
    )


def philox(counter: Words, key: Key) -> Words:
    """Four 32-bit words for each 128-bit counter. Words are int64 tensors below 2**32, of shapes that broadcast."""
    c0, c1, c2, c3 = counter
    for k0, k1 in _round_keys(key):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return c0, c1, c2, c3


def _multiply(a: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """High and low half of the 64-bit product a * m.

    a * m may pass 2**63. As m >= 2**31, a * (m - 2**32) never leaves int64; its low half is the same and its high half
    is a less.
    """
    product = a * (m - 2**32)
    return (product >> 32) + a, product & _MASK


def _round_keys(key: Key) -> Iterator[Key]:
    k0, k1 = key
    for _ in range(_ROUNDS):
        yield k0, k1  # type: ignore[misc]
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK


def _uniform(word: Tensor) -> Tensor:
    """(word + 1/2) / 2**32 rounded once to float32: 2 word + 1 is converted, the scale is a power of two."""
    return (2 * word + 1).to(torch.float32).mul_(2.0**-33).clamp_(max=1 - 2.0**-24)


def _box_muller(word_a: Tensor, word_b: Tensor) -> tuple[Tensor, Tensor]:
    """r cos(2 pi b), r sin(2 pi b) with r = sqrt(-2 ln a), for uniforms a and b."""
    # In float64: torch's float32 root may be an ulp off, a float64 one rounds to the right float32.
    radius = _square_radius(_uniform(word_a)).double().sqrt_().float()
    cos, sin = _cos_sin_of_quarters(_uniform(word_b).mul_(4))
    return cos.mul_(radius), sin.mul_(radius)


def _polynomial(x: Tensor, *coefficients: str) -> Tensor:
    """Horner's rule from the highest power on, each product and each sum rounded to float32."""
    first, *others = map(float.fromhex, coefficients)
    y = torch.full_like(x, first)
    for coefficient in others:
        y = y.mul_(x).add_(coefficient)
    return y


def _square_radius(a: Tensor) -> Tensor:
    """-2 ln a: a = m 2**e with m in [sqrt(1/2), sqrt(2)), ln a = e ln 2 + ln(1 + f), f = m - 1."""
    root = 0x3F3504F3  # the bits of sqrt(1/2)
    bits = a.view(torch.int32) - root
    e, f = (bits >> 23).float(), ((bits & 0x7FFFFF) + root).view(torch.float32) - 1
    p = _polynomial(
        f,
        *("-0x1.f4c17ap-3", "0x1.80b7f8p-2", "-0x1.a2d848p-2", "0x1.fde13ap-2"),
        *("-0x1.552896p-1", "0x1.0001d8p0", "-0x1.00000ep1"),
    )
    return p.mul_(f).add_(e * float.fromhex("-0x1.62e43p0"))


def _cos_sin_of_quarters(t: Tensor) -> tuple[Tensor, Tensor]:
    """cos(pi t / 2) and sin(pi t / 2): t = q + y with |y| <= 1/2, which is exact."""
    q = t.round()
    y = t - q
    s = y * y
    sin = _polynomial(s, "-0x1.2f7c3ep-8", "0x1.466be6p-4", "-0x1.4abbeep-1", "0x1.921fb6p0").mul_(y)
    cos = _polynomial(s, "-0x1.4eb114p-6", "0x1.03b18ep-2", "-0x1.3bd3a2p0", "0x1p0")
    quarter = q.to(torch.int32)
    odd = (quarter & 1) != 0
    first, second = torch.where(odd, sin, cos), torch.where(odd, cos, sin)
    return torch.where((quarter + 1) & 2 != 0, -first, first), torch.where(quarter & 2 != 0, -second, second)


def _draw(
    shape: Sequence[int],
    seeds: Tensor,
    stream: int,
    device: torch.device,
    dtype: torch.dtype,
    transform: Callable[[Words], list[Tensor]],
) -> Tensor:
    """Fills a tensor, one row for each seed, with transform(words); tile by tile, so that it needs little more
    memory."""
    out = torch.empty(tuple(shape), dtype=dtype, device=device)
    if out.numel() == 0:
        return out
    rows = out.view(seeds.numel(), -1)
    blocks = -(-rows.shape[1] // 4)
    words = (stream & _MASK, (stream >> 32) & _MASK)
    high_counter = [torch.full((1, 1), word, dtype=torch.int64, device=device) for word in words]
    for row, first, last in _tiles(len(rows), blocks, _CPU_TILE if device.type == "cpu" else _DEVICE_TILE):
        block = torch.arange(first, last, device=device).unsqueeze(0)
        drawn = philox((block & _MASK, block >> 32, high_counter[0], high_counter[1]), _key(seeds[row], device))
        target = rows[row, 4 * first : 4 * last]
        target.copy_(torch.stack(transform(drawn), -1).flatten(-2)[:, : target.shape[1]])
    return out


def _key(seeds: Tensor, device: torch.device) -> Key:
    if seeds.numel() == 1 and seeds.device.type == "cpu":
        seed = int(seeds)
        return seed & _MASK, (seed >> 32) & _MASK
    column = seeds.to(device).unsqueeze(1)
    return column & _MASK, (column >> 32) & _MASK


def _tiles(rows: int, blocks: int, size: int) -> Iterator[tuple[slice, int, int]]:
    """(rows, first block, last block) of tiles of at most `size` blocks that cover rows x blocks."""
    width = min(blocks, size)
    height = size // width
    for row in range(0, rows, height):
        for first in range(0, blocks, width):
            yield slice(row, row + height), first, min(first + width, blocks)
