"""Categorical draws against the oracle; networks run pixel by pixel against the whole network for every pixel; refusals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lapcore
from lapcore.nn import MaskedConv2d
from lapcore.nn.tracing import program_of
from lapcore.ops import pixelcnn_sampler as ops
from lapcore.ops.pixelcnn_sampler import Buffer, Categorical, Conv, Mixture, Program
from lapcore.reference import pixelcnn_sampler as reference
from tests.autoregressive import naive, networks
from tests.conftest import require_backend
from tests.oracle import pixelcnn_sampler as oracle
from tests.tolerance import ACCUMULATOR, assert_same_bits, to_numpy

NAN, INF = math.nan, math.inf
NAMES = tuple(networks())
every_network = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(params=["reference", "cpu", "cuda"])
def room(request: pytest.FixtureRequest) -> Iterator[str]:
    """A backend, under which the test then runs; its tensors are on `place(room)`."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("cuda: this machine has no CUDA device")
    require_backend(request.param, "categorical", torch.zeros(1, device=place(request.param)))
    with lapcore.backend(request.param):
        yield request.param


def place(room: str) -> str:
    return "cuda" if room == "cuda" else "cpu"


@cache
def network(name: str, device: str = "cpu") -> tuple[nn.Module, Program]:
    return networks(device=device)[name]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(program: Program, n: int, device: str = "cpu") -> tuple[Tensor, list[Tensor]]:
    """Seeds, and conditions."""
    seeds = torch.arange(n, device=device) * 7 - 3
    return seeds, [draw(n, *shape, seed=i).to(device) for i, shape in enumerate(program.conditions)]


# Categorical draws ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [1, 2, 5, 16, 67, 256])
def test_categorical(room: str, levels: int, dtype: torch.dtype) -> None:
    """u lies in the interval of what is drawn, to within the rounding of its sums: levels + 2 of them, and of exp."""
    logits = (draw(700, levels) * 3).to(place(room), dtype)
    u = lapcore.random.uniform((700,), 5, device=place(room))
    drawn = lapcore.categorical(logits, u)
    assert drawn.dtype == torch.int64 and int(drawn.min()) >= 0 and int(drawn.max()) < levels
    excess = oracle.distance(to_numpy(logits), to_numpy(u), to_numpy(drawn))
    assert excess.max() <= (levels + 8) * torch.finfo(ACCUMULATOR[dtype]).eps / 2


EXTREMES: list[tuple[list[float], float, int]] = [
    ([0, 0, 0, 0], 0.49, 1),
    ([0, 0, 0, 0], 1 - 2.0**-24, 3),
    ([0, -INF, -INF], 1 - 2.0**-24, 0),
    ([-INF, 0, -INF], 2.0**-33, 1),
    ([0, -200, 0, -200], 1 - 2.0**-24, 2),
    ([INF, 0, INF, 3], 0.6, 2),
    ([-INF, -INF], 0.6, 1),
    ([NAN, 1, NAN, 1], 0.2, 1),
    ([NAN, NAN, NAN], 0.9, 0),
    ([NAN, INF, -INF], 0.9, 1),
    ([3e38, -3e38], 0.5, 0),
    ([88, 88, -88], 0.7, 1),
]


@pytest.mark.parametrize(("row", "u", "expected"), EXTREMES)
def test_categorical_extremes(room: str, row: list[float], u: float, expected: int) -> None:
    """Alone, and beside others in the lanes of a vector."""
    for repeats in (1, 5):
        logits = torch.tensor([row] * repeats, dtype=torch.float32, device=place(room))
        drawn = lapcore.categorical(logits, torch.full((repeats,), u, device=place(room)))
        assert drawn.tolist() == [expected] * repeats
    assert oracle.categorical(np.array([row], dtype=np.float32), np.array([u])).tolist() == [expected]


def test_categorical_of_nothing(room: str) -> None:
    assert lapcore.categorical(torch.zeros(0, 3, device=place(room)), torch.zeros(0, device=place(room))).shape == (0,)


BAD_DRAWS = [
    ("logits", TypeError, lambda logits, u: (logits.numpy(), u)),
    ("logits", TypeError, lambda logits, u: (logits.int(), u)),
    ("logits", ValueError, lambda logits, u: (logits[0], u)),
    ("logits", ValueError, lambda logits, u: (logits[:, :0], u)),
    ("u", ValueError, lambda logits, u: (logits, u[:2])),
    ("u", TypeError, lambda logits, u: (logits, u.half())),
    ("u", ValueError, lambda logits, u: (logits, u.to("meta"))),
]


