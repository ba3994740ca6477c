"""The formulas of diagonal Gaussians on tiles; infinities are treated as lapcore/reference/gaussian.py treats them."""

import triton
import triton.language as tl

INF: tl.constexpr = tl.constexpr(float("inf"))
EVERYWHERE: tl.constexpr = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def held(x, limit):
    """x within +- limit; NaN stays."""
    return tl.minimum(tl.maximum(x, -limit, EVERYWHERE), limit, EVERYWHERE)


@triton.jit
def root_of(q):
    """e**q and e**q - 1, q held where e**q is a normal number: only beyond could a product of them that is finite differ.

    In float32 e**q = 2**n (1 + p), p a polynomial in r = q - n ln 2, whose coefficients are those of csrc/common/math.h.
    """
    if q.dtype == tl.float64:
        q = held(q, 708.0)
        e = tl.exp(q)
        # (u - 1) q / ln u is exact to a few roundings where u = e**q rounded (Higham 2002, section 1.14.1).
        quotient = (e - 1) * q / tl.where(e == 1, 1.0, tl.log(e))
        return e, tl.where(e == 1, q, quotient)
    else:
        q = held(q, 87.0)
        rounded = tl.fma(q, 1.4426950216293335, 12582912.0)
        n = rounded - 12582912.0
        r = tl.fma(n, 0.00021219444170128554, tl.fma(n, -0.693359375, q))
        p = tl.fma(r, 0.00020153820514678955, 0.001393404440023005)
        p = tl.fma(p, r, 0.008332839235663414)
        p = tl.fma(p, r, 0.04166647419333458)
        p = tl.fma(p, r, 0.1666666865348816)
        p = tl.fma(p, r, 0.5)
        p = tl.fma(p * r, r, r)
        scale = ((rounded.to(tl.int32, bitcast=True) << 23) + 0x3F800000).to(tl.float32, bitcast=True)
        return tl.fma(p, scale, scale), tl.fma(p, scale, scale - 1)


@triton.jit
def scaled(d, root):
    """d e**(x/2) of e**(x/4), in two steps: d may bring back into range what e**(x/2) alone would leave."""
    return d * root * root


@triton.jit
def difference(a, b):
    """a - b, and 0 between equal infinities."""
    return tl.where(a == b, 0.0, a - b)


@triton.jit
def chain(grad, derivative):
    """grad * derivative; what is not used has no gradient, even where its derivative is infinite."""
    return grad * tl.where((grad == 0) & (tl.abs(derivative) == INF), 0.0, derivative)


@triton.jit
def compare(mq, lq, mp, lp):
    """x = lq - lp, e**x - 1, (mq - mp) e**(-lp/2), and e**(-lp/4), or e**(lq/4) without lp. mp and lp are None for 0."""
    d = mq if mp is None else difference(mq, mp)
    if lp is None:
        ratio = lq
        root, p = root_of(ratio * 0.25)
    else:
        ratio = difference(lq, lp)
        root, _expm1 = root_of(lp * -0.25)
        d = scaled(d, root)
        _root, p = root_of(ratio * 0.25)
    return ratio, p * tl.fma(p, tl.fma(p, p + 4, 6.0), 4.0), d, root
