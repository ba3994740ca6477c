"""Programs of autoregressive networks, and categorical draws, on the C++ kernels of csrc/cpu/.

A program is compiled, its weights packed, once for each instruction set. Here is decided where its buffers lie: what is read only
in the phase and at the place where it was just written is kept for that place alone, and the next such buffer takes its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lapcore import _C
from lapcore.native import random
from lapcore.native.memory import CPU, DTYPES
from lapcore.native.threads import threads
from lapcore.reference.pixelcnn_program import (
    Add,
    Cat,
    Categorical,
    ConcatElu,
    Conv,
    Embed,
    Gated,
    Instruction,
    Ones,
    Program,
    Relu,
    Shuffle,
    sources,
)
from lapcore.reference.pixelcnn_sampler import noise_rows

# As StepKind and StepPhase in csrc/common/pixelcnn_sampler.h.
KINDS: dict[type[Any], int] = {Conv: 0, Relu: 1, ConcatElu: 2, Gated: 3, Add: 5, Cat: 6, Ones: 7, Shuffle: 8, Embed: 9}
IDENTITY_GATE = 4
PHASES = ("row", "pixel", "drawn")

_compiled: WeakKeyDictionary[Program, dict[str, _C.PixelProgram]] = WeakKeyDictionary()


def categorical(logits: Tensor, u: Tensor) -> Tensor:
    logits, u = logits.contiguous(), u.contiguous()
    indices = torch.empty(len(u), dtype=torch.int64, device=CPU)
    rows, levels = logits.shape
    addresses = logits.data_ptr(), u.data_ptr(), indices.data_ptr()
    _C.categorical(DTYPES[logits.dtype], threads(), rows, levels, *addresses)
    return indices


def sample_program(
    program: Program, seeds: Tensor, conditions: Sequence[Tensor], given: Tensor | None, known: Tensor | None
) -> Tensor:
    by_isa = _compiled.setdefault(program, {})
    isa = _C.isa()
    if isa not in by_isa:
        by_isa[isa] = compile_program(program)
    rows = noise_rows(program)
    noise = random.uniform((len(seeds), rows, *program.size), seeds, 0, seeds.device, torch.float32)
    out = torch.empty(len(seeds), program.channels, *program.size, dtype=torch.float32, device=CPU)
    # Of maps of conditions, the images of a place are side by side.
    kept = [(c if c.dim() == 2 else c.permute(2, 3, 0, 1)).contiguous() for c in conditions]
    given, known = (None if x is None else x.contiguous() for x in (given, known))
    by_isa[isa].run(
        threads(),
        len(seeds),
        noise.data_ptr(),
        rows,
        0 if given is None else given.data_ptr(),
        0 if known is None else known.data_ptr(),
        [(c.data_ptr(), c.shape[-1], c.dim() == 4) for c in kept],
        out.data_ptr(),
    )
    return out


def compile_program(program: Program) -> _C.PixelProgram:
    table, weights = steps(program, lambda matrix: matrix)
    head = program.head
    levels = head.levels if isinstance(head, Categorical) else 0
    compiled: _C.PixelProgram = _C.compile_pixel_program(
        program.size,
        program.channels,
        program.groups,
        maps(program),
        table,
        weights.data_ptr(),
        (levels == 0, head.src, levels),
    )
    return compiled


def maps(program: Program) -> list[tuple[int, ...]]:
    """The members of PixelMap."""
    storage, one_place = place_buffers(program)
    return [
        (
            buffer.channels,
            buffer.level,
            program.rings[b],
            program.borders[b],
            program.size_of(b)[1],
            storage[b],
            int(one_place[b]),
        )
        for b, buffer in enumerate(program.buffers)
    ]


def place_buffers(program: Program) -> tuple[list[int], list[bool]]:
    """Of each buffer, the number of its storage, and whether it is kept for one place."""
    passing = [phase != "drawn" for phase in program.buffer_phases]
    last_reader = [-1] * len(program.buffers)
    for i, (instruction, phase) in enumerate(zip(program.instructions, program.phases, strict=True)):
        for b in sources(instruction):
            last_reader[b] = i
            passing[b] &= program.buffer_phases[b] == phase and not isinstance(instruction, Shuffle)
    last_reader[program.head.src] = len(program.instructions)
    passing[program.head.src] &= program.buffer_phases[program.head.src] == "pixel"
    passing = [p and program.rings[b] == 1 and program.borders[b] == 0 for b, p in enumerate(passing)]
    # Of several groups, each reads what the ones before it left in a pixel's buffer.
    shared = [p and (program.groups == 1 or program.buffer_phases[b] == "row") for b, p in enumerate(passing)]
    storage = [0] * len(program.buffers)
    free: dict[tuple[str, int], list[int]] = {}
    count = 1
    for i, instruction in enumerate(program.instructions):
        b = instruction.dst
        if shared[b] and free.get(_kind(program, b)):
            storage[b] = free[_kind(program, b)].pop()
        else:
            storage[b], count = count, count + 1
        for used in {*sources(instruction), b}:
            if shared[used] and max(last_reader[used], 0) <= i:
                free.setdefault(_kind(program, used), []).append(storage[used])
    one_place = [p and program.buffer_phases[b] == "pixel" for b, p in enumerate(passing)]
    return storage, one_place


def _kind(program: Program, b: int) -> tuple[str, int]:
    """Buffers of one kind may follow each other in one storage."""
    buffer, phase = program.buffers[b], program.buffer_phases[b]
    return phase, buffer.channels * (program.size_of(b)[1] if phase == "row" else 1)


def steps(program: Program, pack: Callable[[Tensor], Tensor]) -> tuple[list[tuple[int, ...]], Tensor]:
    """The members of PixelStep, and the weights in which they say where theirs are: matrices (outputs, inputs) as `pack` lays them
    out, biases and tables."""
    table: list[tuple[int, ...]] = []
    weights: list[Tensor] = []
    end = 0

    def put(tensor: Tensor) -> int:
        """Each begins at a multiple of 16 bytes."""
        nonlocal end
        begin, flat = end, tensor.flatten()
        weights.append(nn.functional.pad(flat, (0, -len(flat) % 4)))
        end += len(weights[-1])
        return begin

    for instruction, phase in zip(program.instructions, program.phases, strict=True):
        a, b = (*sources(instruction), *sources(instruction))[:2]
        whole = phase == "row" and not isinstance(instruction, Conv)
        # kernel_height, kernel_width, stride, taps, centre, condition, weight, bias, levels, dim
        rest = 0, 0, 1, 0, 0, -1, 0, -1, 0, 0
        if isinstance(instruction, Embed):
            rest = 0, 0, 1, 0, 0, -1, put(instruction.table), -1, *instruction.table.shape[1:]
        for group in range(1 if whole else program.groups):
            all_of_it = [range(program.buffers[instruction.dst].channels)]
            for part in all_of_it if whole else program.channels_of(instruction.dst, group):
                if isinstance(instruction, Conv):
                    weight = put(pack(program.matrix(instruction, group, part)))
                    bias = -1 if instruction.bias is None else put(instruction.bias[part.start : part.stop])
                    condition = -1 if instruction.condition is None else instruction.condition
                    kernel, live = instruction.weight.shape[2:], program.live(instruction, group)
                    rest = *kernel, instruction.stride, *live, condition, weight, bias, 0, 0
                where = PHASES.index(phase), group, a, b, instruction.dst, part.start, len(part)
                table.append((_kind_of(instruction), *where, *rest))
    return table, torch.cat(weights) if weights else torch.empty(0, device=CPU)


def _kind_of(instruction: Instruction) -> int:
    if isinstance(instruction, Gated) and instruction.first == "identity":
        return IDENTITY_GATE
    return KINDS[type(instruction)]