@pytest.mark.parametrize(("name", "error", "change"), BAD_DRAWS)
def test_categorical_refusals(name: str, error: type[Exception], change: Callable[..., Any]) -> None:
    with pytest.raises(error, match=f"^{name}: expected"):
        lapcore.categorical(*change(torch.zeros(3, 4), torch.zeros(3)))


# Networks, pixel by pixel --------------------------------------------------------------------------------------------------------


@every_network
def test_cached_is_naive(name: str, room: str) -> None:
    """The same draws as of the whole network at every pixel; on the cpu backend that holds to the bit."""
    net, program = network(name, place(room))
    seeds, conditions = inputs(program, 3, place(room))
    cached = lapcore.sample_program(program, seeds, conditions)
    assert_same_bits(cached, naive(net, program, seeds, *conditions))
    assert len(cached.unique()) > 1 and cached.abs().max() <= 1 and cached.is_contiguous()


@every_network
def test_the_references_logits_are_the_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a draw is made from, place by place, to 1e-5 of what the whole network gives for the image that was drawn."""
    net, program = network(name)
    seeds, conditions = inputs(program, 3)
    seen: dict[tuple[int, int, int], Tensor] = {}
    draw_at = reference._Run.draw

    def recording(run: Any, y: int, x: int, group: int, *rest: Any) -> None:
        at = run.view(program.head.src, slice(None), slice(y, y + 1), slice(x, x + 1))
        seen[y, x, group] = at[..., 0, 0].clone()
        draw_at(run, y, x, group, *rest)

    monkeypatch.setattr(reference._Run, "draw", recording)
    with lapcore.backend("reference"):
        image = lapcore.sample_program(program, seeds, conditions)
        with torch.no_grad():
            want = net(image, *conditions)
    assert len(seen) == program.size[0] * program.size[1] * program.groups
    each = want.shape[1] // program.groups
    for (y, x, group), got in seen.items():
        part = slice(group * each, (group + 1) * each)
        scale = float(want.abs().max())
        assert (got[:, part] - want[:, part, y, x]).abs().max() <= 1e-5 * max(scale, 1)


@pytest.mark.parametrize("name", ["grey", "colour", "colour at once", "streams"])
def test_completion(name: str, room: str) -> None:
    """What is known is taken as it is, and what is drawn after it depends on it."""
    net, program = network(name, place(room))
    seeds, conditions = inputs(program, 3, place(room))
    alone = lapcore.sample_program(program, seeds, conditions)
    given = alone.flip(0).flip(3)
    several = program.channels if name == "colour" else 1
    known = (draw(3, several, *program.size, seed=4) > 0.5).to(place(room))
    got = lapcore.sample_program(program, seeds, conditions, given=given, known=known)
    assert_same_bits(got, naive(net, program, seeds, *conditions, given=given, known=known))
    wide = known.expand_as(got)
    assert_same_bits(got[wide], given[wide])
    assert (got[~wide] != alone[~wide]).any()
    everything = torch.ones_like(known[:, :1])
    assert_same_bits(lapcore.sample_program(program, seeds, conditions, given=given, known=everything), given)


@every_network
def test_an_image_depends_on_its_own_alone(name: str, room: str) -> None:
    """Batches of any size, in any order, give the same bits: on the reference, whose sums depend on them, the same draws here."""
    _, program = network(name, place(room))
    seeds, conditions = inputs(program, 15, place(room))
    whole = lapcore.sample_program(program, seeds, conditions)
    order = torch.tensor([11, 3, 14, 0], device=place(room))
    assert_same_bits(lapcore.sample_program(program, seeds[order], [c[order] for c in conditions]), whole[order])
    assert_same_bits(lapcore.sample_program(program, seeds[7:8], [c[7:8] for c in conditions]), whole[7:8])


def test_dtypes_that_torch_is_told_do_not_count(room: str) -> None:
    _, program = network("stacks", place(room))
    seeds, conditions = inputs(program, 3, place(room))
    expected = lapcore.sample_program(program, seeds, conditions)
    with torch.autocast(place(room), dtype=torch.bfloat16):
        assert_same_bits(lapcore.sample_program(program, seeds, conditions), expected)
    torch.set_default_dtype(torch.float64)
    try:
        assert_same_bits(lapcore.sample_program(program, seeds, conditions), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_no_images(room: str) -> None:
    _, program = network("colour", place(room))
    seeds, conditions = inputs(program, 0, place(room))
    assert lapcore.sample_program(program, seeds, conditions).shape == (0, 3, 6, 7)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_thin_images(size: tuple[int, int], room: str) -> None:
    net, _ = network("colour", place(room))
    own = program_of(net, size, 3, lambda src: Categorical(src, 4), color_groups=3, conditions=[(7,)])
    seeds, conditions = inputs(own, 4, place(room))
    assert_same_bits(lapcore.sample_program(own, seeds, conditions), naive(net, own, seeds, *conditions))


def test_dead_weights_have_no_effect(room: str) -> None:
    _, program = network("colour", place(room))
    seeds, conditions = inputs(program, 2, place(room))
    expected = lapcore.sample_program(program, seeds, conditions)
    poisoned = []
    for instruction in program.instructions:
        if isinstance(instruction, Conv):
            out, into, *kernel = instruction.weight.shape
            live = lapcore.mask_of(instruction.mask, tuple(kernel), into, out, instruction.color_groups)
            weight = torch.where(live.to(instruction.weight.device), instruction.weight, NAN)
            instruction = replace(instruction, weight=weight)
        poisoned.append(instruction)
    got = lapcore.sample_program(replace(program, instructions=tuple(poisoned)), seeds, conditions)
    assert_same_bits(got, expected)


@pytest.mark.parametrize("value", [NAN, INF, -INF, 3e38])
def test_extreme_logits_are_drawn_from(value: float, room: str) -> None:
    """Of a network gone wrong: the least index of NaN alone, else one of the largest."""
    layer = MaskedConv2d(1, 5, 3, mask="A")
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.0, value, 0.0, value, 0.0]))
    program = program_of(layer.to(place(room)), (3, 3), 1, lambda src: Categorical(src, 5))
    drawn = lapcore.sample_program(program, torch.arange(4, device=place(room)))
    levels = ops.level_indices(drawn, 5).unique().tolist()
    assert set(levels) <= ({0, 2, 4} if math.isnan(value) or value < 0 else {1, 3}) and len(levels) > 1


def test_a_program_is_a_copy() -> None:
    net, _ = networks()["grey"]
    program = program_of(net, (6, 7), 1, lambda src: Categorical(src, 2))
    seeds = torch.arange(4)
    before = lapcore.sample_program(program, seeds)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert_same_bits(lapcore.sample_program(program, seeds), before)


@pytest.mark.parametrize("levels", [2, 3, 5, 256, 8192])
def test_levels_are_found_again(levels: int) -> None:
    values = ops.level_values(levels, torch.device("cpu"))
    assert values[0] == -1 and values[-1] == 1
    assert ops.level_indices(values, levels).tolist() == list(range(levels))
    assert ops.level_indices(torch.tensor([NAN, INF, -INF, 5, -5]), levels).tolist() == [
        0,
        *(levels - 1, 0) * 2,
    ]


# What is refused -----------------------------------------------------------------------------------------------------------------


def call(**changes: Any) -> None:
    _, program = network("colour")
    seeds, conditions = inputs(program, 2)
    arguments: dict[str, Any] = {"program": program, "seeds": seeds, "conditions": conditions, **changes}
    lapcore.sample_program(**arguments)


IMAGE, KNOWN = torch.zeros(2, 3, 6, 7), torch.ones(2, 1, 6, 7, dtype=torch.bool)
BAD_CALLS: list[tuple[str, type[Exception], dict[str, Any]]] = [
    ("program", TypeError, {"program": nn.Identity()}),
    ("seeds", TypeError, {"seeds": [1, 2]}),
    ("seeds", TypeError, {"seeds": torch.zeros(2)}),
    ("seeds", ValueError, {"seeds": torch.zeros(2, 1, dtype=torch.int64)}),
    ("conditions", ValueError, {"conditions": []}),
    (r"conditions\[0\]", ValueError, {"conditions": [torch.zeros(2, 8)]}),
    (r"conditions\[0\]", ValueError, {"conditions": [torch.zeros(2, 7).double()]}),
    ("known", ValueError, {"given": IMAGE}),
    ("given", ValueError, {"given": IMAGE[:1], "known": KNOWN}),
    ("given", ValueError, {"given": IMAGE.double(), "known": KNOWN}),
    ("known", ValueError, {"given": IMAGE, "known": KNOWN[:, :, :2]}),
    ("known", ValueError, {"given": IMAGE, "known": KNOWN.float()}),
]


@pytest.mark.parametrize(("name", "error", "changes"), BAD_CALLS)
def test_refusals(name: str, error: type[Exception], changes: dict[str, Any]) -> None:
    with pytest.raises(error, match=f"^{name}: expected"):
        call(**changes)


def test_a_mixture_draws_whole_pixels() -> None:
    _, program = network("streams")
    seeds, conditions = inputs(program, 2)
    image = torch.zeros(2, 3, *program.size)
    with pytest.raises(ValueError, match=r"^known: expected shape \(2, 1, 6, 8\), got \(2, 3, 6, 8\)"):
        lapcore.sample_program(program, seeds, conditions, given=image, known=image > 0)


def program(**changes: Any) -> Program:
    """A 3x3 A and a 1x1 B, of three colour groups, with changes."""
    first = Conv(0, 1, draw(6, 3, 3, 3), None, "A", 3)
    second = Conv(1, 2, draw(12, 6, 1, 1), torch.zeros(12), "B", 3)
    arguments: dict[str, Any] = {
        "size": (4, 4),
        "channels": 3,
        "groups": 3,
        "buffers": (Buffer(3), Buffer(6), Buffer(12)),
        "instructions": (first, second),
        "head": Categorical(2, 4),
    }
    return Program(**{**arguments, **changes})


def conv(number: int, **changes: Any) -> dict[str, Any]:
    instructions = list(program().instructions)
    instructions[number] = replace(instructions[number], **changes)
    return {"instructions": tuple(instructions)}


BAD_PROGRAMS: list[tuple[str, dict[str, Any]]] = [
    ("size", {"size": (0, 4)}),
    ("groups", {"groups": 2}),
    (r"buffers\[0\]", {"buffers": (Buffer(1), Buffer(6), Buffer(12))}),
    (r"buffers\[1\]", {"buffers": (Buffer(3), Buffer(2), Buffer(12))}),
    ("instructions", {"instructions": program().instructions[:1]}),
    ("instructions", conv(0, weight=draw(6, 3, 3, 3).double())),
    ("instructions", conv(0, weight=draw(6, 3, 3, 3).transpose(2, 3))),
    (r"instructions\[0\]", {"instructions": program().instructions[::-1]}),
    (r"instructions\[0\]", conv(0, weight=draw(6, 2, 3, 3))),
    (r"instructions\[0\]", conv(0, bias=torch.zeros(5))),
    (r"instructions\[0\]", conv(0, mask="C")),
    (r"instructions\[0\]", conv(0, mask="B")),  # reads what is being drawn
    (r"instructions\[0\]", conv(0, mask="rows")),
    (r"instructions\[0\]", conv(0, stride=2)),
    (r"instructions\[1\]", conv(1, mask="rows")),  # reads later colours
    (r"instructions\[1\]", conv(1, color_groups=1)),
    (r"instructions\[1\]", conv(1, condition=0)),
    ("head", {"head": Categorical(2, 5)}),
    ("head", {"head": Categorical(0, 4)}),
    ("head", {"head": Mixture(2)}),
]


@pytest.mark.parametrize(("what", "changes"), BAD_PROGRAMS)
def test_programs_that_cannot_be_run(what: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{what}.*: expected"):
        program(**changes)


def test_phases_rings_and_borders() -> None:
    _, stacks = network("stacks")
    assert set(stacks.phases) == {"row", "pixel"}
    _, streams = network("streams")
    assert streams.phases[0] == "drawn" and {0, 1} == {buffer.level for buffer in streams.buffers}
    assert max(streams.rings) == 2 and max(streams.borders) == 1
    _, grey = network("grey")
    assert (grey.rings[0], grey.borders[0]) == (4, 3)
    gated = Program(
        size=(2, 2),
        channels=3,
        groups=3,
        buffers=(Buffer(3), Buffer(14, gated=True), Buffer(7), Buffer(6)),
        instructions=(
            Conv(0, 1, draw(14, 3, 1, 3), None, "A", 3),
            ops.Gated(1, 2),
            Conv(2, 3, draw(6, 7, 1, 1), None, "B", 3),
        ),
        head=Categorical(3, 2),
    )
    assert [gated.channels_of(1, g) for g in range(3)] == [
        [range(3), range(7, 10)],
        [range(3, 5), range(10, 12)],
        [range(5, 7), range(12, 14)],
    ]


class Wrong(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.layer = function, MaskedConv2d(1, 2, 3, mask="A")

    def forward(self, image: Tensor) -> Tensor:
        return self.function(self.layer(image))


@pytest.mark.parametrize(
    "function", [torch.tanh, lambda x: x + 1, lambda x: torch.cat([x, x], 2), nn.Conv2d(2, 2, 1), lambda x: x * x]
)
def test_networks_that_are_no_programs(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(TypeError, match=r"^network: expected"):
        program_of(Wrong(function), (4, 4), 1, lambda src: Categorical(src, 2))


def test_networks_that_look_ahead() -> None:
    with pytest.raises(ValueError, match=r'^instructions\[0\] \(Conv\): expected mask "A" or "above"'):
        program_of(MaskedConv2d(1, 2, 3, mask="B"), (4, 4), 1, lambda src: Categorical(src, 2))
