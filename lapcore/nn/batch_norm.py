"""Batch norm over the batches of all processes: n processes train with the statistics of one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lapcore.nn.processes import processes


class BatchNorm1d(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d`, of one state_dict with it, whose training statistics are those of all processes.

    y = weight (x - m) / sqrt(v + eps) + bias with the mean m and the variance v of a channel over the whole batch, which
    torch.distributed's processes share. Gradients flow through m and v to every process's x, so with the average of the gradients
    of n processes a step is that of one process at the same batch, up to rounding (Ioffe and Szegedy 2015). With one process,
    and in evaluation mode, it is torch's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and processes() > 1:
            return _shared(self, input)
        return super().forward(input)


class BatchNorm2d(nn.BatchNorm2d):
    """Does what `BatchNorm1d` does, to (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and processes() > 1:
            return _shared(self, input)
        return super().forward(input)


def _shared(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    norm._check_input_dim(x)
    dims = [0, *range(2, x.dim())]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    size = values.new_tensor([values.numel() / values.shape[1]])
    totals = _sum(torch.cat([values.sum(dims), size]))
    count = totals[-1]
    mean = totals[:-1] / count
    deviation = values - mean.view(shape)
    # The squares of deviations, as torch sums them: the mean of squares less the squared mean would cancel.
    variance = _sum(deviation.square().sum(dims)) / count
    _note(norm, mean.detach(), variance.detach() * count / (count - 1))
    out = deviation * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        out = out * norm.weight.view(shape) + norm.bias.view(shape)
    return out.to(x.dtype)


@torch.no_grad()
def _note(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """The running averages, of the unbiased variance, as torch keeps them."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


class _Sum(torch.autograd.Function):
    """The sum over processes. Its gradient is the sum of theirs: each process's output depends on every input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _sum(gradients[0])


def _sum(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total
