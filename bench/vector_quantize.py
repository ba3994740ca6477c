"""Nearest codes against PyTorch's own distances and products, each with its (N, K) table."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

import lapcore

from . import peers
from .harness import Build, Case, Goal, Peers, Work, by_backend, times


def by_distances(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    indices = torch.cdist(z, codebook).argmin(1)
    return codebook[indices], indices


def by_products(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    indices = (codebook.square().sum(1) - 2 * z @ codebook.T).argmin(1)
    return codebook[indices], indices


def case(found: Peers, rows: int, codes: int, size: int, goals: tuple[Goal, ...] = ()) -> Case:
    z, codebook = torch.randn(rows, size), torch.randn(codes, size)

    def difference(a: Any, b: Any) -> float:
        """Of the squared distances to the codes: of two that are equally near either may be taken."""
        (first, at), (second, _) = a, b
        if not torch.equal(first, codebook[at]):
            return float("nan")
        near, nearest = ((z - codes).square().sum(1) for codes in (first, second))
        return float((near - nearest).abs().max() / nearest.max())

    ways: dict[str, Work] = {
        "torch eager: cdist": partial(by_distances, z, codebook),
        "torch eager: product": partial(by_products, z, codebook),
    }
    if found.wants("torch.compile"):
        ways["torch.compile: product"] = partial(peers.compiled(by_products), z, codebook)
    ours = by_backend(lambda: lapcore.vector_quantize(z, codebook), "vector_quantize", z, codebook)
    return Case(
        "vector_quantize",
        0,
        ours,
        found.only_wanted(ways),
        goals,
        difference=difference,
        operations=2 * rows * codes * size,
        peaks=True,
    )


def cases(found: Peers) -> dict[str, Build]:
    """Every case by name, built when it is measured."""
    shapes = {(65536, 512, 64): (times("C10", "torch eager", 2),), (16384, 8192, 32): ()}
    return {
        f"vector_quantize {rows}x{size}, {codes} codes": partial(case, found, rows, codes, size, goals)
        for (rows, codes, size), goals in shapes.items()
    }
