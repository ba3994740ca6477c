"""Autoregressive networks and categorical draws on the CUDA kernels, as host code: to the bit as csrc/cpu has them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lapcore
from lapcore import native
from lapcore.nn import ConcatELU, GatedActivation, MaskedConv2d
from lapcore.nn.tracing import program_of
from lapcore.ops.pixelcnn_sampler import Categorical, Head, Mixture, Program
from tests.autoregressive import Residual, Stacks, Streams
from tests.cuda import harness
from tests.cuda.harness import DTYPES, REFUSED_STREAM, SANITIZERS, blank, draw
from tests.cuda.test_cuda_masked_conv_launcher import memory_at
from tests.tolerance import assert_same_bits

if (reason := native.missing()) is not None:
    pytest.skip(reason, allow_module_level=True)

from lapcore.native.cuda import pixelcnn_sampler as cuda

STREAM = 7


class Deep(nn.Module):
    """Several slices of the depth, and several panels of outputs, the last with a tail."""

    def __init__(self, hidden: int, wide: int, groups: int) -> None:
        super().__init__()
        self.first = MaskedConv2d(groups, hidden, 3, mask="A", color_groups=groups, activation="relu")
        self.wide = MaskedConv2d(hidden, wide, 1, mask="B", color_groups=groups, bias=False)
        self.last = MaskedConv2d(2 * wide if groups == 1 else wide, 3 * groups, 1, mask="B", color_groups=groups)
        self.activation = ConcatELU() if groups == 1 else GatedActivation("tanh") if wide % 2 else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.activation(self.wide(self.first(image))))


@dataclass
class Draws:
    """A program, and what is drawn from it."""

    program: Program
    images: int
    completed: bool = False
    conditions: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        shapes = self.program.conditions
        self.conditions = [draw(self.images, *shape, seed=i, dtype=torch.float32) for i, shape in enumerate(shapes)]

    def seeds(self) -> Tensor:
        return torch.arange(self.images) * (2**40 + 7) - 3

    def known(self) -> dict[str, Tensor]:
        if not self.completed:
            return {}
        shape = self.images, self.program.channels, *self.program.size
        chosen = draw(self.images, 1, *shape[2:], seed=8, dtype=torch.float32) > 0.3
        return {"given": draw(*shape, seed=9, dtype=torch.float32).clamp(-1, 1), "known": chosen}

    def case(self, stream: int = 0) -> harness.Case:
        tables = cuda.tables_of(self.program)
        images = blank(self.images, self.program.channels, *self.program.size, dtype=torch.float32)
        flat = [(c if c.dim() == 2 else c.permute(2, 3, 0, 1)).flatten() for c in self.conditions]
        given = [t.expand(images.shape).contiguous() for t in self.known().values()] or [None, None]
        called = [self.seeds(), torch.cat([*flat, torch.empty(0)]), *given, images]
        numbers = stream, *tables.numbers, *tables.one_place
        return harness.Case("sample_program", numbers, [*tables[2:], *called], [9])

    def expected(self) -> Tensor:
        with lapcore.backend("cpu"):
            return lapcore.sample_program(self.program, self.seeds(), self.conditions, **self.known())


def traced(
    network: nn.Module, size: tuple[int, int], channels: int, head: Callable[[int], Head], groups: int = 1, *shapes: Any
) -> Program:
    """Of a network sharp enough that pixels depend on each other."""
    for parameter in network.parameters():
        parameter.data *= 4 if parameter.dim() > 1 else 1
    return program_of(network.eval(), size, channels, head, color_groups=groups, conditions=shapes)


def levels(count: int) -> Callable[[int], Head]:
    return lambda src: Categorical(src, count)


def make_draws() -> dict[str, Draws]:
    """As small as they may be: each of a block's 256 threads is one of the host's."""
    torch.manual_seed(3)
    return {
        "grey": Draws(traced(Residual(1, 5, 2, 1), (4, 5), 1, levels(2)), 1),
        "colour": Draws(traced(Residual(3, 7, 4, 3), (2, 3), 3, levels(4), 3, (7,)), 2, completed=True),
        "maps": Draws(traced(Residual(3, 4, 3, 1), (2, 2), 3, levels(3), 1, (4, 2, 2)), 3),
        "codes": Draws(traced(Residual(1, 4, 40, 1, embedding=3), (2, 2), 1, levels(40)), 5),
        "stacks": Draws(traced(Stacks(1, 3, 3, 1), (2, 3), 1, levels(3), 1, (6,), (6, 2, 3)), 2),
        "colour stacks": Draws(traced(Stacks(3, 4, 2, 3), (2, 2), 3, levels(2), 3), 3),
        "streams": Draws(traced(Streams(3, 3, 2), (3, 4), 3, Mixture, 1, (6,)), 3, completed=True),
        "grey streams": Draws(traced(Streams(1, 2, 3), (4, 3), 1, Mixture), 9),
        "deep": Draws(traced(Deep(150, 259, 1), (2, 2), 1, levels(3)), 2),
        "deep colours": Draws(traced(Deep(100, 300, 3), (1, 3), 3, levels(3), 3), 1),
    }


DRAWS = make_draws()


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_the_same_bits_as_on_the_cpu(sanitizer: str, tmp_path: Path) -> None:
    draws = harness.share(sanitizer, list(DRAWS.values()))
    results = harness.run_all(sanitizer, [it.case() for it in draws], tmp_path)
    for it, (images,) in zip(draws, results, strict=True):
        assert len(images.unique()) > 1
        assert_same_bits(images, it.expected())


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_categorical(sanitizer: str, tmp_path: Path) -> None:
    """Rows of one warp and of several blocks; levels within a warp and beyond; logits that are no numbers."""
    cases = []
    for rows, count, dtype in (
        (1, 1, torch.float32),
        (9, 5, torch.float32),
        (17, 67, torch.float32),
        (3, 40, torch.float64),
    ):
        logits = 3 * draw(rows, count, seed=count, dtype=dtype)
        logits[0, count // 2] = torch.nan
        logits[-1, :] = torch.inf if rows > 1 else 0
        u = lapcore.random.uniform((rows,), count).to(dtype)
        cases.append(
            harness.Case("categorical", (DTYPES.index(dtype), 0), [logits, u, blank(rows, dtype=torch.int64)], [2])
        )
    cases = harness.share(sanitizer, cases)
    for case, (got,) in zip(cases, harness.run_all(sanitizer, cases, tmp_path), strict=True):
        with lapcore.backend("cpu"):
            assert got.tolist() == lapcore.categorical(*case.tensors[:2]).tolist()  # type: ignore[arg-type]


def test_a_refused_launch_is_an_error(tmp_path: Path) -> None:
    done = harness.run(harness.program(SANITIZERS[0]), [DRAWS["grey"].case(REFUSED_STREAM)], tmp_path)
    assert done.returncode == 2 and "CUDA: invalid configuration argument" in done.stderr


BARRIERS = {"csrc/cuda/pixelcnn_sampler.cu": 3, "csrc/cuda/weight_slices.h": 1}


@pytest.mark.parametrize(("name", "which"), [(name, i) for name, count in BARRIERS.items() for i in range(count)])
@pytest.mark.slow
def test_a_missing_barrier_is_seen(name: str, which: int, tmp_path: Path) -> None:
    path = harness.ROOT / name
    if path.suffix == ".cu":
        sources = harness.without_barrier(path, which, tmp_path)
    else:
        sources = harness.without_barrier_of_header(name.removeprefix("csrc/"), which, tmp_path)
    done = harness.run(harness.program("thread", sources), [DRAWS["colour"].case()], tmp_path)
    assert done.returncode != 0 and "ThreadSanitizer" in done.stderr


class Kernels:
    """Stands for lapcore._C on CPU tensors: runs its kernels as host code on what lies at the addresses."""

    def __init__(self, folder: Path, draws: Draws) -> None:
        self.folder, self.draws = folder, draws

    def cuda_sample_program_work(self, numbers: Any, one_place: Any, images: int) -> int:
        return 8

    def cuda_sample_program(self, stream: int, *arguments: Any) -> None:
        numbers, one_place, tables, images, seeds, added, given, known, out, _ = arguments
        expected = self.draws.case()
        assert stream == STREAM and images == self.draws.images and seeds[2:] == (True, 0)
        assert tuple(numbers) + tuple(one_place) == expected.numbers[1:]
        addresses = *tables, seeds[0], added, given, known, out
        tensors = [
            None if like is None else memory_at(address, like.shape, like.stride(), like.dtype)
            for address, like in zip(addresses, expected.tensors, strict=True)
        ]
        for address, tensor, like in zip(addresses[:-1], tensors, expected.tensors, strict=False):
            assert address == 0 if like is None else tensor is not None and tensor.equal(like)
        ((images,),) = harness.run_all(SANITIZERS[0], [expected], self.folder)
        tensors[-1].copy_(images)  # type: ignore[union-attr]

    def cuda_categorical(self, dtype: int, stream: int, rows: int, levels: int, logits: int, u: int, out: int) -> None:
        assert stream == STREAM
        given = (
            memory_at(logits, (rows, levels), (levels, 1), DTYPES[dtype]),
            memory_at(u, (rows,), (1,), DTYPES[dtype]),
        )
        case = harness.Case("categorical", (dtype, 0), [*given, blank(rows, dtype=torch.int64)], [2])
        ((indices,),) = harness.run_all(SANITIZERS[0], [case], self.folder)
        memory_at(out, (rows,), (1,), torch.int64).copy_(indices)


@pytest.mark.parametrize("name", ["colour", "stacks", "streams"])
def test_through_python(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Conditions and images in any layout, and tables that are made once."""
    it = DRAWS[name]
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(cuda, "_C", Kernels(tmp_path, it))
    conditions = [c.movedim(0, -1).contiguous().movedim(-1, 0) for c in it.conditions]
    given, known = (t.expand_as(it.expected()) for t in it.known().values()) if it.completed else (None, None)
    assert_same_bits(cuda.sample_program(it.program, it.seeds(), conditions, given, known), it.expected())
    tables = cuda._tables[it.program]
    cuda.sample_program(it.program, it.seeds(), conditions, given, known)
    assert cuda._tables[it.program] is tables


def test_categorical_through_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(cuda, "_C", Kernels(tmp_path, DRAWS["grey"]))
    logits, u = draw(6, 5, seed=1, dtype=torch.float32).t(), torch.rand(10)[::2]
    with lapcore.backend("cpu"):
        assert cuda.categorical(logits, u).tolist() == lapcore.categorical(logits, u).tolist()
    assert cuda.categorical(logits[:0], u[:0]).tolist() == []
