"""Draws of autoregressive networks in plain PyTorch: the readable definition of how a program (pixelcnn_program.py) is run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lapcore.reference import likelihood, random
from lapcore.reference.masked_conv import concat_elu, gated_activation
from lapcore.reference.pixelcnn_program import (
    Add,
    Cat,
    Categorical,
    ConcatElu,
    Conv,
    Embed,
    Gated,
    Instruction,
    Mixture,
    Ones,
    Program,
    Relu,
    Shuffle,
)


def categorical(logits: Tensor, u: Tensor) -> Tensor:
    """logits (N, L), u (N,), of one of float32 and float64 -> (N,), int64."""
    largest = logits.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf).amax(1, keepdim=True)
    p = torch.where(logits == largest, 1.0, (logits - largest).exp().nan_to_num(nan=0.0))
    sums = p.cumsum(1)
    past = sums > u[:, None] * sums[:, -1:]
    order = torch.arange(logits.shape[1], device=logits.device)
    last = torch.where(p > 0, order, 0).amax(1)
    return torch.where(past.any(1), past.to(torch.uint8).argmax(1), last)


def level_values(levels: int, device: torch.device) -> Tensor:
    """(levels,): the image's values 2 k / (levels - 1) - 1, each operation rounded to float32, by the CPU's division."""
    return (torch.arange(levels, dtype=torch.float32, device="cpu") * 2 / (levels - 1) - 1).to(device)


def level_indices(values: Tensor, levels: int) -> Tensor:
    """The nearest levels, int64, as lapcore.nn.Embed takes them; of NaN 0."""
    scaled = (values.nan_to_num(nan=-1.0) + 1) * ((levels - 1) / 2)
    return scaled.round().clamp(0, levels - 1).long()


def noise_rows(program: Program) -> int:
    """How many uniforms a pixel takes, those of the maps (N, rows, H, W) that belong to it."""
    if isinstance(program.head, Categorical):
        return program.channels
    size = program.buffers[program.head.src].channels
    return likelihood.components(size, program.channels) + program.channels


def sample_program(
    program: Program, seeds: Tensor, conditions: Sequence[Tensor], given: Tensor | None, known: Tensor | None
) -> Tensor:
    """(N, C, H, W), float32. given (N, C, H, W), known (N, C, H, W) of bool, or both None."""
    run = _Run(program, seeds, conditions)
    height, width = program.size
    with torch.no_grad(), torch.autocast(seeds.device.type, enabled=False):
        for y in range(height):
            run.instructions("row", y, None, range(program.groups))
            for x in range(width):
                for group in range(program.groups):
                    run.instructions("pixel", y, x, (group,))
                    run.draw(y, x, group, given, known)
                    run.instructions("drawn", y, x, (group,))
    return run.view(0, slice(None), slice(None), slice(None)).contiguous()


class _Run:
    """The buffers as whole maps, zero where nothing is known yet, with the zeros around them that convolutions read."""

    def __init__(self, program: Program, seeds: Tensor, conditions: Sequence[Tensor]) -> None:
        self.program, self.conditions = program, conditions
        self.maps: list[Tensor] = []
        for b, buffer in enumerate(program.buffers):
            height, width = program.size_of(b)
            rows, columns = height + program.rings[b] - 1, width + 2 * program.borders[b]
            shape = len(seeds), buffer.channels, rows, columns
            self.maps.append(torch.zeros(shape, dtype=torch.float32, device=seeds.device))
        drawn = len(seeds), noise_rows(program), *program.size
        self.noise = random.uniform(drawn, seeds, 0, seeds.device, torch.float32)
        self.matrices: dict[tuple[int, int], Tensor] = {}

    def view(self, b: int, channels: slice, rows: slice, columns: slice) -> Tensor:
        """Of a buffer's map, without what is around it."""
        height, width = self.program.size_of(b)
        top, left = self.program.rings[b] - 1, self.program.borders[b]
        return self.maps[b][:, channels, top : top + height, left : left + width][:, :, rows, columns]

    def instructions(self, phase: str, y: int, x: int | None, groups: Sequence[int]) -> None:
        """Those of a phase whose turn it is: of a row, where x is None, or of a pixel."""
        for instruction, own in zip(self.program.instructions, self.program.phases, strict=True):
            step = 1 << self.program.buffers[instruction.dst].level
            if own != phase or y % step or (x is not None and x % step):
                continue
            width = self.program.size_of(instruction.dst)[1]
            columns = slice(0, width) if x is None else slice(x // step, x // step + 1)
            if isinstance(instruction, Conv):
                for group in groups:
                    self.convolve(instruction, y // step, columns, group)
            else:
                channels = [slice(None)] if x is None else self.channels(instruction.dst, groups[0])
                for part in channels:
                    to = self.view(instruction.dst, part, slice(y // step, y // step + 1), columns)
                    to.copy_(self.elementwise(instruction, part, y // step, columns))

    def channels(self, b: int, group: int) -> list[slice]:
        return [slice(part.start, part.stop) for part in self.program.channels_of(b, group)]

    def convolve(self, conv: Conv, y: int, columns: slice, group: int) -> None:
        """The live inputs of each place, tap by tap, times the live weights; on buffers that hold what is read alone."""
        kh, kw = conv.weight.shape[2:]
        taps, centre = self.program.live(conv, group)
        source, ring = self.maps[conv.src], self.program.rings[conv.src]
        read: list[Tensor] = []
        for tap in range(taps + (centre > 0)):
            row = ring - 1 + conv.stride * y + tap // kw - kh // 2
            first = self.program.borders[conv.src] + conv.stride * columns.start + tap % kw - kw // 2
            last = first + conv.stride * (columns.stop - columns.start - 1) + 1
            read.append(source[:, : None if tap < taps else centre, row, first : last : conv.stride])
        for outputs in self.program.channels_of(conv.dst, group):
            part = slice(outputs.start, outputs.stop)
            to = self.view(conv.dst, part, slice(y, y + 1), columns).squeeze(2)
            if read:
                inputs = torch.cat(read, 1).transpose(1, 2)
                to.copy_(F.linear(inputs, self.matrix(conv, group, outputs)).transpose(1, 2))
            if conv.bias is not None:
                to += conv.bias[part, None]
            if conv.condition is not None:
                condition = self.conditions[conv.condition][:, part]
                to += condition[:, :, None] if condition.dim() == 2 else condition[:, :, y, columns]

    def matrix(self, conv: Conv, group: int, outputs: range) -> Tensor:
        key = conv.dst, outputs.start
        if key not in self.matrices:
            self.matrices[key] = self.program.matrix(conv, group, outputs)
        return self.matrices[key]

    def elementwise(self, instruction: Instruction, part: slice, y: int, columns: slice) -> Tensor:
        """The channels `part` of the destination."""

        def of(source: int, channels: slice = slice(None)) -> Tensor:
            return self.view(source, channels, slice(y, y + 1), columns)

        match instruction:
            case Relu(src):
                return torch.relu(of(src, part))
            case Add(a, b):
                return of(a, part) + of(b, part)
            case Gated(src, _, first):
                halves = of(src).chunk(2, 1)
                return gated_activation(torch.cat([half[:, part] for half in halves], 1), first)
            case ConcatElu(src):
                return concat_elu(of(src))
            case Cat(a, b):
                return torch.cat([of(a), of(b)], 1)
            case Ones(src):
                return F.pad(of(src), (0, 0, 0, 0, 0, 1), value=1.0)
            case Shuffle(src):
                rows, sources = slice(y // 2, y // 2 + 1), slice(columns.start // 2, (columns.stop + 1) // 2)
                both = F.pixel_shuffle(self.view(src, slice(None), rows, sources), 2)
                first = columns.start % 2
                return both[:, :, y % 2 : y % 2 + 1, first : first + columns.stop - columns.start]
            case Embed(src, _, table):
                index = level_indices(of(src), table.shape[1])
                order = torch.arange(len(table), device=table.device)[:, None, None]
                return table[order, index].movedim(-1, 2).flatten(1, 2)[:, part]
        raise AssertionError(instruction)

    def draw(self, y: int, x: int, group: int, given: Tensor | None, known: Tensor | None) -> None:
        program, head = self.program, self.program.head
        place = slice(y, y + 1), slice(x, x + 1)
        (channels,) = self.channels(0, group)
        to = self.view(0, channels, *place)
        source, u = self.view(head.src, slice(None), *place), self.noise[:, :, *place]
        match head:
            case Categorical(_, levels):
                logits = source.view(len(source), program.channels, levels)[:, channels].flatten(0, 1)
                index = categorical(logits, u[:, channels].flatten()).view(to.shape)
                drawn = level_values(levels, to.device)[index]
            case Mixture():
                drawn = likelihood.draw(source, program.channels, u, snap=True)
        if given is not None and known is not None:
            drawn = torch.where(known[:, channels, *place], given[:, channels, *place], drawn)
        to.copy_(drawn)
