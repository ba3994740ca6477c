"""Programs: autoregressive networks flattened into instructions, which are run at one pixel after the other.

A network whose value at a pixel depends on the pixels before it alone (rows from the top, each from the left, colour groups in
order) need not be run once for every pixel. Each of its maps is kept as a buffer, and each of its layers is an instruction that
fills in one place of a buffer as soon as what it reads is known: in the end the network has run once.

Buffers. Number 0 is the image, `channels` maps of values in [-1, 1], of `size` (H, W). A buffer of level L has size
    ceil(H / 2^L) x ceil(W / 2^L): its place (y, x) belongs to the pixel (y 2^L, x 2^L). Outside there are zeros. Every other
    buffer is written by one instruction, before (in the program's order) it is read. Of a buffer with G = `groups` colour groups
    channel c of C is in group c G // C; of one that is `gated`, whose halves are to be the tanh and the sigmoid of a gate, each
    half is grouped so.
Phases. What an instruction reads decides when it runs (`phases`), in the program's order among those of the same time:
    "row"    for whole rows, all groups, before the row's first pixel: reads only rows above, or what is of this phase itself
    "pixel"  at each pixel for each group in turn, just before that group is drawn, the channels of that group alone
    "drawn"  the same, just after it was drawn: reads the image at the pixel itself (Ones and Embed of the image)
    An instruction whose destination is of level L runs in rows, and at pixels of these rows, that are divisible by 2^L.
    A Conv of mask "above" is of phase "row" whatever it reads, and so is any instruction that reads buffers of phase "row" alone;
    any other Conv must be causal: "A" of buffers of every phase; "B" of those of phase "pixel", with the program's groups; "rows"
    of those of phase "pixel" if the program has one group and no tap stands right of the centre. With several groups,
    ConcatElu, Cat, Ones and Shuffle, which mix up channels' groups, are of phase "row" only.
Rings. Of a buffer the last `rings` rows are read, the present one included, and `borders` columns beyond either edge (zeros).

The arithmetic of an instruction is that of the operation of its name, lapcore.masked_conv2d first (see there for masks and for
the order of its sums), so that on the cpu backend and in cuda's float32 mode a program gives, to the bit, what the network does.
Everything is float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lapcore.reference.likelihood import groups as parameter_groups
from lapcore.reference.masked_conv import MASKS, centre_channels, whole_taps


@dataclass(frozen=True)
class Buffer:
    """A map: how many channels, at which level, and whether its halves are grouped each by itself."""

    channels: int
    level: int = 0
    gated: bool = False


@dataclass(frozen=True, eq=False)
class Conv:
    """dst = masked_conv2d(src, weight, bias, mask=, color_groups=, condition=, stride=); the group layout is that of dst.

    weight (O, C, kh, kw) and bias (O,), or None. condition: the number of what is added to each image after the bias, or None.
    stride 1, or 2 where dst is of the next level.
    """

    src: int
    dst: int
    weight: Tensor
    bias: Tensor | None
    mask: str
    color_groups: int = 1
    condition: int | None = None
    stride: int = 1


@dataclass(frozen=True)
class Relu:
    """dst = max(src, 0)"""

    src: int
    dst: int


@dataclass(frozen=True)
class ConcatElu:
    """dst = [elu(src), elu(-src)], of twice the channels."""

    src: int
    dst: int


@dataclass(frozen=True)
class Gated:
    """dst = tanh(first half of src) * sigmoid(second half), or, with first="identity", first half * sigmoid(second half)."""

    src: int
    dst: int
    first: str = "tanh"


@dataclass(frozen=True)
class Add:
    """dst = a + b"""

    a: int
    b: int
    dst: int


@dataclass(frozen=True)
class Cat:
    """dst = the channels of a, then those of b."""

    a: int
    b: int
    dst: int


@dataclass(frozen=True)
class Ones:
    """dst = src and one more channel, of ones (zeros outside of the image)."""

    src: int
    dst: int


@dataclass(frozen=True)
class Shuffle:
    """dst(c, y, x) = src(4 c + 2 (y % 2) + x % 2, y // 2, x // 2): a pixel shuffle by 2, one level finer."""

    src: int
    dst: int


@dataclass(frozen=True, eq=False)
class Embed:
    """dst(c d + e) = table[c, level of src(c), e], table (C, K, d); the level is round((x + 1) ((K - 1) / 2)). src is the image."""

    src: int
    dst: int
    table: Tensor


@dataclass(frozen=True)
class Categorical:
    """The head: src (channels * levels) are logits of each channel; value k of `levels` is 2 k / (levels - 1) - 1 in the image."""

    src: int
    levels: int


@dataclass(frozen=True)
class Mixture:
    """The head: src are parameters of lapcore.sample_discretized_logistic_mixture, which draws all channels of a pixel, snapped."""

    src: int


Instruction = Conv | Relu | ConcatElu | Gated | Add | Cat | Ones | Shuffle | Embed
Head = Categorical | Mixture


def sources(instruction: Instruction) -> tuple[int, ...]:
    if isinstance(instruction, Add | Cat):
        return instruction.a, instruction.b
    return (instruction.src,)


@dataclass(frozen=True, eq=False)
class Program:
    """A network as instructions (see the module). `conditions`: the shape, without the batch, of each tensor that is given at run
    time and that a Conv adds: (O,), or (O, H, W) of its destination. Raises ValueError where it cannot be run.

    Its weights are not to be written to any more: a backend packs them at the first run, and keeps that.
    """

    size: tuple[int, int]
    channels: int
    buffers: tuple[Buffer, ...]
    instructions: tuple[Instruction, ...]
    head: Head
    groups: int = 1
    conditions: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        _check_frame(self)
        _ = self.phases
        _check_head(self)

    @cached_property
    def device(self) -> torch.device:
        return next((t.device for t in self.tensors()), torch.device("cpu"))

    @cached_property
    def phases(self) -> tuple[str, ...]:
        """Of each instruction: "row", "pixel" or "drawn"."""
        return tuple(_phases(self))

    @cached_property
    def buffer_phases(self) -> tuple[str, ...]:
        """Of each buffer, that of what writes it: "drawn" of the image."""
        written = {instruction.dst: phase for instruction, phase in zip(self.instructions, self.phases, strict=True)}
        return tuple("drawn" if b == 0 else written[b] for b in range(len(self.buffers)))

    @cached_property
    def rings(self) -> tuple[int, ...]:
        """Of each buffer, how many rows are read at a time, from the present one upwards."""
        rows = [1] * len(self.buffers)
        for conv in self.convolutions():
            rows[conv.src] = max(rows[conv.src], conv.weight.shape[2] // 2 + 1)
        return tuple(rows)

    @cached_property
    def borders(self) -> tuple[int, ...]:
        """Of each buffer, how many columns are read beyond either edge."""
        columns = [0] * len(self.buffers)
        for conv in self.convolutions():
            columns[conv.src] = max(columns[conv.src], conv.weight.shape[3] // 2)
        return tuple(columns)

    def size_of(self, buffer: int) -> tuple[int, int]:
        step = 1 << self.buffers[buffer].level
        return -(-self.size[0] // step), -(-self.size[1] // step)

    def channels_of(self, buffer: int, group: int) -> list[range]:
        """The channels of a colour group of a buffer: one range, or two of a gated one."""
        halves = 2 if self.buffers[buffer].gated and self.groups > 1 else 1
        count = self.buffers[buffer].channels // halves
        first, last = (-(-g * count // self.groups) for g in (group, group + 1))
        return [range(half * count + first, half * count + last) for half in range(halves)]

    def live(self, conv: Conv, group: int) -> tuple[int, int]:
        """For the output channels of a colour group: how many taps, the first in raster order, are live for all input channels, and
        for how many, the first, the next tap is."""
        out, into, *kernel = conv.weight.shape
        taps = whole_taps(conv.mask, (kernel[0], kernel[1]))
        if conv.mask in ("rows", "above"):
            return taps, 0
        first = self.channels_of(conv.dst, group)[0].start
        return taps, centre_channels(conv.mask, into, out, conv.color_groups, self.buffers[conv.dst].gated)[first]

    def matrix(self, conv: Conv, group: int, outputs: range) -> Tensor:
        """The live weights of some outputs of a group, (outputs, inputs): tap by tap, of each its channels."""
        taps, centre = self.live(conv, group)
        weight = conv.weight[outputs.start : outputs.stop].flatten(2)
        whole = weight[:, :, :taps].transpose(1, 2).flatten(1)
        return torch.cat([whole, weight[:, :centre, taps]], 1) if centre else whole

    def convolutions(self) -> Iterator[Conv]:
        return (instruction for instruction in self.instructions if isinstance(instruction, Conv))

    def tensors(self) -> Iterator[Tensor]:
        """Weights, biases and tables."""
        for instruction in self.instructions:
            if isinstance(instruction, Conv):
                yield instruction.weight
                if instruction.bias is not None:
                    yield instruction.bias
            elif isinstance(instruction, Embed):
                yield instruction.table


def _require(condition: bool, what: str, expected: str, got: object) -> None:
    if not condition:
        raise ValueError(f"{what}: expected {expected}, got {got}")


def _check_frame(program: Program) -> None:
    _require(len(program.size) == 2 and min(program.size) >= 1, "size", "(H, W) of at least 1", program.size)
    _require(program.channels >= 1, "channels", "at least 1", program.channels)
    _require(program.groups in (1, program.channels), "groups", f"1 or channels, {program.channels}", program.groups)
    buffers = program.buffers
    _require(
        bool(buffers) and buffers[0] == Buffer(program.channels),
        "buffers[0]",
        f"the image, {Buffer(program.channels)}",
        buffers[0] if buffers else "none",
    )
    for i, buffer in enumerate(buffers):
        _require(0 <= buffer.level < 16, f"buffers[{i}]", "a level of 0 to 15", buffer)
        halves = 2 if buffer.gated else 1
        least = halves * program.groups
        right = buffer.channels >= least and buffer.channels % halves == 0
        _require(right, f"buffers[{i}]", f"at least {least} channels, even if gated", buffer)
    written = [instruction.dst for instruction in program.instructions]
    _require(
        sorted(written) == list(range(1, len(buffers))),
        "instructions",
        f"each of the buffers 1 to {len(buffers) - 1} written once",
        f"destinations {written}",
    )
    for tensor in program.tensors():
        right = tensor.dtype == torch.float32 and tensor.device == program.device and tensor.is_contiguous()
        _require(
            right and not tensor.requires_grad,
            "instructions",
            f"contiguous float32 tensors without gradient on {program.device}",
            f"{tensor.dtype} on {tensor.device}, strides {tensor.stride()}, requires_grad={tensor.requires_grad}",
        )


def _phases(program: Program) -> Iterator[str]:
    """Each instruction's, after it was checked."""
    known = {0: "drawn"}
    for i, instruction in enumerate(program.instructions):
        what = f"instructions[{i}] ({type(instruction).__name__})"
        for source in sources(instruction):
            _require(source in known, what, "sources that are written before", f"buffer {source}")
        of = [known[source] for source in sources(instruction)]
        latest = min(of, key=("drawn", "pixel", "row").index)
        if isinstance(instruction, Conv):
            latest = _conv_phase(program, instruction, latest, what)
        else:
            _check_elementwise(program, instruction, known, latest, what)
        known[instruction.dst] = latest
        yield latest


def _conv_phase(program: Program, conv: Conv, source: str, what: str) -> str:
    src, dst = program.buffers[conv.src], program.buffers[conv.dst]
    _require(conv.mask in MASKS, what, f"a mask of {', '.join(MASKS)}", repr(conv.mask))
    shape = tuple(conv.weight.shape)
    right = len(shape) == 4 and shape[:2] == (dst.channels, src.channels) and min(shape) > 0
    _require(right, what, f"a weight ({dst.channels}, {src.channels}, kh, kw) of its buffers", shape)
    bias = conv.bias is None or tuple(conv.bias.shape) == shape[:1]
    _require(bias, what, f"a bias ({dst.channels},)", conv.bias is not None and tuple(conv.bias.shape))
    _require(conv.stride in (1, 2), what, "stride 1 or 2", conv.stride)
    _require(dst.level == src.level + conv.stride - 1, what, "a destination whose level is the stride's", (src, dst))
    _require(conv.color_groups in (1, program.groups), what, f"1 or {program.groups} colour groups", conv.color_groups)
    if conv.condition is not None:
        given = program.conditions
        _require(0 <= conv.condition < len(given), what, f"one of {len(given)} conditions", conv.condition)
        wanted = (dst.channels,), (dst.channels, *program.size_of(conv.dst))
        _require(
            tuple(given[conv.condition]) in wanted, what, f"a condition of shape {wanted[0]} or {wanted[1]}", given
        )
    if conv.mask == "above" or source == "row":
        return "row"
    if conv.mask != "A":
        _require(source == "pixel", what, 'mask "A" or "above", as it reads what is not drawn yet', repr(conv.mask))
    if conv.mask == "B":
        _require(conv.color_groups == program.groups, what, f"the {program.groups} groups", conv.color_groups)
    if conv.mask == "rows":
        causal = program.groups == 1 and shape[3] <= 2
        _require(causal, what, 'mask "A" or "B": "rows" reads what is not known yet', f"a kernel {shape[2:]}")
    return "pixel"


def _check_elementwise(
    program: Program, instruction: Instruction, phases: dict[int, str], phase: str, what: str
) -> None:
    buffers = program.buffers
    dst, of = buffers[instruction.dst], [buffers[source] for source in sources(instruction)]
    first, last = of[0], of[-1]
    grouped = program.groups > 1 and phase != "row"
    if grouped and isinstance(instruction, ConcatElu | Cat | Ones | Shuffle):
        raise ValueError(f"{what}: expected phase 'row' in a program of {program.groups} groups, got {phase!r}")
    expected: Buffer
    match instruction:
        case Relu():
            expected = first
        case Add():
            # Of what is known for all groups, the layout does not count.
            timed = [of[i] for i, source in enumerate(sources(instruction)) if phases[source] != "row"]
            alike = first.channels == last.channels and len({(b.level, b.gated) for b in timed}) <= 1
            _require(alike and first.level == last.level, what, "two sources alike", of)
            expected = Buffer(first.channels, first.level, timed[0].gated if timed else dst.gated)
        case ConcatElu():
            expected = Buffer(2 * first.channels, first.level, dst.gated)
        case Gated():
            _require(instruction.first in ("tanh", "identity"), what, "first 'tanh' or 'identity'", instruction.first)
            halves = first.channels % 2 == 0 and (first.gated or not grouped)
            _require(halves, what, "a source of two halves, each of which is grouped", first)
            expected = Buffer(first.channels // 2, first.level)
        case Cat():
            _require(first.level == last.level, what, "two sources of one level", of)
            expected = Buffer(first.channels + last.channels, first.level, dst.gated)
        case Ones():
            expected = Buffer(first.channels + 1, first.level, dst.gated)
        case Shuffle():
            whole = first.channels % 4 == 0 and first.level > 0
            _require(whole, what, "a source of 4 C channels and a level above 0", first)
            expected = Buffer(first.channels // 4, first.level - 1, dst.gated)
        case Embed():
            table = tuple(instruction.table.shape)
            right = len(table) == 3 and table[0] == first.channels and table[1] >= 2 and table[2] >= 1
            _require(right, what, f"a table ({first.channels}, K, d), K at least 2", table)
            _require(instruction.src == 0, what, "the image, buffer 0, as its source", instruction.src)
            expected = Buffer(first.channels * table[2], first.level)
        case _:
            raise AssertionError(instruction)
    _require(dst == expected, what, f"destination {expected}", dst)


def _check_head(program: Program) -> None:
    head = program.head
    _require(0 < head.src < len(program.buffers), "head", "a buffer that is written", head.src)
    source = program.buffers[head.src]
    right = source.level == 0 and not source.gated and program.buffer_phases[head.src] != "drawn"
    _require(right, "head", "a source of level 0 that does not depend on what is drawn", source)
    if isinstance(head, Categorical):
        _require(head.levels >= 2, "head", "at least 2 levels", head.levels)
        wanted = program.channels * head.levels
        _require(source.channels == wanted, "head", f"a source of {wanted} channels", source)
    else:
        _require(program.groups == 1, "head", "one colour group beside a Mixture", program.groups)
        _require(program.channels in (1, 3), "head", "1 or 3 image channels beside a Mixture", program.channels)
        each = 1 + program.channels * parameter_groups(program.channels)
        _require(source.channels % each == 0, "head", f"a source of {each} K channels", source)
