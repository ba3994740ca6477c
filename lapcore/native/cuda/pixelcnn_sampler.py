"""Programs of autoregressive networks, and categorical draws, on the CUDA kernels of csrc/cuda.

A batch is one launch. A program's tables and weights are put on its device once; its storages are those of the cpu backend, with
those of one place first, for these may lie in shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lapcore import _C
from lapcore.native import pixelcnn_sampler as native
from lapcore.native.cuda.random import describe_seeds
from lapcore.native.memory import DTYPES
from lapcore.reference.pixelcnn_program import Categorical, Program

PANEL = 256  # kPanelOutputs of csrc/cuda/pixelcnn_sampler.h

Rows = list[tuple[int, ...]]


class Tables(NamedTuple):
    """A program as csrc/cuda/pixelcnn_sampler.h takes it."""

    numbers: tuple[int, ...]  # height, width, channels, groups, mixture, head, levels, floats
    one_place: list[int]
    maps: Tensor
    steps: Tensor
    bounds: Tensor
    conditions: Tensor
    weights: Tensor


_tables: WeakKeyDictionary[Program, Tables] = WeakKeyDictionary()


def categorical(logits: Tensor, u: Tensor) -> Tensor:
    logits, u = logits.contiguous(), u.contiguous()
    indices = torch.empty(len(u), dtype=torch.int64, device=u.device)
    if len(u):
        with torch.cuda.device(u.device):
            stream = torch.cuda.current_stream().cuda_stream
            addresses = logits.data_ptr(), u.data_ptr(), indices.data_ptr()
            rows, levels = logits.shape
            _C.cuda_categorical(DTYPES[logits.dtype], stream, rows, levels, *addresses)
    return indices


def sample_program(
    program: Program, seeds: Tensor, conditions: Sequence[Tensor], given: Tensor | None, known: Tensor | None
) -> Tensor:
    if program not in _tables:
        _tables[program] = tables_of(program)
    tables = _tables[program]
    device, images = seeds.device, len(seeds)
    out = torch.empty(images, program.channels, *program.size, dtype=torch.float32, device=device)
    # Of maps of conditions, the images of a place are side by side.
    flat = [(c if c.dim() == 2 else c.permute(2, 3, 0, 1)).flatten() for c in conditions]
    added = torch.cat([*flat, out.new_empty(0)])
    given, known = (None if x is None else x.contiguous() for x in (given, known))
    with torch.cuda.device(device):
        work_bytes = _C.cuda_sample_program_work(tables.numbers, tables.one_place, images)
        work = torch.empty(work_bytes, dtype=torch.uint8, device=device)
        _C.cuda_sample_program(
            torch.cuda.current_stream().cuda_stream,
            tables.numbers,
            tables.one_place,
            tuple(table.data_ptr() for table in tables[2:]),
            images,
            describe_seeds(seeds, 0),
            added.data_ptr(),
            0 if given is None else given.data_ptr(),
            0 if known is None else known.data_ptr(),
            out.data_ptr(),
            work.data_ptr(),
        )
    return out


def tables_of(program: Program) -> Tables:
    steps, weights = native.steps(program, panels)
    maps, one_place, floats = _placed(native.maps(program))
    levels = program.head.levels if isinstance(program.head, Categorical) else 0
    numbers = *program.size, program.channels, program.groups, int(levels == 0), program.head.src, levels, floats
    parts = [_part(phase, group) for _, phase, group, *_ in steps]
    counts = [parts.count(part) for part in range(1 + 2 * program.groups)]
    ends = list(accumulate(prod(shape) for shape in program.conditions))
    conditions = [
        (end - prod(shape), shape[0], int(len(shape) > 1)) for end, shape in zip(ends, program.conditions, strict=True)
    ]

    def table(rows: Sequence[Any]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64).to(program.device)

    return Tables(
        numbers,
        one_place,
        table(maps),
        table(sorted(steps, key=lambda step: _part(step[1], step[2]))),
        table(list(accumulate(counts, initial=0))),
        table(conditions),
        weights,
    )


def panels(matrix: Tensor) -> Tensor:
    """(outputs, depth) as panels of some outputs, each (depth, outputs), the last with zeros up to a multiple of 4."""
    matrix = nn.functional.pad(matrix, (0, 0, 0, -len(matrix) % 4))
    return torch.cat([matrix[o : o + PANEL].t().flatten() for o in range(0, len(matrix), PANEL)])


def _part(phase: int, group: int) -> int:
    """Of the table of steps: row, then of each group pixel and drawn."""
    return 0 if phase == 0 else 2 * group + phase


def _placed(maps: Rows) -> tuple[Rows, list[int], int]:
    """The maps, each with where its storage begins; where the storages of one place begin and end; and the end of all."""
    sizes: dict[tuple[bool, int], int] = {}
    for channels, _, rows, border, columns, storage, one_place in maps:
        key = not one_place, storage
        size = channels * (1 if one_place else rows * (columns + 2 * border))
        sizes[key] = max(sizes.get(key, 0), size)
    order = sorted(sizes)
    ends = list(accumulate((sizes[key] for key in order), initial=0))
    begin = {storage: ends[i] for i, (_, storage) in enumerate(order)}
    ones = sum(not elsewhere for elsewhere, _ in order)
    return [(*m[:5], begin[m[5]], m[6]) for m in maps], ends[: ones + 1], ends[-1]
