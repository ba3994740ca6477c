"""Diagonal Gaussians in Triton: one pass over memory, forward and backward, in which the noise is drawn beside what it meets.

Tensors are (N, ...) and one row each; sums over rows go chunk by chunk of a row, tile by tile in a tree, and the chunks of a row in
one order in float64: an order that the length of a row alone determines. float64 is computed in float64, all else in float32 and
rounded once. Callers check the arguments. Functions and semantics are those of lapcore.reference.gaussian.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._arithmetic import rounded
from ._launch import accumulator, index_type
from ._moments import EVERYWHERE, INF, chain, compare, difference, root_of, scaled
from ._noise import NORMAL, OPTIONS, Noise, elements, noise_of, one_seed, row_keys, tile_of

__all__ = [
    "gaussian_kl",
    "gaussian_kl_backward",
    "gaussian_nll",
    "gaussian_nll_backward",
    "reparameterize",
    "reparameterize_backward",
    "reparameterize_kl",
    "reparameterize_kl_backward",
]

DEPTH = 4  # tiles of a chunk
SUM_BLOCK = 1024
NO_NOISE: Noise = (None, 0, 0, 0, 0, 0)

Rows = tuple[Tensor, int]  # of contiguous elements, and their stride


@triton.jit
def place(rows, length, INDEX: tl.constexpr, DEPTH: tl.constexpr, R: tl.constexpr, B: tl.constexpr):
    """The number of chunks of a row, the program's, its rows, and the first block and number of tiles of its chunk."""
    chunks = tl.cdiv(length, 4 * B * DEPTH)
    pid = tl.program_id(0)
    row = (pid // chunks).to(INDEX) * R + tl.arange(0, R)
    chunk = (pid % chunks).to(INDEX)
    tiles = tl.minimum(tl.cdiv(length - chunk * (4 * B * DEPTH), 4 * B), DEPTH)
    return chunks, chunk, row, chunk * (B * DEPTH), tiles


@triton.jit
def read(x, row, column, inside, COMPUTE: tl.constexpr):
    """A tile of rows, None of what is not there."""
    if x is None:
        return None
    else:
        at = (row.to(tl.int64) * x[1])[:, None] + column[None, :]
        return tl.load(x[0] + at, mask=inside, other=0).to(COMPUTE)


@triton.jit
def write(x_ptr, value, row, column, length, inside):
    at = (row.to(tl.int64) * length)[:, None] + column[None, :]
    tl.store(x_ptr + at, rounded(value, x_ptr.dtype.element_ty), mask=inside)


@triton.jit
def combined(a, b):
    """a + b, where inf - inf is inf: off a point mass there is no density, however much of it there is elsewhere."""
    total = a + b
    return tl.where((total != total) & (a == a) & (b == b), INF, total)


@triton.jit
def row_sums(tile):
    """The sums of rows, `combined`."""
    total = tl.sum(tile, axis=1)
    spoilt = tl.max((tile != tile).to(tl.int32), axis=1) != 0
    return tl.where((total != total) & (spoilt == 0), INF, total)


@triton.jit
def finish(total, length, EACH: tl.constexpr):
    """Half of a sum to which each element adds EACH besides."""
    return (total.to(tl.float64) + EACH * length.to(tl.float64)) * 0.5


@triton.jit
def store_sums(sums_ptr, tile, chunks, chunk, row, rows, length, EACH: tl.constexpr, WHOLE: tl.constexpr):
    """The results, where a row is one chunk; or the chunk's part, in float64."""
    total = row_sums(tile).to(tl.float64)
    if WHOLE:
        total = finish(total, length + tl.zeros_like(row), EACH)
    tl.store(sums_ptr + row.to(tl.int64) * chunks + chunk, total.to(sums_ptr.dtype.element_ty), mask=row < rows)


@triton.jit(do_not_specialize=["chunks"])
def finish_kernel(out_ptr, parts_ptr, chunks, length, EACH: tl.constexpr, BLOCK: tl.constexpr):
    """The result of a row from its chunks' parts."""
    row = tl.program_id(0).to(tl.int64)
    total = tl.zeros((1, BLOCK), tl.float64)
    for start in range(0, chunks, BLOCK):
        chunk = start + tl.arange(0, BLOCK)[None, :]
        total = combined(total, tl.load(parts_ptr + row * chunks + chunk, mask=chunk < chunks, other=0))
    result = finish(row_sums(total), length + tl.zeros((1,), tl.int64), EACH)
    tl.store(out_ptr + row + tl.zeros((1,), tl.int64), result.to(out_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["noise", "rows"])
def forward_kernel(
    z_ptr, sums_ptr,  # None where they are not wanted
    mean, logvar, prior_mean, prior_logvar, noise, rows, length,
    COMPUTE: tl.constexpr, INDEX: tl.constexpr, SHIFTED: tl.constexpr, WHOLE: tl.constexpr,
    DEPTH: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """z = mean + e**(logvar/2) noise, and the divergence from the prior."""
    chunks, chunk, row, begin, tiles = place(rows, length, INDEX, DEPTH, R, B)
    keys = row_keys(noise, row, row < rows)
    total = tl.zeros((R, 4 * B), COMPUTE)
    for tile in range(tiles):
        first = begin + tile * B
        column = 4 * first + tl.arange(0, 4 * B)
        inside = (row < rows)[:, None] & (column < length)[None, :]
        mq, lq = read(mean, row, column, inside, COMPUTE), read(logvar, row, column, inside, COMPUTE)
        if sums_ptr is not None:
            mp, lp = read(prior_mean, row, column, inside, COMPUTE), read(prior_logvar, row, column, inside, COMPUTE)
            ratio, expm1, whitened, root = compare(mq, lq, mp, lp)
            # From 2832 on, e**ratio is inf: no more is subtracted, lest inf meet inf.
            excess = tl.maximum(expm1 - tl.minimum(ratio, 2832.0), 0.0, EVERYWHERE)
            total += tl.fma(whitened, whitened, excess)
        if z_ptr is not None:
            if sums_ptr is None or prior_logvar is not None:
                root, _expm1 = root_of(lq * 0.25)
            drawn = elements(noise, keys, row, first, length, NORMAL, SHIFTED, R, B).to(COMPUTE)
            write(z_ptr, mq + scaled(drawn, root), row, column, length, inside)
    if sums_ptr is not None:
        store_sums(sums_ptr, total, chunks, chunk, row, rows, length, 0.0, WHOLE)


@triton.jit(do_not_specialize=["noise", "rows"])
def backward_kernel(
    d_mean_ptr, d_logvar_ptr, d_prior_mean_ptr, d_prior_logvar_ptr,  # None: not wanted, all but d_logvar
    grad_z, grad_kl,  # either may be None
    mean, logvar, prior_mean, prior_logvar, noise, rows, length,
    COMPUTE: tl.constexpr, INDEX: tl.constexpr, SHIFTED: tl.constexpr,
    DEPTH: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """The gradients of z and of the divergence, added up."""
    _chunks, _chunk, row, begin, tiles = place(rows, length, INDEX, DEPTH, R, B)
    keys = row_keys(noise, row, row < rows)
    if grad_kl is not None:
        grad = tl.load(grad_kl[0] + row.to(tl.int64) * grad_kl[1], mask=row < rows, other=0)[:, None]
    for tile in range(tiles):
        first = begin + tile * B
        column = 4 * first + tl.arange(0, 4 * B)
        inside = (row < rows)[:, None] & (column < length)[None, :]
        lq = read(logvar, row, column, inside, COMPUTE)
        to_logvar = tl.zeros((R, 4 * B), COMPUTE)
        if grad_kl is not None:
            mq = read(mean, row, column, inside, COMPUTE)
            mp, lp = read(prior_mean, row, column, inside, COMPUTE), read(prior_logvar, row, column, inside, COMPUTE)
            _ratio, expm1, whitened, root = compare(mq, lq, mp, lp)
            to_mean = chain(grad, whitened if lp is None else scaled(whitened, root))
            to_logvar = chain(grad, expm1 * 0.5)
            if d_prior_mean_ptr is not None:
                write(d_prior_mean_ptr, -to_mean, row, column, length, inside)
            if d_prior_logvar_ptr is not None:
                to_prior = chain(grad, -0.5 * (expm1 + whitened * whitened))
                write(d_prior_logvar_ptr, to_prior, row, column, length, inside)
        if grad_z is not None:
            if grad_kl is None or prior_logvar is not None:
                root, _expm1 = root_of(lq * 0.25)
            drawn = elements(noise, keys, row, first, length, NORMAL, SHIFTED, R, B).to(COMPUTE)
            dz = read(grad_z, row, column, inside, COMPUTE)
            to_logvar += chain(dz, scaled(drawn, root) * 0.5)
            if grad_kl is not None:
                to_mean += dz
        if d_mean_ptr is not None:
            write(d_mean_ptr, to_mean, row, column, length, inside)
        write(d_logvar_ptr, to_logvar, row, column, length, inside)


@triton.jit
def whiten(x, mean, logvar, row, column, inside, COMPUTE: tl.constexpr):
    """logvar, (x - mean) e**(-logvar/2), and e**(-logvar/4)."""
    lv = read(logvar, row, column, inside, COMPUTE)
    root, _expm1 = root_of(lv * -0.25)
    d = difference(read(x, row, column, inside, COMPUTE), read(mean, row, column, inside, COMPUTE))
    return lv, scaled(d, root), root


@triton.jit(do_not_specialize=["rows"])
def nll_kernel(
    sums_ptr, x, mean, logvar, rows, length,
    COMPUTE: tl.constexpr, INDEX: tl.constexpr, WHOLE: tl.constexpr, EACH: tl.constexpr,
    DEPTH: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """The negative log-likelihood of x."""
    chunks, chunk, row, begin, tiles = place(rows, length, INDEX, DEPTH, R, B)
    total = tl.zeros((R, 4 * B), COMPUTE)
    for tile in range(tiles):
        column = 4 * (begin + tile * B) + tl.arange(0, 4 * B)
        inside = (row < rows)[:, None] & (column < length)[None, :]
        lv, whitened, _root = whiten(x, mean, logvar, row, column, inside, COMPUTE)
        # Off its mean a vanishing variance gives no density: inf, though logvar is -inf.
        total = combined(total, combined(whitened * whitened, lv))
    store_sums(sums_ptr, total, chunks, chunk, row, rows, length, EACH, WHOLE)


@triton.jit(do_not_specialize=["rows"])
def nll_backward_kernel(
    d_x_ptr, d_mean_ptr, d_logvar_ptr, grad_nll, x, mean, logvar, rows, length,
    COMPUTE: tl.constexpr, INDEX: tl.constexpr,
    DEPTH: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """The gradients of the negative log-likelihood."""
    _chunks, _chunk, row, begin, tiles = place(rows, length, INDEX, DEPTH, R, B)
    grad = tl.load(grad_nll[0] + row.to(tl.int64) * grad_nll[1], mask=row < rows, other=0)[:, None]
    for tile in range(tiles):
        column = 4 * (begin + tile * B) + tl.arange(0, 4 * B)
        inside = (row < rows)[:, None] & (column < length)[None, :]
        _lv, whitened, root = whiten(x, mean, logvar, row, column, inside, COMPUTE)
        to_x = chain(grad, scaled(whitened, root))
        write(d_x_ptr, to_x, row, column, length, inside)
        write(d_mean_ptr, -to_x, row, column, length, inside)
        write(d_logvar_ptr, chain(grad, 0.5 - 0.5 * (whitened * whitened)), row, column, length, inside)


def reparameterize(mean: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    """z = mean + exp(logvar/2) * noise."""
    z = new(mean)
    forward(z, None, (mean, logvar, None, None), seeds, stream)
    return z


def gaussian_kl(mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None) -> Tensor:
    """KL(q||p), (N,)."""
    kl = new_sums(mean)
    forward(None, kl, (mean, logvar, prior_mean, prior_logvar), None, 0)
    return kl


def reparameterize_kl(
    mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None, seeds: Tensor, stream: int
) -> tuple[Tensor, Tensor]:
    """(z, kl) of the two functions above."""
    z, kl = new(mean), new_sums(mean)
    forward(z, kl, (mean, logvar, prior_mean, prior_logvar), seeds, stream)
    return z, kl


def gaussian_nll(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """-log N(x; mean, exp(logvar)), (N,)."""
    nll, each = new_sums(x), math.log(2 * math.pi)
    if x.numel():
        sums, whole = parts_of(nll, x)
        with torch.cuda.device_of(x):
            nll_kernel[grid(x)](
                sums, rows_of(x), rows_of(mean), rows_of(logvar), *shape(x), WHOLE=whole, EACH=each, **options(x)
            )  # fmt: skip
        finish_sums(nll, sums, x, each)
    return nll


def reparameterize_backward(grad: Tensor, logvar: Tensor, seeds: Tensor, stream: int) -> Tensor:
    """At logvar; the gradient at the mean is `grad` itself."""
    d_logvar = new(logvar)
    backward([None, d_logvar, None, None], grad, None, (None, logvar, None, None), seeds, stream)
    return d_logvar


def gaussian_kl_backward(
    grad: Tensor, mean: Tensor, logvar: Tensor, prior_mean: Tensor | None, prior_logvar: Tensor | None
) -> list[Tensor]:
    """At each of the moments that are there."""
    moments = mean, logvar, prior_mean, prior_logvar
    return backward([new(x) for x in moments], None, grad, moments, None, 0)


def reparameterize_kl_backward(
    grad_z: Tensor,
    grad_kl: Tensor,
    mean: Tensor,
    logvar: Tensor,
    prior_mean: Tensor | None,
    prior_logvar: Tensor | None,
    seeds: Tensor,
    stream: int,
) -> list[Tensor]:
    """The sums of both functions' gradients."""
    moments = mean, logvar, prior_mean, prior_logvar
    return backward([new(x) for x in moments], grad_z, grad_kl, moments, seeds, stream)


def gaussian_nll_backward(grad: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> list[Tensor]:
    """At x, mean and logvar."""
    gradients = [new(x), new(x), new(x)]
    if x.numel():
        with torch.cuda.device_of(x):
            nll_backward_kernel[grid(x)](
                *gradients, (grad, grad.stride(0)), rows_of(x), rows_of(mean), rows_of(logvar), *shape(x), **options(x)
            )  # fmt: skip
    return gradients


def new(x: Tensor | None) -> Tensor | None:
    return None if x is None else torch.empty(x.shape, dtype=x.dtype, device=x.device)


def new_sums(x: Tensor) -> Tensor:
    """(N,), 0 where rows are empty."""
    make = torch.empty if x.numel() else torch.zeros
    return make(x.shape[:1], dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)


def rows_of(x: Tensor | None) -> Rows | None:
    """Each row x[i] must be contiguous; a copy where that is not so."""
    if x is None:
        return None
    if not (x.is_contiguous() or x[0].is_contiguous()):
        x = x.contiguous()
    return x, x.stride(0)


def shape(x: Tensor) -> tuple[int, int]:
    return len(x), x.numel() // len(x)


def cut(length: int) -> tuple[int, int, int]:
    """Tiles of a chunk, R and B, by the length of a row alone."""
    height, width = tile_of(length)
    return min(DEPTH, triton.cdiv(length, 4 * width)), height, width


def chunks_of(x: Tensor) -> int:
    """Of a row."""
    _, length = shape(x)
    depth, _, width = cut(length)
    return triton.cdiv(length, 4 * width * depth)


def grid(x: Tensor) -> tuple[int]:
    rows, length = shape(x)
    return (triton.cdiv(rows, cut(length)[1]) * chunks_of(x),)


def options(x: Tensor) -> dict[str, object]:
    depth, height, width = cut(shape(x)[1])
    return dict(COMPUTE=accumulator(x), INDEX=index_type(*shape(x)), DEPTH=depth, R=height, B=width, **OPTIONS)


def parts_of(sums: Tensor, x: Tensor) -> tuple[Tensor, bool]:
    """What a kernel leaves its sums in: the results themselves where a row is one chunk."""
    chunks = chunks_of(x)
    whole = chunks == 1
    return sums if whole else torch.empty((len(x), chunks), dtype=torch.float64, device=x.device), whole


def finish_sums(sums: Tensor, parts: Tensor, x: Tensor, each: float) -> None:
    if parts is not sums:
        with torch.cuda.device_of(x):
            finish_kernel[(len(x),)](sums, parts, parts.shape[1], shape(x)[1], EACH=each, BLOCK=SUM_BLOCK, num_warps=4)


def noise_options(seeds: Tensor | None, stream: int, length: int) -> tuple[Noise, bool]:
    """The noise, and whether rows begin inside a block of it."""
    if seeds is None:
        return NO_NOISE, False
    return noise_of(seeds, stream), one_seed(seeds) and length % 4 != 0


def forward(
    z: Tensor | None, kl: Tensor | None, moments: tuple[Tensor | None, ...], seeds: Tensor | None, stream: int
) -> None:
    x = moments[1]
    assert x is not None
    if not x.numel():
        return
    sums, whole = (None, True) if kl is None else parts_of(kl, x)
    noise, shifted = noise_options(seeds, stream, shape(x)[1])
    with torch.cuda.device_of(x):
        forward_kernel[grid(x)](
            z, sums, *map(rows_of, moments), noise, *shape(x), SHIFTED=shifted, WHOLE=whole, **options(x)
        )  # fmt: skip
    if kl is not None and sums is not None:
        finish_sums(kl, sums, x, 0.0)


def backward(
    gradients: list[Tensor | None],
    grad_z: Tensor | None,
    grad_kl: Tensor | None,
    moments: tuple[Tensor | None, ...],
    seeds: Tensor | None,
    stream: int,
) -> list[Tensor]:
    """Fills the gradients that are there, and gives them back."""
    x = moments[1]
    assert x is not None
    if x.numel():
        noise, shifted = noise_options(seeds, stream, shape(x)[1])
        of_row = None if grad_kl is None else (grad_kl, grad_kl.stride(0))
        with torch.cuda.device_of(x):
            backward_kernel[grid(x)](
                *gradients, rows_of(grad_z), of_row, *map(rows_of, moments), noise, *shape(x),
                SHIFTED=shifted, **options(x),
            )  # fmt: skip
    return [gradient for gradient in gradients if gradient is not None]
