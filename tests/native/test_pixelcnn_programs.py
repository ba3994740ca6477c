"""Programs on csrc/cpu: every instruction set, every tail of a tile, slices and threads, and where buffers lie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import lapcore
from lapcore import native
from lapcore.nn import MaskedConv2d
from lapcore.nn.tracing import program_of
from lapcore.ops.pixelcnn_sampler import Categorical, Program
from lapcore.reference.pixelcnn_program import sources
from tests.autoregressive import naive, networks
from tests.tolerance import assert_same_bits

if (reason := native.missing()) is not None:
    pytest.skip(reason, allow_module_level=True)

from lapcore import _C
from lapcore.native.pixelcnn_sampler import place_buffers

NETWORKS = networks()
every_isa = pytest.mark.parametrize("isa", _C.isas())


@pytest.fixture(autouse=True)
def on_the_cpu_backend() -> Iterator[None]:
    with lapcore.backend("cpu"):
        yield


def conditions_of(program: Program, n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(n, *shape, generator=generator) for shape in program.conditions]


@every_isa
@pytest.mark.parametrize("name", NETWORKS)
def test_every_isa_runs_the_network(name: str, isa: str) -> None:
    _C.use_isa(isa)
    network, program = NETWORKS[name]
    seeds, conditions = torch.arange(2), conditions_of(program, 2)
    assert_same_bits(lapcore.sample_program(program, seeds, conditions), naive(network, program, seeds, *conditions))


@pytest.mark.parametrize("name", ["colour", "stacks", "streams"])
def test_slices_and_threads(name: str) -> None:
    """More images than a slice takes, and every number of images up to more than two tiles, of one batch's images."""
    _, program = NETWORKS[name]
    seeds, conditions = torch.arange(150), conditions_of(program, 150)
    whole = lapcore.sample_program(program, seeds, conditions)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert_same_bits(lapcore.sample_program(program, seeds, conditions), whole)
    for n in range(1, 27):
        part = slice(150 - n, 150)
        assert_same_bits(lapcore.sample_program(program, seeds[part], [c[part] for c in conditions]), whole[part])


class Wide(nn.Module):
    def __init__(self, channels: int, hidden: int, levels: int) -> None:
        super().__init__()
        self.first = MaskedConv2d(channels, hidden, 3, mask="A", color_groups=channels, activation="relu")
        self.second = MaskedConv2d(hidden, hidden + 1, (2, 3), mask="B", color_groups=channels, activation="relu")
        self.last = MaskedConv2d(hidden + 1, channels * levels, 1, mask="B", color_groups=channels)
        for parameter in self.parameters():
            parameter.data *= 3

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.second(self.first(image)))


@every_isa
@pytest.mark.parametrize("hidden", [3, 4, 15, 16, 17, 31, 33, 47, 49, 64, 81, 100])
def test_every_number_of_columns(hidden: int, isa: str) -> None:
    """Panels of one, two and three vectors, whole and not, for one group and for three."""
    _C.use_isa(isa)
    torch.manual_seed(hidden)
    for channels in (1, 3):
        network = Wide(channels, hidden, 7)
        head = lambda src: Categorical(src, 7)  # noqa: E731
        program = program_of(network, (4, 5), channels, head, color_groups=channels)
        seeds = torch.arange(5)
        assert_same_bits(lapcore.sample_program(program, seeds), naive(network, program, seeds))


@pytest.mark.parametrize("name", NETWORKS)
def test_buffers_that_share_memory_are_not_alive_together(name: str) -> None:
    _, program = NETWORKS[name]
    storage, one_place = place_buffers(program)
    written = {instruction.dst: i for i, instruction in enumerate(program.instructions)}
    read: dict[int, list[int]] = {b: [written.get(b, -1)] for b in range(len(program.buffers))}
    for i, instruction in enumerate(program.instructions):
        for b in sources(instruction):
            read[b].append(i)
    read[program.head.src].append(len(program.instructions))
    for b in range(len(program.buffers)):
        for other in range(b):
            if storage[b] == storage[other]:
                first, second = sorted((b, other), key=lambda each: written[each])
                assert max(read[first]) < written[second], (first, second)
                assert program.buffer_phases[b] == program.buffer_phases[other]
    for b, alone in enumerate(one_place):
        if alone:
            assert program.rings[b] == 1 and program.borders[b] == 0
            readers = [i for i in read[b][1:] if i < len(program.instructions)]
            assert all(program.phases[i] == program.buffer_phases[b] == "pixel" for i in readers)
    assert len(set(storage)) < len(storage) or program.groups > 1


def test_a_program_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from lapcore.native import pixelcnn_sampler

    compiled: list[Program] = []
    compile_program = pixelcnn_sampler.compile_program
    monkeypatch.setattr(
        pixelcnn_sampler, "compile_program", lambda program: compiled.append(program) or compile_program(program)
    )
    network, _ = NETWORKS["grey"]
    program = program_of(network, (6, 7), 1, lambda src: Categorical(src, 2))
    for _ in range(3):
        lapcore.sample_program(program, torch.arange(2))
    assert len(compiled) == 1


class Exact(nn.Module):
    """Logits (0, 0) where what the inner network gives equals minus the condition to the bit, and else a large second one."""

    def __init__(self, inner: nn.Module, outputs: int, channels: int, groups: int) -> None:
        super().__init__()
        of = {"mask": "B", "color_groups": groups, "bias": False}
        self.inner = inner
        self.minus = MaskedConv2d(outputs, outputs, 1, **of)
        self.more = MaskedConv2d(outputs, 2 * channels, 1, **of)
        with torch.no_grad():
            self.minus.weight.copy_(torch.eye(outputs)[:, :, None, None])
            self.more.weight.zero_()
            self.more.weight[1::2] = 1e30 * torch.linspace(1, 2, outputs)[:, None, None]

    def forward(self, image: Tensor, expected: Tensor, *conditions: Tensor) -> Tensor:
        return self.more(self.minus(self.inner(image, *conditions), expected))


@every_isa
@pytest.mark.parametrize("name", NETWORKS)
def test_every_sum_has_the_bits_of_the_network(name: str, isa: str) -> None:
    """The draws are those of even odds only if every output of the network, at every pixel, is what the operations give."""
    _C.use_isa(isa)
    inner, of = NETWORKS[name]
    outputs, channels = of.buffers[of.head.src].channels, of.channels
    seeds, conditions = torch.arange(7), conditions_of(of, 7)
    u = lapcore.random.uniform((7, channels, *of.size), seeds)
    image = (u >= 0.5).float() * 2 - 1
    with torch.no_grad():
        expected = inner(image, *conditions)
    network = Exact(inner, outputs, channels, of.groups)
    shapes = [tuple(expected.shape[1:]), *of.conditions]
    program = program_of(
        network, of.size, channels, lambda src: Categorical(src, 2), color_groups=of.groups, conditions=shapes
    )
    assert_same_bits(lapcore.sample_program(program, seeds, [-expected, *conditions]), image)
    nudged = expected.clone()
    nudged[:, :, 3, 2] = torch.nextafter(nudged[:, :, 3, 2], nudged.new_tensor(9e9))
    assert (lapcore.sample_program(program, seeds, [-nudged, *conditions]) != image).any()
