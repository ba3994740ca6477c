"""What bench.gpu runs of noise, diagonal Gaussians and mixtures: goal G4, and small calls to be watched.

python -m lapcore.bench.gpu_gaussian measure --json FILE
python -m lapcore.bench.gpu_gaussian exercise
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor

import lapcore

from . import gaussian
from .gpu_steps import Called, Listed, main
from .harness import Build, Case, Peers, Work, by_backend, of_ceiling

SHAPE = (256, 256, 32, 32)
"""64M elements."""
PLANES = {"forward": 3, "backward": 5}
"""Read and written: mean, logvar and z; mean, logvar, z's gradient, and those of the first two."""
EXERCISED = ((1, 1), (3, 5), (5, 130), (2, 3, 7, 9), (2, 4100), (1, 8192))
TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1, torch.float64: 1e-9}


def case(found: Peers, direction: str, device: str = "cuda", shape: tuple[int, ...] = SHAPE) -> Case:
    """Backward by itself: its graph is made once. A gradient is computed on the backend that was asked for forward."""
    mean, logvar, grad = (torch.randn(shape, device=device) for _ in range(3))
    backward = direction == "backward"
    mean.requires_grad_(backward)
    logvar.requires_grad_(backward)
    grads = grad, torch.ones(shape[0], device=device)

    def ours() -> tuple[Tensor, Tensor]:
        return lapcore.reparameterize_kl(mean, logvar, seeds=1)

    def eager() -> tuple[Tensor, Tensor]:
        return gaussian.torch_sample(mean, logvar), gaussian.torch_kl(mean, logvar)

    def back(made: tuple[Tensor, Tensor]) -> Work:
        return lambda: torch.autograd.grad(made, (mean, logvar), grads, retain_graph=True)

    works = by_backend(ours, "reparameterize_kl", mean)
    peer: Work = eager
    if backward:
        works = {name: back(cast(tuple[Tensor, Tensor], work())) for name, work in works.items()}
        peer = back(eager())
    return Case(
        "reparameterize_kl",
        PLANES[direction] * mean.nbytes,
        works,
        found.only_wanted({"torch eager": peer}),
        (of_ceiling("G4", 90),),
        tolerance=1e-4,
    )


def cases(found: Peers) -> dict[str, Build]:
    return {f"reparameterize_kl 64M elements {direction}": partial(case, found, direction) for direction in PLANES}


def called(device: str) -> Iterator[Called]:
    """Every operation of the three families, with one seed and one for each row."""
    for shape in EXERCISED:
        for dtype, tolerance in TOLERANCES.items():
            generator = torch.Generator().manual_seed(sum(shape))
            x, mean, logvar, prior_mean, prior_logvar = given = [
                (torch.randint(-255, 256, shape, generator=generator) / 128).to(device, dtype).requires_grad_()
                for _ in range(5)
            ]
            rows = torch.arange(shape[0]) * 2**33 - 1
            for seeds in (7, rows.to(device)):
                z, kl = lapcore.reparameterize_kl(mean, logvar, prior_mean, prior_logvar, seeds)
                near, nll = lapcore.reparameterize(mean, logvar, seeds), lapcore.gaussian_nll(x, mean, logvar)
                results = [z, kl, near, nll, lapcore.gaussian_kl(mean, logvar)]
                gradients = torch.autograd.grad([r.float().sum() for r in results], given)
                drawn = [
                    lapcore.random.normal(shape, seeds, device=device),
                    lapcore.random.uniform(shape, seeds, device=device),
                    lapcore.random.bits(shape, seeds, device=device),
                ]
                which = "one seed" if isinstance(seeds, int) else "seeds"
                name = f"{str(dtype).removeprefix('torch.')} {'x'.join(map(str, shape))} {which}"
                every = [*(r.detach() for r in results), *drawn]
                yield Called(name, tolerance, every, [gradient.float() for gradient in gradients])
    yield from mixtures(device)


def mixtures(device: str) -> Iterator[Called]:
    for channels, parameters in ((1, 3), (3, 10)):
        for height, width in ((1, 1), (3, 5), (8, 33)):
            generator = torch.Generator().manual_seed(height)
            params = torch.randn(2, 2 * parameters, height, width, generator=generator).to(device).requires_grad_()
            levels = torch.randint(0, 256, (2, channels, height, width), generator=generator)
            nll = lapcore.discretized_logistic_mixture_nll(params, (levels / 127.5 - 1).to(device))
            drawn = lapcore.sample_discretized_logistic_mixture(params.detach(), 5, channels=channels, snap=False)
            gradients = torch.autograd.grad(nll.sum(), params)
            yield Called(f"mixture {channels}x{height}x{width}", 1e-3, [nll.detach(), drawn], list(gradients))


def listed(found: Peers, _: str) -> Listed:
    return [("gaussian", name, build) for name, build in cases(found).items()]


if __name__ == "__main__":
    sys.exit(main("gaussian", "reparameterize_kl", called, listed))
