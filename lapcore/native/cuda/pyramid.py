"""Pyramids on the CUDA kernels of csrc/cuda: one call for a whole pyramid, or for one operator.

Nothing but the results and the images between levels is allocated, and nothing at all where both are given: calls can be captured
in a CUDA graph.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from lapcore import _C
from lapcore.native.memory import DTYPES
from lapcore.native.pyramid import BORDERS, OPS, describe, describe_all, describe_tables
from lapcore.reference.pyramid import INTEGERS, Sizes, Tensors, band_dtype
from lapcore.reference.taps import Size, Tables

MAX_LEADING = 6  # what the kernels count through


def like(x: Tensor, size: Size, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty((*x.shape[:-2], *size), dtype=x.dtype if dtype is None else dtype, device=x.device)


def apply(
    op: str,
    x: Tensor,
    size: Size,
    filter: str,
    border: str,
    base: Tensor | None = None,
    alpha: int = 1,
    out: Tensor | None = None,
    tables: Tables | None = None,
) -> Tensor:
    """op(x) of the given size, or base + alpha * op(x); with `tables`, the taps on x's device, for filters other than binomial.

    More than six leading dimensions are flattened to one, which copies tensors whose strides do not allow a view.
    """
    if x.dim() - 2 > MAX_LEADING:
        flat_base = None if base is None else base.flatten(0, -3)
        flat = apply(op, x.flatten(0, -3), size, filter, border, flat_base, alpha, tables=tables)
        result = flat.view(*x.shape[:-2], *size)
        return result if out is None else out.copy_(result)
    if out is None:
        out = like(x, size, x.dtype if base is None else band_dtype(x.dtype))
    with torch.cuda.device(x.device):
        _C.cuda_pyramid_apply(
            OPS[op],
            DTYPES[x.dtype],
            BORDERS[border],
            torch.cuda.current_stream().cuda_stream,
            describe(x),
            describe(out),
            None if base is None else describe(base),
            alpha,
            describe_tables(tables),
        )
    return out


def fuses(x: Tensor, filter: str) -> bool:
    """Whether whole pyramids are made here; integers and other filters are left to single operators."""
    return filter == "binomial" and x.dtype not in INTEGERS and x.dim() - 2 <= MAX_LEADING


def run(name: str, border: str, image: Tensor, levels: Tensors, work: Tensors) -> None:
    with torch.cuda.device(image.device):
        stream = torch.cuda.current_stream().cuda_stream
        described = describe(image), describe_all(levels), describe_all(work)
        _C.cuda_pyramid(name, DTYPES[image.dtype], BORDERS[border], stream, *described)


def gaussian_pyramid(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    (x,) = inputs
    if not fuses(x, filter):
        return None
    out = out or [like(x, size) for size in sizes[1:]]
    run("gaussian_pyramid", border, x, out, [])
    return out


def laplacian_pyramid(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    (x,) = inputs
    if not fuses(x, filter):
        return None
    out = out or [like(x, size) for size in sizes]
    work = [like(x, size) for size in sizes[1:-1]] if work is None else work
    run("laplacian_pyramid", border, x, out, work)
    return out


def collapse(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    x = inputs[0]
    if not fuses(x, filter):
        return None
    (image,) = out or [like(x, sizes[0])]
    work = [like(x, size) for size in sizes[1:-1]] if work is None else work
    run("collapse", border, image, inputs, work)
    return [image]


def laplacian_pyramid_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    x = inputs[0]
    if not fuses(x, filter):
        return None
    (image,) = out or [like(x, sizes[0])]
    run("laplacian_pyramid_adjoint", border, image, inputs, [like(x, size) for size in sizes[1:]])
    return [image]


def collapse_adjoint(
    inputs: Tensors, sizes: Sizes, filter: str, border: str, out: Tensors | None = None, work: Tensors | None = None
) -> Tensors | None:
    (grad,) = inputs
    if not fuses(grad, filter):
        return None
    levels = [like(grad, size) for size in sizes[1:]]
    run("collapse_adjoint", border, grad, levels, [])
    return [grad, *levels]


MAX_TERMS = 16  # of a loss


def low_of(size: Size) -> Size:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def framed(x: Tensor, size: Size, used: Size) -> tuple[Tensor, Tensor]:
    """A float32 image of a size, and the view of it that is written; zeros beyond."""
    new = torch.empty if used == size else torch.zeros
    whole = new((*x.shape[:-2], *size), dtype=torch.float32, device=x.device)
    return whole, whole[..., : used[0], : used[1]]


def laplacian_loss(
    input: Tensor,
    target: Tensor,
    mask_levels: Tensors | None,
    coefficients: Tensor,
    sizes: Sizes,
    border: str,
    with_grad: bool,
) -> tuple[Tensor, Tensor | None] | None:
    """(loss (N,), its gradient at input or None), in float32. sizes: of the levels, each as it is halved, and the residual's.

    None, for single operators to do, in float64, under a circular border and without levels.
    """
    samples, terms = coefficients.shape
    unfit = input.dtype == torch.float64 or border == "circular" or input.dim() - 2 > MAX_LEADING
    if unfit or not input.numel() or len(sizes) == 1 or terms > MAX_TERMS:
        return None
    height, width = sizes[0]
    halves = [framed(input, low_of(size), low) for size, low in pairwise(sizes)]
    fine = describe_all([used for _, used in halves])
    signs: Tensors = []
    sums: list[tuple[Tensor, Tensor]] = []  # what is added up of the gradient at each level
    if with_grad:
        signs = [like(input, size, torch.float32) for size in sizes[:-1]]
        sums = [framed(input, low_of(size), low) for size, low in pairwise(sizes)]
        if terms < len(sizes):
            sums[-1][0].zero_()
        sums.insert(0, framed(input, (input.shape[-2], input.shape[-1]), sizes[0]))
    with torch.cuda.device(input.device):
        source = describe(input[..., :height, :width])
        parts = torch.empty(_C.cuda_loss_parts(source, fine, terms), dtype=torch.float64, device=input.device)
        loss = torch.empty(samples, dtype=torch.float32, device=input.device)
        weights, masks = coefficients.contiguous(), [mask.to(torch.float32) for mask in mask_levels or ()]
        _C.cuda_laplacian_loss(
            DTYPES[input.dtype],
            BORDERS[border],
            torch.cuda.current_stream().cuda_stream,
            source,
            describe(target[..., :height, :width]),
            describe_all(masks),
            fine,
            describe_all([whole for whole, _ in halves]),
            describe_all(signs),
            describe_all([used for _, used in sums]),
            describe_all([whole for whole, _ in sums[1:]]),
            describe(weights),
            describe(parts),
            describe(loss),
        )
    return loss, sums[0][0] if sums else None
