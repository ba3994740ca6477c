"""What the modules of bench.gpu's steps have in common: measuring cases on a card, and small calls to be watched there.

python -m lapcore.bench.gpu_FAMILY measure [WHAT] --json FILE
python -m lapcore.bench.gpu_FAMILY exercise
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import lapcore

from .harness import CUDA, Build, Measured, Peers, able, describe, largest_difference, mean_difference, measure
from .report import summarise, text, write_json

Listed = list[tuple[str, str, Build]]
"""Family, name and what builds the case."""


def measure_listed(listed: Listed, found: Peers, path: Path, seconds: float) -> int:
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


def exercise(device: str, op: str, called: Callable[[str], Iterator[Called]]) -> int:
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


def main(
    family: str,
    op: str,
    called: Callable[[str], Iterator[Called]],
    listed: Callable[[Peers, str], Listed],
    kinds: Sequence[str] = (),
) -> int:
    """The command line of a module: its cases, of one of `kinds` if there are some, or its calls, op's backends making them."""
    parser = argparse.ArgumentParser(prog=f"python -m lapcore.bench.gpu_{family}")
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    if kinds:
        measuring.add_argument("what", choices=kinds)
    measuring.add_argument("--json", type=Path, required=True)
    measuring.add_argument("--seconds", type=float, default=0.2)
    exercising = commands.add_parser("exercise")
    exercising.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    if options.command == "exercise":
        # cuBLAS's matrix products, the reference's, are deterministic with a workspace of their own only.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        return exercise(options.device, op, called)
    found = Peers()
    return measure_listed(listed(found, getattr(options, "what", "")), found, options.json, options.seconds)
