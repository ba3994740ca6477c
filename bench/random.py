"""Noise from seeds and positions against torch's generator."""

from __future__ import annotations

from functools import partial
from math import prod

import torch

import lapcore

from .harness import Build, Case, Peers, Work, by_backend

SHAPE = (256, 4096)


def case(found: Peers, op: str) -> Case:
    seeds = torch.arange(SHAPE[0])
    integers = torch.empty(SHAPE, dtype=torch.int32)
    works: dict[str, tuple[Work, Work]] = {
        "random.bits": (lambda: lapcore.random.bits(SHAPE, seeds), integers.random_),
        "random.uniform": (lambda: lapcore.random.uniform(SHAPE, seeds), lambda: torch.rand(SHAPE)),
        "random.normal": (lambda: lapcore.random.normal(SHAPE, seeds), lambda: torch.randn(SHAPE)),
    }
    ours, eager = works[op]
    return Case(op, 4 * prod(SHAPE), by_backend(ours, op), found.only_wanted({"torch eager": eager}))


def cases(found: Peers) -> dict[str, Build]:
    """Every case by name, built when it is measured."""
    size = "x".join(map(str, SHAPE))
    return {f"{op} {size}": partial(case, found, op) for op in ("random.bits", "random.uniform", "random.normal")}
