"""Noise as a function of seeds and position alone; public as `lapcore.random`.

Convention. Philox4x32-10 (Salmon et al., SC 2011), the Random123 constants. The key is the seed's low and high 32 bits,
the counter the block number's and then the stream's. Element e takes word e mod 4 of block e div 4, where e is the
C-order index in the whole tensor if `seeds` is an int, and the C-order index inside its row if `seeds` is a tensor: row
i then depends on `seeds[i]` alone, whatever the batch, its split, the device or the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops._check import FLOATS
from lapcore.ops._registered import Registered

__all__ = ["bits", "normal", "uniform"]


def bits(
    shape: Sequence[int], seeds: int | Tensor, *, stream: int = 0, device: torch.device | str | None = None
) -> Tensor:
    """The words of Philox4x32-10: element e is word e mod 4 of block e div 4 of the stream (see the module's convention).

    Args:
        shape: shape of the result; may be empty or hold zeros.
        seeds: an int in [-2**63, 2**64), taken as 64 bits in two's complement, for one stream over the whole tensor; or
            an int64 tensor `(shape[0],)` on the result's device, one seed for each row. (In torch.compile an int that
            varies from call to call must be below 2**63.)
        stream: another int of that range; streams of one seed are independent.
        device: default the seeds' device, or torch's default device for an int.

    Returns:
        dtype int32, shape `shape`, contiguous: the bits of each unsigned word. `x.to(torch.int64) & 0xFFFFFFFF` is its value.

    Raises:
        TypeError, ValueError: on seeds, a stream, a shape or a device other than these.

    Determinism: the same to the bit on every backend and device, in every batch.
    Source: Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
    """
    shape, seed, signed_stream, place = _arguments(shape, seeds, stream, device)
    words: Tensor = _bits(shape, seed, signed_stream, place)
    return words


def uniform(
    shape: Sequence[int],
    seeds: int | Tensor,
    *,
    stream: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniforms in the open interval (0, 1): u = (bits + 1/2) / 2**32, as float32.

    The exact value is rounded once to float32; where that gives 1, u is the largest float32 below it. float64 holds the
    float32 value. float16 and bfloat16 round it once more, and what would become 0 or 1 is the dtype's nearest value
    inside the interval.

    Shapes, arguments: as `bits`. Errors: as `bits`; TypeError for a `dtype` other than float16, bfloat16, float32 and float64.
    Determinism: the same to the bit on every backend and device, in every batch.
    Source: the words of `bits`; the half word keeps 0 out.
    """
    _check_dtype("dtype", dtype)
    shape, seed, signed_stream, place = _arguments(shape, seeds, stream, device)
    u: Tensor = _uniform(shape, seed, signed_stream, place, dtype)
    return u


def normal(
    shape: Sequence[int],
    seeds: int | Tensor,
    *,
    stream: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normals by Box-Muller on the float32 uniforms u of `uniform`.

    Words (0, 1) and (2, 3) of a block are pairs (a, b): r = sqrt(-2 ln u_a), z_a = r cos(2 pi u_b), z_b = r sin(2 pi
    u_b). |z| stays below 6.8. Values are float32 within 4e-6 of the formula in float64, hence nearly that between
    backends; this one evaluates it in float64 and rounds. float64 holds the float32 value, float16 and bfloat16 round
    it once more.

    Shapes, arguments, dtypes: as `uniform`. Errors: as `uniform`.
    Determinism: a function of seed, stream and position; the same to the bit on one backend, within 4e-6 between backends.
    Source: Box and Muller, A Note on the Generation of Random Normal Deviates, 1958.
    """
    _check_dtype("dtype", dtype)
    shape, seed, signed_stream, place = _arguments(shape, seeds, stream, device)
    z: Tensor = _normal(shape, seed, signed_stream, place, dtype)
    return z


def _check_dtype(name: str, dtype: torch.dtype) -> None:
    if dtype not in FLOATS:
        raise TypeError(f"{name}: expected float16, bfloat16, float32 or float64, got {dtype}")


def signed64(name: str, value: int) -> int:
    """The int64 with the 64 bits of `value`."""
    if type(value) is not int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer | torch.SymInt):
            raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
        value = int(value)
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"{name}: expected an int in [-2**63, 2**64), got {value}")
    return value - 2**64 if value >= 2**63 else value


def seed_tensor(seeds: int | Tensor, shape: Sequence[int], device: torch.device | None) -> Tensor:
    """What the kernels take: the int64 tensor of one seed for each row, or of the one seed of all, on the CPU."""
    if not isinstance(seeds, Tensor):
        return torch.full((1,), signed64("seeds", seeds), dtype=torch.int64, device="cpu")
    if seeds.dtype != torch.int64:
        raise TypeError(f"seeds: expected an int or an int64 tensor, got a tensor of {seeds.dtype}")
    if len(shape) == 0 or seeds.ndim != 1 or seeds.shape[0] != shape[0]:
        expected = f"({shape[0]},), one seed for each row" if len(shape) else "an int, for a tensor without rows"
        raise ValueError(f"seeds: expected {expected} of shape {tuple(shape)}, got shape {tuple(seeds.shape)}")
    if device is not None and not _same_device(device, seeds.device):
        raise ValueError(f"seeds: expected them on the result's device {device}, got {seeds.device}")
    return seeds


def _same_device(asked: torch.device, actual: torch.device) -> bool:
    return asked.type == actual.type and asked.index in (None, actual.index)


def _arguments(
    shape: Sequence[int], seeds: int | Tensor, stream: int, device: torch.device | str | None
) -> tuple[list[int], Tensor, int, torch.device]:
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        raise TypeError(f"shape: expected a sequence of ints, got {type(shape).__name__}")
    for n in shape:
        if isinstance(n, bool) or not isinstance(n, int | np.integer | torch.SymInt):
            raise TypeError(f"shape: expected a sequence of ints, got {tuple(shape)}")
        if n < 0:
            raise ValueError(f"shape: expected sizes of 0 or more, got {tuple(shape)}")
    asked = None if device is None else torch.device(device)
    seed = seed_tensor(seeds, shape, asked)
    default = seeds.device if isinstance(seeds, Tensor) else torch.empty(0).device
    return list(shape), seed, signed64("stream", stream), asked or default


def _fake(
    shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, dtype: torch.dtype = torch.int32
) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


def _register(name: str, schema: str) -> Registered:
    """Opaque to torch.compile: traced through, one draw would be hundreds of nodes."""

    def run(shape: Sequence[int], seeds: Tensor, stream: int, device: torch.device, *dtype: torch.dtype) -> Tensor:
        backend = backends.select_for("random", device)
        drawn: Tensor = getattr(backend, name)(shape, seeds, stream, device, *dtype)
        return drawn

    return Registered(f"random_{name}", schema, run, _fake)


_ARGUMENTS = "SymInt[] shape, Tensor seeds, SymInt stream, Device device"
_bits = _register("bits", f"({_ARGUMENTS}) -> Tensor")
_uniform = _register("uniform", f"({_ARGUMENTS}, ScalarType dtype) -> Tensor")
_normal = _register("normal", f"({_ARGUMENTS}, ScalarType dtype) -> Tensor")
