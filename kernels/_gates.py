"""Gates and the concatenated ELU, forward and backward: one pass over memory. Out of e**q - 1, accurate where it is small.

A program has BLOCK elements of a row of halves: (rows, 2 length) contiguous, beside (rows, length).
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._arithmetic import rounded
from ._moments import root_of


@triton.jit
def decay_of(size):
    """e**-size and e**-size - 1, size >= 0; 0 where the one is no normal number."""
    e, expm1 = root_of(-size)
    return tl.where(size > (708.39 if size.dtype == tl.float64 else 87.33), 0.0, e), expm1


@triton.jit
def tanh_of(x):
    """tanh x and its derivative."""
    e, expm1 = decay_of(2 * tl.abs(x))
    outer = 1 + e
    size = -expm1 / outer
    return tl.where(x < 0, -size, size), 4 * e / (outer * outer)


@triton.jit
def sigmoid_of(x):
    """1 / (1 + e**-x) and its derivative."""
    e, _expm1 = decay_of(tl.abs(x))
    outer = 1 + e
    return tl.where(x < 0, e, 1.0) / outer, e / (outer * outer)


@triton.jit
def gated(a, b, TANH: tl.constexpr):
    """tanh(a) sigmoid(b), or a sigmoid(b)."""
    gate, _slope = sigmoid_of(b)
    if TANH:
        a, _slope = tanh_of(a)
    return a * gate


@triton.jit
def place_of(length, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    """Where the elements lie in a tensor of rows, where their first halves lie in one of halves, and which of them there are."""
    blocks = tl.cdiv(length, BLOCK)
    row = (tl.program_id(0) // blocks).to(INDEX)
    element = (tl.program_id(0) % blocks).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    return row * length + element, 2 * row * length + element, element < length


@triton.jit
def put(out_ptr, at, x, inside):
    tl.store(out_ptr + at, rounded(x, out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gate_kernel(
    out_ptr, x_ptr, length, TANH: tl.constexpr, COMPUTE: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr
):
    at, first, inside = place_of(length, INDEX, BLOCK)
    a = tl.load(x_ptr + first, mask=inside, other=0).to(COMPUTE)
    b = tl.load(x_ptr + first + length, mask=inside, other=0).to(COMPUTE)
    put(out_ptr, at, gated(a, b, TANH), inside)


@triton.jit
def gate_backward_kernel(
    d_x_ptr, grad_ptr, x_ptr, length,
    TANH: tl.constexpr, COMPUTE: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at, first, inside = place_of(length, INDEX, BLOCK)
    grad = tl.load(grad_ptr + at, mask=inside, other=0).to(COMPUTE)
    a = tl.load(x_ptr + first, mask=inside, other=0).to(COMPUTE)
    gate, slope = sigmoid_of(tl.load(x_ptr + first + length, mask=inside, other=0).to(COMPUTE))
    d_a = grad * gate
    if TANH:
        a, rise = tanh_of(a)
        d_a *= rise
    put(d_x_ptr, first, d_a, inside)
    put(d_x_ptr, first + length, grad * a * slope, inside)


@triton.jit
def concat_elu_kernel(out_ptr, x_ptr, length, COMPUTE: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    at, first, inside = place_of(length, INDEX, BLOCK)
    x = tl.load(x_ptr + at, mask=inside, other=0).to(COMPUTE)
    _e, below = decay_of(tl.abs(x))
    put(out_ptr, first, tl.where(x < 0, below, x), inside)
    put(out_ptr, first + length, tl.where(x > 0, below, -x), inside)


@triton.jit
def concat_elu_backward_kernel(
    d_x_ptr, grad_ptr, x_ptr, length, COMPUTE: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr
):
    at, first, inside = place_of(length, INDEX, BLOCK)
    x = tl.load(x_ptr + at, mask=inside, other=0).to(COMPUTE)
    e, _expm1 = decay_of(tl.abs(x))
    to_x = tl.load(grad_ptr + first, mask=inside, other=0).to(COMPUTE)
    to_minus_x = tl.load(grad_ptr + first + length, mask=inside, other=0).to(COMPUTE)
    put(d_x_ptr, at, to_x * tl.where(x > 0, 1.0, e) - to_minus_x * tl.where(x < 0, 1.0, e), inside)
