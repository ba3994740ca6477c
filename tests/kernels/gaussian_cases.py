"""Calls of the functions on diagonal Gaussians that GPU kernels are tested with, and what the float64 oracle says of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lapcore.reference import random
from tests.oracle import gaussian as oracle
from tests.tolerance import assert_close, to_numpy

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CPU = torch.device("cpu")
Array = np.ndarray
Gradients = list[torch.Tensor]


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def summed(dtype: torch.dtype) -> torch.dtype:
    """What a sum over a row comes in."""
    return torch.promote_types(dtype, torch.float32)


@dataclass
class Call:
    """One of everything that the functions take; prior: bit 0 for its mean, bit 1 for its log-variance."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    per_row: bool
    prior: int

    def __post_init__(self) -> None:
        self.mean, self.logvar, prior_mean, prior_logvar, self.x, self.grad_z = (
            draw(self.shape, seed, self.dtype) for seed in range(6)
        )
        self.prior_mean = prior_mean if self.prior & 1 else None
        self.prior_logvar = prior_logvar if self.prior & 2 else None
        self.grad = draw(self.shape[:1], 6, summed(self.dtype))
        rows = torch.arange(2 * self.shape[0])[::2] * 2**33 - 1
        self.seeds = rows if self.per_row else torch.tensor([2**40 + 11])
        self.stream = 5

    def __str__(self) -> str:
        return f"{self.shape} {str(self.dtype).removeprefix('torch.')} prior {self.prior} per row {self.per_row}"

    @property
    def moments(self) -> list[torch.Tensor | None]:
        return [self.mean, self.logvar, self.prior_mean, self.prior_logvar]

    @property
    def arrays(self) -> list[Array | None]:
        return [None if x is None else to_numpy(x) for x in self.moments]

    @property
    def noise(self) -> Array:
        """The float32 normals, which are the same to the bit everywhere."""
        return to_numpy(random.normal(self.shape, self.seeds, self.stream, CPU, torch.float32))

    @property
    def eps(self) -> float:
        return torch.finfo(summed(self.dtype)).eps

    def rounding(self, expected: Array) -> Array:
        return torch.finfo(self.dtype).eps / 2 * (1 + 1e-3) * np.abs(expected) + torch.finfo(self.dtype).tiny

    def check_z(self, z: torch.Tensor) -> None:
        mean, logvar, *_ = self.arrays
        expected = oracle.reparameterize(mean, logvar, self.noise)
        deviation = np.exp(logvar / 2) * np.abs(self.noise)
        assert z.dtype == self.dtype and z.is_contiguous()
        assert_close(z, expected, 4 * self.eps * (np.abs(mean) + 4 * deviation) + self.rounding(expected), "z")

    def check_kl(self, kl: torch.Tensor) -> None:
        assert kl.dtype == summed(self.dtype)
        tolerance = 16 * self.eps * oracle.kl_magnitude(*self.arrays) + 1e-30
        assert_close(kl, oracle.gaussian_kl(*self.arrays), tolerance, "kl")

    def check_nll(self, nll: torch.Tensor) -> None:
        assert nll.dtype == summed(self.dtype)
        arrays = [to_numpy(t) for t in (self.x, self.mean, self.logvar)]
        tolerance = 16 * self.eps * oracle.nll_magnitude(*arrays) + 1e-30
        assert_close(nll, oracle.gaussian_nll(*arrays), tolerance, "nll")

    def check_gradients(self, got: Gradients, want: list[Array], scale: Array | float = 0.0) -> None:
        assert len(got) == len(want)
        for each, expected in zip(got, want, strict=True):
            assert each.dtype == self.dtype and each.shape == self.shape
            assert_close(each, expected, 64 * self.eps * (1 + np.abs(expected) + scale) + self.rounding(expected))

    def from_z(self) -> tuple[Array, Array]:
        return oracle.reparameterize_gradients(to_numpy(self.grad_z), to_numpy(self.logvar), self.noise)

    def from_kl(self) -> list[Array]:
        """At mean, logvar and what there is of the prior."""
        found = oracle.kl_gradients(to_numpy(self.grad), *self.arrays)
        return [gradient for gradient, x in zip(found, self.moments, strict=True) if x is not None]

    def check_z_gradient(self, d_logvar: torch.Tensor) -> None:
        self.check_gradients([d_logvar], [self.from_z()[1]])

    def check_kl_gradients(self, got: Gradients) -> None:
        self.check_gradients(got, self.from_kl())

    def check_both_gradients(self, got: Gradients) -> None:
        d_mean, d_logvar, *d_prior = self.from_kl()
        through_mean, through_logvar = self.from_z()
        scale = np.abs(through_mean) + np.abs(through_logvar)
        self.check_gradients(got, [d_mean + through_mean, d_logvar + through_logvar, *d_prior], scale)

    def check_nll_gradients(self, got: Gradients) -> None:
        arrays = (to_numpy(t) for t in (self.grad, self.x, self.mean, self.logvar))
        self.check_gradients(got, list(oracle.nll_gradients(*arrays)))


def calls(shapes: list[tuple[int, ...]]) -> Iterator[Call]:
    """Every dtype, prior and kind of seed in turn."""
    varied = itertools.cycle(itertools.product((False, True), DTYPES))
    priors = itertools.cycle((0, 3, 1, 2, 0))
    for shape in shapes:
        per_row, dtype = next(varied)
        yield Call(shape, dtype, per_row, next(priors))


def extremes(count: int, seed: int = 0) -> list[torch.Tensor]:
    """`count` float32 tensors (rows, 1) that together hold every combination of values at and beyond the ends."""
    values = (0.0, 1.5, -1.5, 90.0, -200.0, 200.0, -1e4, 1e30, math.inf, -math.inf, math.nan)
    combinations = torch.tensor(list(itertools.product(values, repeat=count)))
    chosen = torch.randperm(len(combinations), generator=torch.Generator().manual_seed(seed))[:1500]
    return [column.contiguous() for column in combinations[chosen].split(1, dim=1)]
