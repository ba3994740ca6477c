"""Pyramids in plain PyTorch.

A 1-D operator is a table of taps: output i = sum_k weight[k, i] * line[index[k, i]], where index n stands for zero beyond the line.
A 2-D operator applies one along the columns and one along the rows. The transposes, from which gradients come, are tables too.

The operations on whole pyramids below are written over one function, apply; a backend that brings its own apply, and fuses no
more than that, runs them as they stand. `size` is that of the finest image, inputs and outputs are lists from fine to coarse.

down (Burt & Adelson 1983; OpenCV pyrDown):  out[i]    = sum_k K[k]/16 x[border(2i + k)],  K = 1 4 6 4 1, k = -2..2
up (OpenCV pyrUp):                           out[2i]   = (x[i-1] + 6 x[i] + x[i+1]) / 8
                                             out[2i+1] = (x[i] + x[i+1]) / 2
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

Size = tuple[int, int]
Tensors = list[Tensor]
Entry = tuple[int, int, float]  # output, source, weight


def border_index(i: int, n: int, border: str) -> int:
    """The sample at position i of a line of n; n itself (a zero) beyond a constant border."""
    if 0 <= i < n:
        return i
    if border == "reflect":
        period = max(2 * (n - 1), 1)
        i %= period
        return i if i < n else period - i
    if border == "symmetric":
        i %= 2 * n
        return i if i < n else 2 * n - 1 - i
    if border == "replicate":
        return 0 if i < 0 else n - 1
    if border == "circular":
        return i % n
    return n


def up_index(i: int, n: int, border: str) -> int:
    """As border_index, but reflect mirrors the upsampled grid as OpenCV does: past the last sample stands the last."""
    return n - 1 if border == "reflect" and i >= n else border_index(i, n, border)


def down_entries(n: int, border: str) -> list[Entry]:
    weights = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
    return [
        (i, border_index(2 * i + k - 2, n, border), weight)
        for i in range((n + 1) // 2)
        for k, weight in enumerate(weights)
    ]


def up_entries(n: int, size: int, border: str) -> list[Entry]:
    entries: list[Entry] = []
    for i in range(size):
        j = i // 2
        after = up_index(j + 1, n, border)
        if i % 2:
            entries += [(i, j, 1 / 2), (i, after, 1 / 2)]
        else:
            entries += [(i, up_index(j - 1, n, border), 1 / 8), (i, j, 6 / 8), (i, after, 1 / 8)]
    return entries


@lru_cache(maxsize=128)
def tap_table(op: str, fine: int, border: str) -> tuple[Tensor, Tensor, int]:
    """(index (K, n_out), weight (K, n_out), n_in) of `down`, `up` or an `_adjoint`, between `fine` and ceil(fine/2) samples."""
    coarse = (fine + 1) // 2
    entries = down_entries(fine, border) if op.startswith("down") else up_entries(coarse, fine, border)
    n_in = fine if op in ("down", "up_adjoint") else coarse
    if op.endswith("adjoint"):
        forward_in = coarse if op == "up_adjoint" else fine
        entries = [(source, out, weight) for out, source, weight in entries if source < forward_in]
    n_out = fine + coarse - n_in

    taps: list[list[tuple[int, float]]] = [[] for _ in range(n_out)]
    for out, source, w in entries:
        taps[out].append((source, w))
    depth = max(map(len, taps))
    padded = [line + [(n_in, 0.0)] * (depth - len(line)) for line in taps]
    index = torch.tensor([[source for source, _ in line] for line in padded]).T.contiguous()
    weight = torch.tensor([[w for _, w in line] for line in padded], dtype=torch.float64).T.contiguous()
    return index, weight, n_in


def apply_axis(x: Tensor, dim: int, op: str, fine: int, border: str) -> Tensor:
    """A 1-D operator along `dim` (-2 or -1)."""
    index, weight, _ = tap_table(op, fine, border)
    index, weight = index.to(x.device), weight.to(x.device, x.dtype)
    beyond = x.new_zeros(()).expand(x.narrow(dim, 0, 1).shape)
    line = torch.cat((x, beyond), dim)
    column = (-1, 1) if dim == -2 else (-1,)
    out = line.index_select(dim, index[0]) * weight[0].reshape(column)
    for k in range(1, len(index)):
        out = out + line.index_select(dim, index[k]) * weight[k].reshape(column)
    return out


def size_of(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]


def apply(op: str, x: Tensor, size: Size, border: str, base: Tensor | None = None, alpha: int = 1) -> Tensor:
    """op(x) of the given size, or base + alpha * op(x). 16-bit floats are computed in float32 and rounded once."""
    compute = torch.promote_types(x.dtype, torch.float32)
    fine = size if op in ("up", "down_adjoint") else size_of(x)
    out = apply_axis(apply_axis(x.to(compute), -2, op, fine[0], border), -1, op, fine[1], border)
    if base is not None:
        out = base.to(compute) + alpha * out
    return out.to(x.dtype)


class Apply(Protocol):
    """What a backend brings: one 2-D operator, fused with the addition that follows it."""

    def __call__(
        self, op: str, x: Tensor, size: Size, border: str, base: Tensor | None = None, alpha: int = 1
    ) -> Tensor: ...


def sizes_of(size: Size, levels: int) -> list[Size]:
    """The sizes of g_0 .. g_L: each side is halved, rounding up."""
    sizes = [size]
    for _ in range(levels):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def pyr_down(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    return [apply("down", inputs[0], sizes_of(size, 1)[1], border)]


def pyr_down_adjoint(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    return [apply("down_adjoint", inputs[0], size, border)]


def pyr_up(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    return [apply("up", inputs[0], size, border)]


def pyr_up_adjoint(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    return [apply("up_adjoint", inputs[0], sizes_of(size, 1)[1], border)]


def gaussian_pyramid(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    """g_1 .. g_L: g_0 = x, g_{l+1} = down(g_l)."""
    pyramid = inputs
    for low in sizes_of(size, levels)[1:]:
        pyramid = [*pyramid, apply("down", pyramid[-1], low, border)]
    return pyramid[1:]


def gaussian_pyramid_adjoint(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    """d_L = grad_L, d_l = grad_l + down^T(d_{l+1}); d_0, the result, has no grad of its own."""
    *grads, total = inputs
    for grad in reversed(grads):
        total = apply("down_adjoint", total, size_of(grad), border, grad)
    return [apply("down_adjoint", total, size, border)]


def laplacian_pyramid(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    """h_l = g_l - up(g_{l+1}), and g_L at the end."""
    gaussian = [*inputs, *gaussian_pyramid(inputs, size, levels, border, apply)]
    bands = [apply("up", low, size_of(fine), border, fine, -1) for fine, low in pairwise(gaussian)]
    return [*bands, gaussian[-1]]


def laplacian_pyramid_adjoint(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    """d_L = grad_L, d_l = grad_l + down^T(d_{l+1} - up^T(grad_l))."""
    *grads, total = inputs
    for grad in reversed(grads):
        low = apply("up_adjoint", grad, size_of(total), border, total, -1)
        total = apply("down_adjoint", low, size_of(grad), border, grad)
    return [total]


def collapse(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    """c_L = g_L, c_l = h_l + up(c_{l+1})."""
    *bands, image = inputs
    for band in reversed(bands):
        image = apply("up", image, size_of(band), border, band)
    return [image]


def collapse_adjoint(inputs: Tensors, size: Size, levels: int, border: str, apply: Apply = apply) -> Tensors:
    """d_0 = grad, d_{l+1} = up^T(d_l)."""
    grads = inputs
    for low in sizes_of(size, levels)[1:]:
        grads = [*grads, apply("up_adjoint", grads[-1], low, border)]
    return grads
