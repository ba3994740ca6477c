"""The README's table of times, made of the committed results: python -m bench.readme writes it there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.harness import library

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "pyramid-cpu.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- times: python -m bench.readme -->", "<!-- end of times -->"
PACKAGES = ("opencv-python-headless", "kornia", "kornia-rs", "torch")
LIBRARIES = ("opencv", "kornia-rs", "kornia", "torch eager", "torch.compile")


def table(report: dict[str, Any]) -> str:
    """Milliseconds, medians of one run; of each library its fastest way."""
    ceiling = max(report["copy_ceilings"]) / 1e9
    threads, versions = report["threads"]["torch"], report["versions"]
    with_versions = ", ".join(f"{name} {versions[name]}" for name in PACKAGES)
    found = [name for name in LIBRARIES if any(library(line["who"]) == name for line in _lines(report))]
    rows = [
        f"{report['device']}, {report['isa']}, {threads} threads; a large copy moves {ceiling:.0f} GB/s. Milliseconds, "
        f"medians of one run (`bench/results/{RESULTS.name}`); {with_versions}.",
        "",
        "| work | lapcore | of the copy's rate | " + " | ".join(found) + " |",
        "| --- " * (len(found) + 3) + "|",
    ]
    for case in report["cases"]:
        ours = next(line for line in case["lines"] if line["who"] == case["ours"])
        percent = "" if ours["ceiling_percent"] is None else f"{ours['ceiling_percent']:.0f}%"
        others = [_best(case, name) for name in found]
        rows.append(f"| {case['name']} | {ours['milliseconds']:.3g} | {percent} | " + " | ".join(others) + " |")
    return "\n".join(rows)


def _lines(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [line for case in report["cases"] for line in case["lines"]]


def _best(case: dict[str, Any], name: str) -> str:
    taken = [line["milliseconds"] for line in case["lines"] if library(line["who"]) == name]
    return f"{min(taken):.3g}" if taken else ""


def section() -> str:
    return f"{BEGIN}\n{table(json.loads(RESULTS.read_text()))}\n{END}"


def main() -> None:
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(before + section() + rest.partition(END)[2])


if __name__ == "__main__":
    main()
