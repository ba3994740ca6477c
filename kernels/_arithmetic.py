"""What the kernels share: rounding, saturation, and the way from a plane to its memory."""

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def normalised(total, UP: tl.constexpr):
    """Sums over both axes, rounded once, half up, where they are integers."""
    if total.dtype == tl.int32:
        return (total + 32) >> 6 if UP else (total + 128) >> 8
    else:
        return total


@triton.jit
def rounded(x, DTYPE: tl.constexpr):
    """x in a type, to the nearest; Triton's interpreter would cut bfloat16 off, so there the rounding is done first."""
    if INTERPRETED and tl.bfloat16 == DTYPE:
        bits = x.to(tl.float32).to(tl.int32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        x = tl.where(x == x, nearest.to(tl.float32, bitcast=True), x)
    return x.to(DTYPE)


@triton.jit
def added(base, x, SUBTRACT: tl.constexpr):
    """base +- x; integers saturate to int16."""
    total = base - x if SUBTRACT else base + x
    if total.dtype == tl.int32:
        total = tl.minimum(tl.maximum(total, -32768), 32767)
    return total


@triton.jit
def plane_offset(plane, inner, outer_stride, inner_stride):
    """Where a plane begins; planes are those of two leading dimensions, the second of size `inner`."""
    return (plane // inner).to(tl.int64) * outer_stride + (plane % inner).to(tl.int64) * inner_stride


@triton.jit
def log_of_normal(x):
    """ln x = e ln 2 + ln(1 + f) for x = m 2**e, m in [sqrt(1/2), sqrt(2)), f = m - 1: csrc/common/math.h operation by operation.

    Where a product is exact, tl.fma rounds no differently.
    """
    bits = x.to(tl.int32, bitcast=True)
    exponent = (bits - 0x3F3504F3) >> 23
    e, f = exponent.to(tl.float32), (bits - exponent * 8388608).to(tl.float32, bitcast=True) - 1.0
    p = f * -0.07861663401126862 + 0.12882941961288452
    p = p * f + -0.13128504157066345
    p = p * f + 0.14180947840213776
    p = p * f + -0.16624557971954346
    p = p * f + 0.20002301037311554
    p = p * f + -0.25000810623168945
    p = p * f + 0.33333316445350647
    square = f * f
    tail = tl.fma(square, -0.5, p * f * square) + e * -0.00021219444170128554
    return tl.fma(e, 0.693359375, tail + f)
