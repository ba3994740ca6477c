"""Noise from seeds and positions against torch's generator."""

from __future__ import annotations

import torch

import lapcore
from bench.harness import Case, main

SHAPE = (256, 4096)


def cases() -> list[Case]:
    seeds = torch.arange(SHAPE[0])
    written = 4 * SHAPE[0] * SHAPE[1]
    name = "x".join(map(str, SHAPE))
    integers = torch.empty(SHAPE, dtype=torch.int32)
    return [
        Case(
            "random.bits",
            f"random.bits {name}",
            lambda: lapcore.random.bits(SHAPE, seeds),
            written,
            {"torch random_": lambda: integers.random_()},
        ),
        Case(
            "random.uniform",
            f"random.uniform {name}",
            lambda: lapcore.random.uniform(SHAPE, seeds),
            written,
            {"torch rand": lambda: torch.rand(SHAPE)},
        ),
        Case(
            "random.normal",
            f"random.normal {name}",
            lambda: lapcore.random.normal(SHAPE, seeds),
            written,
            {"torch randn": lambda: torch.randn(SHAPE)},
        ),
    ]


if __name__ == "__main__":
    main(cases())
