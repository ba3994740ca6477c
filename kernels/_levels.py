"""Launches of the strip kernels: a level in one, or all levels of small images in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ._edges import Codes, expanding, reducing
from ._launch import Strides, accumulator, described, index_type, planes_of
from ._strip import HALO, IMAGE, LANES, SIGNS, level_kernel, pyramid_kernel

Size = tuple[int, int]

# Rows of low samples that a program marches down: many save reading rows twice, few keep a large GPU busy.
MOST_ROWS, FEWEST_ROWS, ENOUGH_PROGRAMS = 64, 8, 4096
# Images of these sides get their whole pyramid from one program: small ones always, larger ones if there are many.
ONE_LAUNCH_SIDE, ONE_LAUNCH_LARGE_SIDE, ONE_LAUNCH_PLANES = 64, 128, 1024


class Mode(NamedTuple):
    """What happens at a level. subtract: whether an operator's result is taken from its base or added; use: of the fine samples."""

    reduce: bool
    expand: bool
    adjoint: bool
    subtract: bool = False
    use: int = IMAGE.value


class Level(NamedTuple):
    """The tensors of one level: what it reads and writes at either size, and what a loss needs beside."""

    size: Size
    fine_in: Tensor | None = None
    low_in: Tensor | None = None
    low_out: Tensor | None = None
    fine_out: Tensor | None = None
    target: Tensor | None = None
    mask: Tensor | None = None
    coefficients: tuple[Tensor, int, int, int] | None = None
    partials: tuple[Tensor, int, int] | None = None

    @property
    def images(self) -> tuple[Tensor | None, ...]:
        """In the order of the kernel's arguments."""
        return self.fine_in, self.target, self.mask, self.low_in, self.low_out, self.fine_out

    @property
    def source(self) -> Tensor:
        """What the sums are over."""
        x = self.low_in if self.fine_in is None else self.fine_in
        assert x is not None
        return x


def codes(size: Size, border: str, adjoint: bool) -> tuple[Codes, Codes, Codes, Codes]:
    height, width = size
    return (
        reducing(height, border, adjoint), reducing(width, border, adjoint),
        expanding(height, border, adjoint), expanding(width, border, adjoint),
    )  # fmt: skip


def half(size: Size) -> Size:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def packing(width: int) -> tuple[int, int, int]:
    """How many images lie side by side in a strip, its margin, and how many strips an image takes."""
    if width <= LANES:
        return LANES // max(2, triton.next_power_of_2(width)), 0, 1
    return 1, HALO, triton.cdiv(width, LANES - 2 * HALO)


def rows_of(size: Size, planes: int) -> int:
    """Low rows of a program, such that there are enough programs for this many images."""
    pack, _, strips = packing(size[1])
    rows = MOST_ROWS
    while (
        rows > FEWEST_ROWS and triton.cdiv(planes, pack) * strips * triton.cdiv(half(size)[0], rows) < ENOUGH_PROGRAMS
    ):
        rows //= 2
    return rows


def with_strides(images: Sequence[Tensor | None], strides: Sequence[Strides]) -> list[tuple[Tensor | int, ...] | None]:
    return [None if x is None else (x, *steps) for x, steps in zip(images, strides, strict=True)]


def run_level(mode: Mode, level: Level, border: str, rows: int | None = None) -> None:
    found = described(level.images)
    if found is None:
        return run_copied(mode, level, border, rows)
    inner, strides = found
    (height, width), planes = level.size, planes_of(level.source)
    low_height, low_width = half(level.size)
    pack, margin, strips = packing(width)
    rows = rows or rows_of(level.size, planes)
    segments = triton.cdiv(low_height, rows)
    with torch.cuda.device_of(level.source):
        level_kernel[(triton.cdiv(planes, pack) * strips * segments,)](
            *with_strides(level.images, strides), level.coefficients, level.partials,
            planes, rows, strips, segments, height, width, low_height, low_width,
            codes(level.size, border, mode.adjoint), inner,
            REDUCE=mode.reduce, EXPAND=mode.expand, ADJOINT=mode.adjoint, SUBTRACT=mode.subtract, USE=mode.use,
            ACCUMULATE=accumulator(level.low_in if mode.use == SIGNS.value else level.source), INDEX=index_type(height, width),
            FINE=LANES, PACK=pack, MARGIN=margin, num_warps=1, num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip


def run_copied(mode: Mode, level: Level, border: str, rows: int | None) -> None:
    """For strides that take more than two leading dimensions."""
    copied = {}
    for name in ("fine_in", "target", "mask", "low_in"):
        x = getattr(level, name)
        copied[name] = None if x is None else x.contiguous()
    for name in ("low_out", "fine_out"):
        x = getattr(level, name)
        copied[name] = None if x is None else torch.empty(x.shape, dtype=x.dtype, device=x.device)
    run_level(mode, level._replace(**copied), border, rows)
    for name in ("low_out", "fine_out"):
        if copied[name] is not None:
            getattr(level, name).copy_(copied[name])


def in_one_launch(levels: Sequence[Level]) -> bool:
    side = max(levels[0].size)
    if side > ONE_LAUNCH_LARGE_SIDE or (side > ONE_LAUNCH_SIDE and planes_of(levels[0].source) < ONE_LAUNCH_PLANES):
        return False
    return all(x is None or x.is_contiguous() for level in levels for x in level.images)


def run_levels(mode: Mode, levels: Sequence[Level], border: str, upwards: bool) -> None:
    """Levels fine to coarse, each of which reads what the one before wrote; upwards: from the coarsest."""
    source = levels[0].source
    if source.numel() == 0:
        return
    if len(levels) == 1 or not in_one_launch(levels):
        for level in reversed(levels) if upwards else levels:
            run_level(mode, level, border)
        return
    pack, _, _ = packing(levels[0].size[1])
    planes = planes_of(source)
    pointers = zip(*((x.fine_in, x.low_in, x.low_out, x.fine_out) for x in levels), strict=True)
    with torch.cuda.device_of(source):
        pyramid_kernel[(triton.cdiv(planes, pack),)](
            *pointers, planes, tuple(codes(level.size, border, mode.adjoint) for level in levels),
            SIZES=tuple(level.size for level in levels), LEVELS=len(levels), UPWARDS=upwards,
            REDUCE=mode.reduce, EXPAND=mode.expand, ADJOINT=mode.adjoint, SUBTRACT=mode.subtract,
            ACCUMULATE=accumulator(source), FINE=LANES, PACK=pack,
            num_warps=1, num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip
