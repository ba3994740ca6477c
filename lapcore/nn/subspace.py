"""The principal subspace of the rows that pass by, kept up to date from batch to batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lapcore.nn.processes import gathered


class PrincipalSubspace(nn.Module):
    """Mean and principal axes of all rows (N, dim) seen so far.

    X = U diag(scales) axes for the rows X less their mean. Each batch of n rows is taken in by a singular value decomposition of

        diag(scales) axes        the rows so far, up to a rotation that no axis sees
        batch - its mean
        sqrt(c n / (c + n)) (mean - the batch's mean),   c rows so far

    whose `rank` largest are kept (Ross et al., Incremental Learning for Robust Visual Tracking, IJCV 2008). Exact, in any batches,
    while no more than `rank` of them differ from 0, so always if rank = dim; else what falls off the end of the list is forgotten.
    The mean and `total`, the sum of squares of all rows less their mean, are exact always.

    The batch is that of all of torch.distributed's processes, of as many rows each. All state is in `state_dict()`.
    """

    mean: Tensor
    axes: Tensor
    scales: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("axes", torch.zeros(rank, dim))
        self.register_buffer("scales", torch.zeros(rank))
        self.register_buffer("total", torch.zeros((), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, rows: Tensor) -> None:
        """Takes in a batch."""
        rows = gathered(rows.to(self.mean.dtype))
        before, new = self.count.to(rows.dtype), len(rows)
        mean = rows.mean(0)
        away = rows - mean
        step = (before * new / (before + new)).sqrt() * (self.mean - mean)
        _, scales, axes = torch.linalg.svd(
            torch.cat([self.scales[:, None] * self.axes, away, step[None]]), full_matrices=False
        )
        kept = min(self.rank, len(scales))
        self.axes[:kept], self.scales[:kept] = _signed(axes[:kept]), scales[:kept]
        self.mean.lerp_(mean, new / (before + new))
        self.total.add_(away.double().square().sum() + step.double().square().sum())
        self.count.add_(new)


def _signed(axes: Tensor) -> Tensor:
    """Axes are lines; of their two directions, the one whose largest component is positive."""
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return axes * torch.where(largest < 0, -1.0, 1.0)
