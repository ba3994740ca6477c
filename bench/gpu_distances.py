"""What bench.gpu runs of vector quantisation and Parzen windows: times against PyTorch's own, and small calls to be watched.

python -m lapcore.bench.gpu_distances measure vector_quantize --json FILE
python -m lapcore.bench.gpu_distances exercise
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

import lapcore

from .gpu_steps import Called, Listed, main
from .harness import Build, Case, Peers, by_backend, largest_difference

SEARCHES = ((65536, 512, 64), (1 << 20, 1024, 64), (4096, 8192, 256))
WINDOWS = ((10_000, 10_000, 784), (10_000, 10_000, 3072), (64, 1 << 20, 192))
SIGMAS = [10 ** (k / 9 - 1) for k in range(10)]
EXERCISED = ((1, 1, 1), (3, 2, 5), (129, 7, 8), (70, 300, 17), (5, 5000, 12), (200, 130, 33))
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def nearest(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    indices = torch.cdist(z, codebook).argmin(1)
    return codebook[indices], indices


def windows(x: Tensor, samples: Tensor, sigmas: list[float]) -> Tensor:
    """Up to the constant."""
    halves = torch.cdist(x, samples).square_().mul_(-0.5)
    return torch.stack([torch.logsumexp(halves / sigma**2, 1) for sigma in sigmas])


def quantized_difference(a: object, b: object) -> float:
    """Of the codes alone: where two are as near as rounding can tell, either will do."""
    assert isinstance(a, tuple) and isinstance(b, tuple)
    return float((a[1] != b[1]).double().mean()) if a[0].shape == b[0].shape else float("nan")


def search(found: Peers, rows: int, codes: int, depth: int, dtype: torch.dtype, device: str) -> Case:
    z, codebook = (torch.randn(n, depth, device=device).to(dtype) for n in (rows, codes))
    compiled = torch.compile(nearest)
    peers = {"torch eager": lambda: nearest(z, codebook), "torch.compile": lambda: compiled(z, codebook)}
    ours = by_backend(lambda: lapcore.vector_quantize(z, codebook), "vector_quantize", z)
    moved = 2 * z.nbytes + codebook.nbytes + 8 * rows
    return Case(
        "vector_quantize",
        moved,
        ours,
        found.only_wanted(peers),
        difference=quantized_difference,
        tolerance=1e-3,
    )


def estimate(found: Peers, rows: int, count: int, depth: int, sigmas: list[float], device: str) -> Case:
    x, samples = (torch.randn(n, depth, device=device) for n in (rows, count))
    peers = {"torch eager": lambda: windows(x, samples, sigmas)}
    ours = by_backend(lambda: lapcore.parzen_log_likelihood(x, samples, sigmas), "parzen_log_likelihood", x)
    moved = x.nbytes + samples.nbytes + 4 * len(sigmas) * rows
    return Case(
        "parzen_log_likelihood", moved, ours, found.only_wanted(peers), difference=largest_difference, tolerance=1e-5
    )


def cases(found: Peers, op: str, device: str = "cuda") -> dict[str, Build]:
    built: dict[str, Build] = {}
    if op == "vector_quantize":
        for rows, codes, depth in SEARCHES:
            for dtype in (torch.float32, torch.bfloat16) if rows == SEARCHES[0][0] else (torch.float32,):
                name = f"{op} {rows}x{depth} {codes} codes {str(dtype).removeprefix('torch.')}"
                built[name] = partial(search, found, rows, codes, depth, dtype, device)
    else:
        for rows, count, depth in WINDOWS:
            for sigmas in (SIGMAS, SIGMAS[5:6]) if rows > 100 else (SIGMAS,):
                name = f"{op} {rows}x{depth} {count} samples {len(sigmas)} sigmas"
                built[name] = partial(estimate, found, rows, count, depth, sigmas, device)
    return built


def called(device: str) -> Iterator[Called]:
    """On values k/256, whose products float32 adds up without rounding: ties are ties on every backend."""
    for rows, count, depth in EXERCISED:
        for dtype in FLOATS:
            generator = torch.Generator().manual_seed(rows + count + depth)
            x, samples = (
                (torch.randint(0, 256, (n, depth), generator=generator) / 256).to(device, dtype).requires_grad_()
                for n in (rows, count)
            )
            likelihoods = lapcore.parzen_log_likelihood(x, samples, SIGMAS)
            quantized, indices = lapcore.vector_quantize(x, samples)
            gradients = torch.autograd.grad(likelihoods.sum(), (x, samples))
            name = f"{str(dtype).removeprefix('torch.')} {rows}x{depth} {count}"
            results = [quantized.detach(), indices, likelihoods.detach()]
            yield Called(name, 1e-5, results, [gradient.float() for gradient in gradients])


def listed(found: Peers, op: str) -> Listed:
    family = "parzen" if op == "parzen_log_likelihood" else op
    return [(family, name, build) for name, build in cases(found, op).items()]


if __name__ == "__main__":
    sys.exit(main("distances", "parzen_log_likelihood", called, listed, ("vector_quantize", "parzen_log_likelihood")))
