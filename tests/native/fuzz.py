"""Random calls of the native kernels, which test_fuzz.py runs under a sanitizer:

    python -m tests.native.fuzz_pyramid MODULE SEED CALLS
    python -m tests.native.fuzz_distributions MODULE SEED CALLS
    python -m tests.native.fuzz_masked_conv MODULE SEED CALLS

MODULE is the lapcore._C to call. Every tensor lies in a block of memory of its own, which ends with its last element: a kernel that
reads or writes one byte too far touches the sanitizer's red zone, or, in half of the calls, a page that nobody may touch; for of
masked loads and stores of vectors the sanitizer sees nothing. One call in eight is compared with the oracle.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import mmap
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch

Tensor = torch.Tensor
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SPECIALS = (float("nan"), float("inf"), float("-inf"), 6e4, -200.0)


def load(path: str) -> None:
    spec = importlib.util.spec_from_file_location("lapcore._C", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lapcore._C"] = module
    spec.loader.exec_module(module)


class Draw(random.Random):
    def side(self) -> int:
        return self.choice([self.randint(1, 4), self.randint(1, 24), self.randint(1, 24), self.randint(1, 150)])

    def lead(self, least: int = 0) -> tuple[int, ...]:
        return tuple(self.choice([1, 1, 2, 3, 4, 0]) for _ in range(self.randint(least, 3)))

    def memory(self, shape: Sequence[int], dtype: torch.dtype, written: bool = False) -> Tensor:
        """Dimensions in any order in memory, with gaps and an offset; some of stride 0 unless it is written to."""
        order = list(range(len(shape)))
        kind = self.choice(["plain", "plain", "channels last", "any"])
        if kind == "channels last" and len(shape) > 2:
            order.append(order.pop(-3))
        elif kind == "any":
            self.shuffle(order)
        strides, step = [0] * len(shape), 1
        for dim in reversed(order):
            if not written and self.random() < 0.05:
                continue
            step *= self.choice([1, 1, 1, 1, 2, 3])
            strides[dim] = step
            step = step * shape[dim] + self.choice([0, 0, 0, 1, 5])
        offset = self.choice([0, 0, 1, 2, 3])
        empty = 0 in shape
        last = 0 if empty else sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        block = self.filled(offset + (0 if empty else last + 1), dtype)
        return block.as_strided(tuple(shape), strides, offset)

    def rows(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Contiguous rows, any distance apart, which most kernels take as they are; or any memory, which is copied."""
        if self.random() < 0.3:
            return self.memory(shape, dtype)
        count, length = shape[0], math.prod(shape[1:])
        stride, offset = self.choice([length, length, length + 1, length + 5, 0]), self.choice([0, 0, 1, 2, 3])
        block = self.filled(offset + ((count - 1) * stride + length if count and length else 0), dtype)
        inner = [math.prod(shape[d + 1 :]) for d in range(1, len(shape))]
        return block.as_strided(tuple(shape), (stride, *inner), offset)

    def filled(self, count: int, dtype: torch.dtype) -> Tensor:
        """A block of memory of so many numbers: normal floats, where `wild` some that are no numbers, or integers of any size."""
        if not dtype.is_floating_point:
            info = torch.iinfo(dtype)
            whole = torch.randint(info.min, info.max + 1, (count,), generator=self.generator)
            return torch.empty(count, dtype=dtype).copy_(whole)
        block = torch.empty(count, dtype=dtype).copy_(torch.randn(count, generator=self.generator))
        if self.wild:
            for special in SPECIALS:
                block[torch.rand(count, generator=self.generator) < 0.02] = special
        return block

    generator = torch.Generator()
    wild = False


LIBC = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE


def guarded(count: int, dtype: torch.dtype) -> Tensor:
    """Zeros before a page that is out of bounds to everybody."""
    nbytes = count * dtype.itemsize
    pages = -(-nbytes // PAGE) * PAGE
    block = mmap.mmap(-1, pages + PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    if LIBC.mprotect(ctypes.c_void_p(address + pages), ctypes.c_size_t(PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return torch.frombuffer(block, dtype=dtype, count=count, offset=pages - nbytes)


@contextmanager
def guard_pages() -> Iterator[None]:
    """Tensors that Python allocates end where a guarded page begins."""

    def wrapped(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def wrapper(*args: object, **kwargs: object) -> Tensor:
            tensor = allocate(*args, **kwargs)
            usual = tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.numel()
            return guarded(tensor.numel(), tensor.dtype).view(tensor.shape) if usual else tensor

        return wrapper

    places = (torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")
    before = [getattr(owner, name) for owner, name in places]
    try:
        for (owner, name), allocate in zip(places, before, strict=True):
            setattr(owner, name, wrapped(allocate))
        yield
    finally:
        for (owner, name), allocate in zip(places, before, strict=True):
            setattr(owner, name, allocate)


Kind = Callable[[Draw, bool], None]
"""Makes a call, and compares it with the oracle where it is told to."""


def main(kinds: Callable[[], Sequence[Kind]]) -> None:
    """kinds(): those of a module, once lapcore._C is the one to be called."""
    path, seed, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    load(path)
    from lapcore import _C, native

    assert native.load() is _C and _C.__file__ == path
    draw, counts, choices = Draw(seed), Counter(), kinds()
    draw.generator.manual_seed(seed)
    for call in range(calls):
        if call % 50 == 0:
            _C.use_isa(draw.choice(_C.isas()))
            torch.set_num_threads(draw.choice([1, 2, 3, 4]))
        kind = draw.choice(choices)
        counts[kind.__name__] += 1
        state, checked = draw.getstate(), call % 8 == 0
        draw.wild = not checked and draw.random() < 0.3
        try:
            with guard_pages() if draw.random() < 0.5 else nullcontext():
                kind(draw, checked)
        except BaseException:
            print(f"call {call}, {kind.__name__}, {_C.isa()}, seed {seed}, state {hash(state)}", file=sys.stderr)
            raise
    print(dict(counts))
