"""A picture of a report: each peer's time over ours, and which part of the copy ceiling ours reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lapcore.errors import require

from .harness import COPY, library
from .report import CaseReport, Report

COLOURS = {
    "opencv": "#d1603d",
    "kornia": "#3a7ca5",
    "kornia-rs": "#81c3d7",
    "scikit-image": "#7a9e7e",
    "torch eager": "#8d6a9f",
    "torch.compile": "#c5a3d9",
    "torch cropped": "#b565a7",
    "RIFE's loss": "#b5838d",
    "lapcore reference": "#9a9a9a",
    "lapcore naive": "#d0d0d0",
}


def check(path: Path) -> None:
    """That a picture can be drawn, of a kind that can be written, in a folder that is there: before anything is measured."""
    backend = require("matplotlib.backend_bases", "plot")
    kinds = sorted(backend.FigureCanvasBase.filetypes)
    if path.suffix.removeprefix(".") not in kinds:
        raise ValueError(f"--plot {path}: expected a name that ends in one of {', '.join(kinds)}")
    path.parent.mkdir(parents=True, exist_ok=True)


def best(case: CaseReport) -> dict[str, float]:
    """The smallest time over ours of each library, in the order of COLOURS."""
    found: dict[str, float] = {}
    for line in case.lines:
        who = library(line.who)
        if line.relative is not None and who not in (case.ours, COPY):
            found[who] = min(line.relative, found.get(who, line.relative))
    order = [*COLOURS, *sorted(set(found) - set(COLOURS))]
    return {who: found[who] for who in order if who in found}


def draw(report: Report, path: Path) -> None:
    """One group of bars a case; a bar to the left of 1 is a peer that is faster."""
    from matplotlib.figure import Figure

    cases = [case for case in report.cases if any(line.who == case.ours for line in case.lines)]
    heights = [max(len(best(case)), 1) + 1.2 for case in cases]
    figure = Figure(figsize=(13, 0.17 * sum(heights) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    top = 0.0
    middles: list[float] = []
    seen: dict[str, Any] = {}
    for case, height in zip(cases, heights, strict=True):
        bars = best(case)
        for row, (who, relative) in enumerate(bars.items()):
            bar = left.barh(top + row, relative - 1, left=1, height=0.86, color=COLOURS.get(who, "#555555"))
            seen.setdefault(who, bar)
            for goal in case.goals:
                if goal.against == who:
                    left.plot(goal.needed, top + row, "k|", markersize=11, markeredgewidth=1.6)
            left.annotate(
                f"{relative:.3g}",
                (max(relative, 1), top + row),
                (3, 0),
                textcoords="offset points",
                va="center",
                size=7,
            )
        middle = top + (max(len(bars), 1) - 1) / 2
        percent = next(line.ceiling_percent for line in case.lines if line.who == case.ours)
        percent = None if case.operations else percent  # of another ceiling
        if percent is not None:
            right.barh(middle, percent, height=min(height - 1.2, 2.0), color="#2b2d42")
            right.annotate(
                f"{percent:.0f}%", (percent, middle), (3, 0), textcoords="offset points", va="center", size=8
            )
        middles.append(middle)
        top += height
    left.set_yticks(middles, [case.name for case in cases], size=8)
    left.set_ylim(top - 0.6, -0.8)
    left.set_xscale("log")
    left.xaxis.set_major_formatter("{x:g}x")
    left.margins(x=0.08)
    left.axvline(1, color="black", linewidth=0.8)
    left.set_title(
        "Each library's best time over lapcore's: right of 1x, lapcore is faster; | marks a goal\n"
        f"{report.device}, threads: {report.threads['torch']}",
        loc="left",
        size=9,
    )
    left.set_xlabel("time over lapcore's (log scale)")
    right.axvline(100, color="black", linewidth=0.8)
    right.margins(x=0.2)
    right.set_xlabel("lapcore, % of the copy ceiling")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(top=True, labeltop=True)
    figure.legend(
        list(seen.values()),
        list(seen),
        loc="outside upper center",
        ncols=min(len(seen), 8) or 1,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=130)
