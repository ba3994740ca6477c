"""Vector quantisation as a layer: the VQ-VAE's codebook, moved by its loss or by moving averages."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from lapcore.nn.blocks import full_precision
from lapcore.ops import random
from lapcore.ops.vector_quantize import vector_quantize

TILE = 1 << 22
"""The most elements of a one-hot matrix that exist at a time."""


class Quantized(NamedTuple):
    """What a `VectorQuantizer` makes of its input; see there."""

    quantized: Tensor
    indices: Tensor
    loss: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    perplexity: Tensor


class VectorQuantizer(nn.Module):
    """Puts the nearest of `codes` vectors e_k in the place of every vector z of its input.

    Args:
        codes, dim: K and D, the size of the codebook, (K, D).
        axis: where in the input the D components of a vector lie: 1, as the channels of (N, D, H, W) do (the default), or
            -1 for (..., D), or any other.
        beta: weight of the commitment loss.
        decay: gamma of the moving averages that the codebook follows in training; None: it is a parameter, moved by the codebook
            loss instead.
        epsilon: of the Laplace smoothing of the averaged counts.
        restart_after: a code that no vector has chosen in so many training batches on end becomes a vector of the batch, drawn
            with replacement; None: never.
        seed: of the codebook's start, uniform in [-1/K, 1/K], and of these draws, by `lapcore.random`: nothing is taken from
            torch's generators.

    Returns, of z of any shape with D at `axis` and of the codebook's dtype (16-bit floats, which autocast makes, are taken as
    float32):
        quantized: like z; its gradient goes straight through to z.
        indices: int64, the shape of z without `axis`.
        loss: codebook_loss + beta * commitment_loss, scalars; the mean squares, over all components of all vectors, of
            sg[z] - e (0 with moving averages) and of z - sg[e].
        perplexity: exp(-sum_k p_k ln p_k), p the shares of the codes in this process's batch: from 1, one code does it all, to K.

    In training mode the averages N_k, of how many vectors chose code k, and m_k, of their sum, follow the batch, and
    e_k = m_k / N'_k with N'_k = (N_k + epsilon) / (N + K epsilon) N, N = sum_k N_k; the outputs are made with the codes as they
    were before. Where torch.distributed runs, counts, sums and restarts are those of the batches of all processes together, in
    the order of their ranks, and every process must call.

    Determinism: the same bits for the same calls on one backend; no atomics. All state is in `state_dict()`.
    Errors: TypeError, ValueError naming the argument.
    Source: van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, 2017, equation 3 and appendix A.1; the
        means over components as in the authors' code.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    idle: Tensor
    batches: Tensor

    def __init__(
        self,
        codes: int,
        dim: int,
        *,
        axis: int = 1,
        beta: float = 0.25,
        decay: float | None = 0.99,
        epsilon: float = 1e-5,
        restart_after: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("codes", codes), ("dim", dim), ("restart_after", restart_after)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay: expected None or a number in [0, 1), got {decay}")
        if not (beta >= 0 and epsilon > 0):
            raise ValueError(f"beta, epsilon: expected beta >= 0 and epsilon > 0, got {beta} and {epsilon}")
        self.codes, self.dim, self.axis, self.seed = codes, dim, axis, seed
        self.beta, self.decay, self.epsilon, self.restart_after = beta, decay, epsilon, restart_after
        start = (2 * random.uniform((codes, dim), seed) - 1) / codes
        if decay is None:
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
            self.register_buffer("counts", torch.ones(codes))
            self.register_buffer("sums", start.clone())
        if restart_after is not None:
            self.register_buffer("idle", torch.zeros(codes, dtype=torch.int64))
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, z: Tensor) -> Quantized:
        vectors = self._vectors(z)
        quantized, indices = vector_quantize(vectors, self.codebook)
        nearest = F.embedding(indices, self.codebook)
        commitment = F.mse_loss(vectors, nearest.detach())
        codebook = F.mse_loss(nearest, vectors.detach()) if self.decay is None else commitment.new_zeros(())
        flat = indices.reshape(-1)
        counts = _counts(flat, self.codes).to(vectors.dtype)
        share = counts / len(flat)
        perplexity = torch.exp(-torch.xlogy(share, share).sum())
        if self.training:
            self._follow(vectors.detach().reshape(-1, self.dim), flat, counts)
        loss = codebook + self.beta * commitment
        return Quantized(quantized.movedim(-1, self.axis), indices, loss, codebook, commitment, perplexity)

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes of these indices, with their components at `axis`: (N, H, W) -> (N, D, H, W) for axis 1."""
        return F.embedding(indices, self.codebook).movedim(-1, self.axis)

    def _vectors(self, z: Tensor) -> Tensor:
        if not -z.dim() <= self.axis < z.dim() or z.shape[self.axis] != self.dim or z.numel() == 0:
            raise ValueError(f"z: expected vectors of {self.dim} along axis {self.axis}, got shape {tuple(z.shape)}")
        return (z if z.dtype == self.codebook.dtype else full_precision(z)).movedim(self.axis, -1)

    @torch.no_grad()
    def _follow(self, rows: Tensor, indices: Tensor, counts: Tensor) -> None:
        if self.decay is None and self.restart_after is None:
            return
        counts = _summed(counts)
        if self.decay is not None:
            self.counts.lerp_(counts, 1 - self.decay)
            self.sums.lerp_(_summed(_sums(rows, indices, self.codes)), 1 - self.decay)
            total = self.counts.sum()
            smoothed = (self.counts + self.epsilon) / (total + self.codes * self.epsilon) * total
            self.codebook.copy_(self.sums / smoothed[:, None])
        if self.restart_after is not None:
            self._restart(rows, counts > 0)

    def _restart(self, rows: Tensor, chosen: Tensor) -> None:
        assert self.restart_after is not None
        self.idle.add_(1).masked_fill_(chosen, 0)
        dead = (self.idle >= self.restart_after)[:, None]
        drawn = self._drawn(rows)
        self.codebook.copy_(torch.where(dead, drawn, self.codebook))
        if self.decay is not None:
            self.sums.copy_(torch.where(dead, drawn, self.sums))
            self.counts.masked_fill_(dead[:, 0], 1)
        self.idle.masked_fill_(dead[:, 0], 0)
        self.batches.add_(1)

    def _drawn(self, rows: Tensor) -> Tensor:
        """(K, D): for every code a vector of the batches of all processes; code k of batch b draws with seed b K + k."""
        seeds = self.batches * self.codes + torch.arange(self.codes, device=rows.device)
        words = random.bits((self.codes, 1), seeds, stream=self.seed)[:, 0].long() & 0xFFFFFFFF
        first, total = _place(len(rows), rows.device)
        here = (words * total >> 32) - first
        mine = (here >= 0) & (here < len(rows))
        return _summed(rows[here.clamp(0, len(rows) - 1)] * mine[:, None])

    def extra_repr(self) -> str:
        moved = "by its loss" if self.decay is None else f"decay={self.decay}"
        return (
            f"{self.codes}, {self.dim}, axis={self.axis}, beta={self.beta}, {moved}, restart_after={self.restart_after}"
        )


def _counts(indices: Tensor, codes: int) -> Tensor:
    """How often each code occurs, (K,)."""
    ends = torch.arange(codes + 1, device=indices.device)
    return torch.searchsorted(indices.sort().values, ends).diff()


def _sums(rows: Tensor, indices: Tensor, codes: int) -> Tensor:
    """The sum of the rows of each code, (K, D). One-hot products add in a fixed order."""
    numbers = torch.arange(codes, device=rows.device)
    sums = rows.new_zeros(codes, rows.shape[1])
    tile = max(1, TILE // codes)
    for some, chosen in zip(torch.split(rows, tile), torch.split(indices, tile), strict=True):
        sums.addmm_((numbers[:, None] == chosen).to(rows.dtype), some)
    return sums


def _summed(x: Tensor) -> Tensor:
    """The sum over all processes, if there are several."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(x)
    return x


def _place(count: int, device: torch.device) -> tuple[Tensor | int, Tensor | int]:
    """Where this process's vectors start among those of all, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, count
    rank, world = distributed.get_rank(), distributed.get_world_size()
    counts = torch.zeros(world, dtype=torch.int64, device=device)
    counts[rank] = count
    counts = _summed(counts)
    return counts[:rank].sum(), counts.sum()
