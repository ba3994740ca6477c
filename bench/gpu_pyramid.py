"""What bench.gpu runs on a card, each in a process of its own: pyramids against their goals, and small calls to be watched.

python -m bench.gpu_pyramid measure G1 --json FILE
python -m bench.gpu_pyramid exercise
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import lapcore
from bench.harness import (
    CUDA,
    Build,
    Measured,
    Peers,
    able,
    describe,
    largest_difference,
    mean_difference,
    measure,
    of_ceiling,
    times,
)
from bench.pyramid import TOLERANCES, collapse, laplacian, laplacian_plan, loss, named
from bench.report import summarise, text, write_json

LARGE, SMALL = (64, 3, 1024, 1024), (4096, 3, 32, 32)
TRAINING = ((16, 3, 224, 224), (64, 3, 256, 256))
EXERCISED = ((2, 3, 67, 43), (3, 1, 5, 4), (1, 1, 1, 7), (5, 3, 32, 32))


def cases(found: Peers, goal: str) -> dict[str, Build]:
    """The cases of a goal by name."""
    built: dict[str, Build] = {}
    if goal == "G1":
        for dtype in (torch.float32, torch.bfloat16):
            name = str(dtype).removeprefix("torch.")
            faster = times("G1", "torch.compile", 3)
            build = (of_ceiling("G1", 90), times("G1", "kornia", 20), faster)
            built[named("laplacian_pyramid", LARGE, name)] = partial(
                laplacian, found, LARGE, dtype, "cuda", goals=build
            )
            back = (of_ceiling("G1", 90), faster)
            built[named("collapse", LARGE, name)] = partial(collapse, found, LARGE, dtype, "cuda", goals=back)
    elif goal == "G2":
        reach, faster = of_ceiling("G2", 85), times("G2", "kornia", 30)
        built[named("laplacian_pyramid", SMALL)] = partial(
            laplacian, found, SMALL, device="cuda", goals=(reach, faster)
        )
        built[named("PyramidPlan as a CUDA graph", SMALL)] = partial(
            laplacian_plan, found, SMALL, "cuda", goals=(reach,)
        )
        built[named("collapse", SMALL)] = partial(collapse, found, SMALL, device="cuda", goals=(reach,))
    elif goal == "G3":
        goals = (times("G3", "RIFE's loss", 10), times("G3", "torch.compile", 3))
        for shape in TRAINING:
            built[named("laplacian_loss", shape, "forward")] = partial(loss, found, shape, False, "cuda")
            built[named("laplacian_loss", shape, "forward+backward")] = partial(
                loss, found, shape, True, "cuda", goals=goals
            )
    return built


def measure_goal(goal: str, path: Path, seconds: float) -> int:
    found = Peers()
    return measure_listed(
        [("pyramid", name, build) for name, build in cases(found, goal).items()], found, path, seconds
    )


def measure_listed(listed: list[tuple[str, str, Build]], found: Peers, path: Path, seconds: float) -> int:
    """Measures cases; what is known is written after each, so that a run that is stopped leaves something."""

    def keep(measured: list[Measured], ceilings: list[float]) -> None:
        write_json(path, summarise(measured, ceilings, found.missing, "cuda"))

    measured, ceilings = measure(listed, seconds=seconds, clock=CUDA, after_each=keep)
    print(text(summarise(measured, ceilings, found.missing, "cuda")))
    return int(any(who.startswith("lapcore") for each in measured for who in each.failed))


class Called(NamedTuple):
    """Every operation of a family on one small input."""

    name: str
    tolerance: float
    results: list[Tensor]
    gradients: list[Tensor]


def called(device: str) -> Iterator[Called]:
    """On images of awkward sizes, of values that every dtype holds exactly."""
    for shape in EXERCISED:
        for dtype, tolerance in TOLERANCES.items():
            generator = torch.Generator().manual_seed(sum(shape))
            drawn = torch.randint(0, 256, (2, *shape), generator=generator)
            x, y = (drawn / 256 if dtype.is_floating_point else drawn).to(device, dtype)
            x.requires_grad_(dtype.is_floating_point)
            bands = lapcore.laplacian_pyramid(x, 3)
            results = [lapcore.pyr_down(x), lapcore.pyr_up(x), *lapcore.gaussian_pyramid(x, 3)[1:], *bands]
            results.append(lapcore.collapse(bands))
            gradients: list[Tensor] = []
            if dtype.is_floating_point:
                results.append(lapcore.laplacian_loss(x, y, 3))
                gradients += torch.autograd.grad([r.float().square().sum() for r in results], x)
            yield Called(
                f"{str(dtype).removeprefix('torch.')} {'x'.join(map(str, shape))}", tolerance, results, gradients
            )


def verdict(once: Called, again: Called, wanted: Called) -> str | None:
    """What is wrong with results, None if they are as the reference's and the same bits in both calls."""
    if not all(map(torch.equal, [*once.results, *once.gradients], [*again.results, *again.gradients])):
        return "other bits when called again"
    on_cpu = [result.detach().cpu() for result in once.results]
    if not (difference := largest_difference(on_cpu, wanted.results)) <= once.tolerance:
        return f"results differ by {difference:.1e}"
    gradients = [gradient.cpu() for gradient in once.gradients]
    if not (difference := mean_difference(gradients, wanted.gradients)) <= max(once.tolerance, 1e-4):
        return f"gradients differ by {difference:.1e}"
    return None


def exercise(device: str, op: str = "laplacian_pyramid", called: Callable[[str], Iterator[Called]] = called) -> int:
    """Every backend that runs here against the reference on the CPU, twice, with deterministic algorithms demanded."""
    torch.use_deterministic_algorithms(True)
    with lapcore.backend("reference"):
        expected = list(called("cpu"))
    *names, _ = able(op, torch.empty(1, 1, device=device))
    failures = 0
    for name in names:
        try:
            with lapcore.backend(name):
                found = zip(called(device), called(device), expected, strict=True)
                lines = [(wanted.name, verdict(once, again, wanted)) for once, again, wanted in found]
        except Exception as error:
            lines = [("stopped", describe(error))]
        failures += sum(wrong is not None for _, wrong in lines)
        print(*(f"{name} {what}: {wrong or 'right, and the same bits again'}" for what, wrong in lines), sep="\n")
    print(f"{', '.join(names) or 'no backend'}: {failures} failures")
    return int(failures > 0 or not names)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_pyramid")
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("goal", choices=("G1", "G2", "G3"))
    measuring.add_argument("--json", type=Path, required=True)
    measuring.add_argument("--seconds", type=float, default=0.2)
    exercising = commands.add_parser("exercise")
    exercising.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    if options.command == "exercise":
        return exercise(options.device)
    return measure_goal(options.goal, options.json, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
