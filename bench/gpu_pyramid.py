"""What bench.gpu runs on a card, each in a process of its own: pyramids against their goals, and small calls to be watched.

python -m lapcore.bench.gpu_pyramid measure G1 --json FILE
python -m lapcore.bench.gpu_pyramid exercise
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

import lapcore

from .gpu_steps import Called, Listed, main
from .harness import Build, Peers, of_ceiling, times
from .pyramid import TOLERANCES, collapse, laplacian, laplacian_plan, loss, named

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


def listed(found: Peers, goal: str) -> Listed:
    return [("pyramid", name, build) for name, build in cases(found, goal).items()]


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


if __name__ == "__main__":
    sys.exit(main("pyramid", "laplacian_pyramid", called, listed, ("G1", "G2", "G3")))
