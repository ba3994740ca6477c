"""The nearest code of each row in Triton: a program holds a block of rows, passes over the codebook, and keeps the least score.

The score of a code is |e|^2 / 2 - z . e, by matrix products that accumulate in float32. A row's result does not depend on its
batch.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._distance import BLOCK_COLUMNS, BLOCK_D, BLOCK_D_HALF, BLOCK_ROWS, half_norms, product


@triton.jit(do_not_specialize=["count", "codes"])
def nearest_kernel(
    z, codebook, norms, quantized, indices, count, codes, size, z_row, z_column, e_row, e_column,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    used = rows < count
    least = tl.full((BLOCK_ROWS,), float("inf"), dtype=tl.float32)
    index = tl.zeros((BLOCK_ROWS,), dtype=tl.int64)
    for start in range(0, codes, BLOCK_COLUMNS):
        code = (start + tl.arange(0, BLOCK_COLUMNS)).to(tl.int64)
        real = code < codes
        products = product(
            z, z_row, z_column, rows, used, codebook, e_row, e_column, code, real, None, size,
            BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_D,
        )  # fmt: skip
        scores = tl.load(norms + code, mask=real, other=float("inf"))[None, :] - products
        scores = tl.where(scores == scores, scores, float("inf"))
        lower = tl.min(scores, axis=1)
        first = tl.min(tl.where(scores == lower[:, None], code[None, :], codes), axis=1)
        index = tl.where(lower < least, first, index)
        least = tl.minimum(lower, least)
    tl.store(indices + rows, index, mask=used)
    for start in range(0, size, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        inside = used[:, None] & (d < size)[None, :]
        value = tl.load(codebook + index[:, None] * e_row + d[None, :] * e_column, mask=inside)
        tl.store(quantized + rows[:, None] * size + d[None, :], value, mask=inside)


def vector_quantize(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor] | None:
    """z (N, D), N >= 1, codebook (K, D) -> the nearest codes, and their indices, int64. None for float64."""
    if z.dtype == torch.float64:
        return None
    count, size = z.shape
    block_d = BLOCK_D if z.dtype == torch.float32 else BLOCK_D_HALF
    with torch.cuda.device_of(z):
        quantized = torch.empty(z.shape, dtype=z.dtype, device=z.device)
        indices = torch.empty(count, dtype=torch.int64, device=z.device)
        nearest_kernel[(triton.cdiv(count, BLOCK_ROWS),)](
            z, codebook, half_norms(codebook, None), quantized, indices,
            count, len(codebook), size, *z.stride(), *codebook.stride(),
            BLOCK_ROWS=BLOCK_ROWS, BLOCK_COLUMNS=BLOCK_COLUMNS, BLOCK_D=block_d, num_warps=4, num_stages=2, enable_fp_fusion=True,
        )  # fmt: skip
    return quantized, indices
