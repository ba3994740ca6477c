"""Argument types and options that several commands share."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapcore.errors import LapcoreError

if TYPE_CHECKING:
    import torch

LARGEST_SEED = 2**63 - 1


def command_parser(command: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"lapcore {command}", description=description, allow_abbrev=False)


def ranges(text: str) -> list[range]:
    """`0-99` or `1,5,7-9`, both ends included and in any order -> ascending ranges that do not touch."""
    found = [_one_range(part.strip(), text) for part in text.split(",")]
    merged: list[range] = []
    for part in sorted(found, key=lambda r: r.start):
        if merged and part.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, part.stop))
        else:
            merged.append(part)
    return merged


def _one_range(part: str, text: str) -> range:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", part, flags=re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"expected numbers and ranges such as 0-99 or 1,5,7-9, got {part!r} in {text!r}"
        )
    first = int(match[1])
    last = int(match[2] or match[1])
    if last < first:
        raise argparse.ArgumentTypeError(f"expected a range from low to high, got {part!r} in {text!r}")
    if last > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected numbers below 2**63, got {part!r}")
    return range(first, last + 1)


def labels(text: str) -> list[int]:
    """`3,5-7` -> [3, 5, 6, 7], ascending and without repeats."""
    found = ranges(text)
    if sum(map(len, found)) > 1_000_000:
        raise argparse.ArgumentTypeError(f"expected at most a million labels, got {text!r}")
    return [label for part in found for label in part]


def seed(text: str) -> int:
    """The first of a run of seeds: half of them are left to count up to."""
    if not (text.isascii() and text.isdecimal()) or int(text) > LARGEST_SEED // 2:
        raise argparse.ArgumentTypeError(f"expected one number from 0 to 2**62 - 1, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def temperatures(text: str) -> float | list[float]:
    """`0.7` -> 0.7, and `0.5,1,1`, one a level, -> [0.5, 1.0, 1.0]."""
    parts = text.split(",")
    if not all(is_number(part) and float(part) >= 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected numbers from 0, such as 0.7 or 0.5,1,1, got {text!r}")
    return float(text) if len(parts) == 1 else [float(part) for part in parts]


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda if there is a card"
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")


def pick_device(name: str) -> torch.device:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise LapcoreError("--device cuda: torch sees no CUDA card here; use --device cpu, or see: lapcore info")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


WORDS = {
    "log_likelihood": "say how likely an image is",
    "elbo": "bound how likely an image is",
    "decompose": "take an image apart into levels",
}
"""What methods do, where their names do not say it."""


def open_model(run: Path, device: str, *methods: str) -> Any:
    """The model of a run folder or of a model folder, which must have all of `methods`, on the chosen device."""
    from lapcore.models import load_model

    model = load_model(run)
    for method in methods:
        if not hasattr(model, method):
            raise LapcoreError(f"{run}: {with_article(model.name)} cannot {WORDS.get(method, method)}")
    return model.to(pick_device(device))


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
