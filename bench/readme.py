"""The README's tables of times, made of the committed results: python -m lapcore.bench.readme writes them there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .harness import library

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"
TABLES = {
    "pyramid-cpu.json": ("opencv-python-headless", "kornia", "kornia-rs", "torch"),
    "contention-cpu.json": ("opencv-python-headless", "torch"),
    "likelihood-cpu.json": ("torch",),
    "masked-cpu.json": ("torch",),
}
"""By file of results, the packages whose versions are named."""
END = "<!-- end of times -->"
LIBRARIES = ("opencv", "kornia-rs", "kornia", "torch eager", "torch cropped", "torch.compile")


def table(name: str) -> str:
    report = json.loads((RESULTS / name).read_text())
    versions = ", ".join(f"{package} {report['versions'][package]}" for package in TABLES[name])
    machine = f"{report['device']}, {report['isa']}, {report['threads']['torch']} threads"
    return (
        _of_contention(name, report, machine, versions)
        if "results" in report
        else _of_cases(name, report, machine, versions)
    )


def _of_cases(name: str, report: dict[str, Any], machine: str, versions: str) -> str:
    """Gives milliseconds, medians of one run; of each library its fastest way."""
    ceiling = max(report["copy_ceilings"]) / 1e9
    found = [who for who in LIBRARIES if any(library(line["who"]) == who for line in _lines(report))]
    rows = [
        f"{machine}; a large copy moves {ceiling:.0f} GB/s. Milliseconds, "
        f"medians of one run (`bench/results/{name}`); {versions}.",
        "",
        "| work | lapcore | of the ceiling | " + " | ".join(found) + " |",
        "| --- " * (len(found) + 3) + "|",
    ]
    for case in report["cases"]:
        ours = next(line for line in case["lines"] if line["who"] == case["ours"])
        percent = "" if ours["ceiling_percent"] is None else f"{ours['ceiling_percent']:.0f}%"
        others = [_best(case, who) for who in found]
        rows.append(f"| {case['name']} | {ours['milliseconds']:.3g} | {percent} | " + " | ".join(others) + " |")
    return "\n".join(rows)


def _of_contention(name: str, report: dict[str, Any], machine: str, versions: str) -> str:
    """Gives milliseconds, means of one run and in brackets the 95th percentile; of each library its fastest way."""
    rows = [
        f"{machine}. Milliseconds, means of one run, and in brackets the 95th percentile (`bench/results/{name}`); {versions}.",
        "",
        "| work | beside | lapcore | lapcore, one thread | opencv | torch eager |",
        "| --- " * 6 + "|",
    ]
    for result in report["results"]:
        by_who = {"lapcore": "lapcore", "lapcore: one thread": "one thread"}
        times: dict[str, list[tuple[float, float]]] = {}
        for line in result["lines"]:
            who = by_who.get(line["who"], library(line["who"]))
            times.setdefault(who, []).append((line["mean_ms"], line["percentile_95_ms"]))
        cells = [
            min(times[who]) if who in times else None for who in ("lapcore", "one thread", "opencv", "torch eager")
        ]
        shown = ["" if cell is None else f"{cell[0]:.3g} ({cell[1]:.3g})" for cell in cells]
        rows.append(f"| {result['case']} | {result['state']} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def _lines(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [line for case in report["cases"] for line in case["lines"]]


def _best(case: dict[str, Any], name: str) -> str:
    taken = [line["milliseconds"] for line in case["lines"] if library(line["who"]) == name]
    return f"{min(taken):.3g}" if taken else ""


def section(name: str) -> str:
    return f"{_begin(name)}\n{table(name)}\n{END}"


def _begin(name: str) -> str:
    return f"<!-- times of {name}: python -m lapcore.bench.readme -->"


def main() -> None:
    for name in TABLES:
        before, begin, rest = README.read_text().partition(_begin(name))
        if not begin:
            raise SystemExit(f"README.md: expected a line {_begin(name)}")
        README.write_text(before + section(name) + rest.partition(END)[2])


if __name__ == "__main__":
    main()
