"""What bench.gpu runs of autoregressive networks: goals G6 and G7, and small calls to be watched.

python -m lapcore.bench.gpu_sampling measure --json FILE
python -m lapcore.bench.gpu_sampling exercise

The reference, cached sampling by PyTorch's kernels, takes millions of launches for an image of these sizes: it is not timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch

import lapcore
from lapcore.models.autoregressive import AutoregressiveModel
from lapcore.models.gated_pixelcnn import GatedPixelCNN
from lapcore.models.pixelcnn import PixelCNN
from lapcore.models.pixelcnn_pp import PixelCNNPlusPlus
from lapcore.nn.tracing import program_of
from lapcore.ops.pixelcnn_sampler import Mixture

from .gpu_steps import Called, Listed, main
from .harness import Build, Case, Peers, at_most, times
from .sampling import operations, sampling

PUBLISHED = 0.225
"""Images a second of PixelCNN++ at batch 4, cached, as Ramachandran et al. (2017) have them."""
SMALL: dict[str, Callable[[], AutoregressiveModel]] = {
    "PixelCNN": partial(PixelCNN, 5, 3, hidden=6, layers=2, levels=8, head=9),
    "PixelCNN of codes": partial(PixelCNN, 6, 1, hidden=5, layers=1, levels=40, embedding=3),
    "GatedPixelCNN": partial(GatedPixelCNN, 5, 3, hidden=6, layers=2, levels=4),
    "PixelCNN++": partial(PixelCNNPlusPlus, 8, 3, hidden=4, mixtures=2, resnets=1),
}


def mixtures(make: Callable[[], AutoregressiveModel] = PixelCNNPlusPlus, images: int = 4, device: str = "cuda") -> Case:
    """PixelCNN++ of 160 maps: fifty times the published rate."""
    torch.manual_seed(0)
    model = make().eval().to(device)
    program = program_of(model.network, (model.image_size, model.image_size), model.channels, Mixture)
    seeds = torch.arange(images, device=device)
    return Case(
        "sample_program",
        0,
        {f"lapcore {device}": lambda: lapcore.sample_program(program, seeds)},
        {},
        (at_most("G7", 1e6 * images / (50 * PUBLISHED)),),
        operations=operations(program, images),
        least_samples=3,
    )


def cases(found: Peers, device: str = "cuda") -> dict[str, Build]:
    of_naive = {16: 500, 512: 50}
    built: dict[str, Build] = {
        f"PixelCNN 32x32 colour, {images} images": partial(
            sampling, found, PixelCNN, images, (times("G6", "torch eager", ratio),), device
        )
        for images, ratio in of_naive.items()
    }
    return built | {"PixelCNN++ 32x32 colour, 4 images": partial(mixtures, device=device)}


def called(device: str) -> Iterator[Called]:
    """Whole batches, and a part completed."""
    for name, make in SMALL.items():
        torch.manual_seed(1)
        model = make().eval().to(device)
        for images in (1, 3, 140):
            seeds = torch.arange(images, device=device)
            drawn = model.sample(seeds)
            known = torch.zeros_like(drawn[:, :1], dtype=torch.bool)
            known[:, :, ::2, 1:] = True
            completed = model.sample(seeds, given=drawn.flip(2), known=known)
            yield Called(f"{name}, {images}", 1e-6, [drawn, completed], [])
    for levels in (1, 5, 300):
        u = lapcore.random.uniform((70,), 3, device=device)
        logits = lapcore.random.normal((70, levels), levels, device=device)
        yield Called(f"categorical of {levels}", 0, [lapcore.categorical(logits, u)], [])


def listed(found: Peers, _: str) -> Listed:
    return [("pixelcnn_sampler", name, build) for name, build in cases(found).items()]


if __name__ == "__main__":
    sys.exit(main("sampling", "sample_program", called, listed))
