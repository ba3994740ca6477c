"""Parzen windows in Triton: a program holds a block of rows and passes over the samples. Of each row it keeps the least score
and, for every sigma, the sum of the exponentials relative to it.

The score of a sample is |mu|^2 / 2 - x . mu, both around the samples' mean, by matrix products in float32. A row's result does not
depend on its batch. What is not finite, or whose square is not, is infinitely far; only a NaN makes NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._distance import BLOCK_COLUMNS, BLOCK_D, BLOCK_ROWS, LARGEST, half_norms, product


@triton.jit(do_not_specialize=["count", "many", "sigmas"])
def log_likelihood_kernel(
    x, samples, centre, row_norms, sample_norms, precisions, constants, out,
    count, many, size, sigmas, x_row, x_column, y_row, y_column,
    SIGMAS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """out[s, n] = logsum_i exp(-precision_s ||x_n - mu_i||^2 / 2) + constant_s."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    used = rows < count
    place = tl.arange(0, SIGMAS)[None, :]
    known = place < sigmas
    precision = tl.load(precisions + place, mask=known, other=1)
    least = tl.full((BLOCK_ROWS,), LARGEST, dtype=tl.float32)
    sums = tl.zeros((BLOCK_ROWS, SIGMAS), dtype=tl.float32)
    broken = tl.zeros((BLOCK_COLUMNS,), dtype=tl.int32)
    for start in range(0, many, BLOCK_COLUMNS):
        sample = (start + tl.arange(0, BLOCK_COLUMNS)).to(tl.int64)
        real = sample < many
        products = product(
            x, x_row, x_column, rows, used, samples, y_row, y_column, sample, real, centre, size,
            BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_D,
        )  # fmt: skip
        norms = tl.load(sample_norms + sample, mask=real, other=0)
        broken |= (norms != norms).to(tl.int32)
        scores = norms[None, :] - products
        scores = tl.where(real[None, :] & (tl.abs(scores) <= LARGEST), scores, LARGEST)
        lower = tl.minimum(tl.min(scores, axis=1), least)
        sums *= tl.exp((lower - least)[:, None] * tl.minimum(precision, LARGEST))
        for s in range(sigmas):
            factor = tl.minimum(tl.load(precisions + s), LARGEST)
            terms = tl.where(real[None, :], tl.exp((lower[:, None] - scores) * factor), 0)
            sums += tl.where(place == s, tl.sum(terms, axis=1)[:, None], 0)
        least = lower
    norms = tl.load(row_norms + rows, mask=used, other=0)
    half = tl.where(least < LARGEST, tl.maximum(least + norms, 0), float("inf"))
    nan = (norms != norms) | (tl.max(broken, axis=0) > 0)
    exponent = tl.where(half[:, None] > 0, half[:, None] * precision, 0)
    value = tl.log(sums) - exponent + tl.load(constants + place, mask=known, other=0)
    value = tl.where(nan[:, None], float("nan"), value)
    tl.store(out + place.to(tl.int64) * count + rows[:, None], value, mask=used[:, None] & known)


def parzen_log_likelihood(x: Tensor, samples: Tensor, sigmas: Sequence[float]) -> Tensor | None:
    """x (N, D), N >= 1, samples (M, D) -> (S, N), float32. None for float64."""
    if x.dtype == torch.float64:
        return None
    (count, size), many = x.shape, len(samples)
    samples = samples.contiguous()  # torch's mean adds in an order that follows the strides
    # Normal numbers, and infinity: no precision is 0, which times an infinite distance would be NaN.
    tiny = torch.finfo(torch.float32).tiny
    precisions = [max(1 / sigma / sigma, tiny) for sigma in sigmas]
    constants = [-math.log(many) - size * (math.log(sigma) + math.log(2 * math.pi) / 2) for sigma in sigmas]
    with torch.cuda.device_of(x):
        centre = samples.mean(0, dtype=torch.float32).nan_to_num(0, 0, 0)
        out = torch.empty((len(sigmas), count), dtype=torch.float32, device=x.device)
        log_likelihood_kernel[(triton.cdiv(count, BLOCK_ROWS),)](
            x, samples, centre, half_norms(x, centre), half_norms(samples, centre),
            *torch.tensor([precisions, constants], dtype=torch.float64).to(x.device, torch.float32), out,
            count, many, size, len(sigmas), *x.stride(), *samples.stride(),
            SIGMAS=triton.next_power_of_2(len(sigmas)), BLOCK_ROWS=BLOCK_ROWS, BLOCK_COLUMNS=BLOCK_COLUMNS, BLOCK_D=BLOCK_D,
            num_warps=8, num_stages=2, enable_fp_fusion=True,
        )  # fmt: skip
    return out
