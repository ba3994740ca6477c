"""`lapcore bench`: times of the operations against peers and the machine's copy."""

from __future__ import annotations

from argparse import ArgumentTypeError
from importlib import import_module
from pathlib import Path
from typing import Any

from lapcore.cli import arguments as types
from lapcore.errors import LapcoreError


def run(arguments: list[str]) -> None:
    parser = types.command_parser(
        "bench", "Measure the operations: times, percentage of what a copy of as many bytes reaches, and the goals."
    )
    parser.add_argument(
        "families",
        nargs="*",
        metavar="FAMILY",
        help="pyramid, gaussian, random, likelihood, vector-quantize, parzen, masked-conv, sampling (all of these); "
        "or contention: calls on an idle machine, after PyTorch's, and beside busy processes, with peers",
    )
    parser.add_argument("--peers", action="store_true", help="measure OpenCV, kornia, PyTorch and others beside ours")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name contains this")
    parser.add_argument("--seconds", type=_seconds, default=0.3, help="time for each way to do a case (0.3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them into this file, .png or .svg")
    options = parser.parse_args(arguments)

    from lapcore.bench import FAMILIES, contention, harness, plot, report

    if "contention" in options.families:
        if len(options.families) > 1 or options.plot:
            parser.error("contention is measured alone, and not drawn")
        contention.run(options.seconds, options.only, options.json)
        return
    chosen = [name.replace("-", "_") for name in options.families] or list(FAMILIES)
    if unknown := [name for name in chosen if name not in FAMILIES]:
        known = ", ".join(name.replace("_", "-") for name in FAMILIES)
        parser.error(f"argument FAMILY: invalid choice: {unknown[0]!r} (choose from {known})")
    if options.plot:
        plot.check(options.plot)
    peers = harness.Peers(harness.LIBRARIES if options.peers else ())
    cases = [
        (family, name, build)
        for family in chosen
        for name, build in import_module(f"lapcore.bench.{family}").cases(peers).items()
        if options.only in name
    ]
    if not cases:
        raise LapcoreError(f"--only {options.only!r}: no case of {', '.join(chosen)} has this in its name")

    def keep(measured: Any, ceilings: Any) -> None:
        """After each case: a run that is interrupted leaves what it knows."""
        if options.json:
            report.write_json(options.json, report.summarise(measured, ceilings, peers.missing))

    measured, ceilings = harness.measure(cases, seconds=options.seconds, after_each=keep)
    found = report.summarise(measured, ceilings, peers.missing)
    print(report.text(found))
    if options.plot:
        plot.draw(found, options.plot)
    if failed := [case.name for case in found.cases if any(who.startswith("lapcore") for who in case.failed)]:
        raise LapcoreError(
            f"{len(failed)} of {len(cases)} cases failed in lapcore itself, {failed[0]} the first: see above"
        )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return seconds
