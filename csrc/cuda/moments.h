// The formulas of diagonal Gaussians, of single elements; infinities are treated as lapcore/reference/gaussian.py
// treats them. C is float or double.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/math.h"

namespace lapcore::cuda {

// The lower and the higher of two, NaN where one is.
__device__ inline float lower(float a, float b) {
#if defined(__CUDA_ARCH__)
    float low;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(low) : "f"(a), "f"(b));
    return low;
#else
    return a < b || a != a ? a : b;
#endif
}
__device__ inline float higher(float a, float b) {
#if defined(__CUDA_ARCH__)
    float high;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(high) : "f"(a), "f"(b));
    return high;
#else
    return a > b || a != a ? a : b;
#endif
}
__device__ inline double lower(double a, double b) { return a < b || a != a ? a : b; }
__device__ inline double higher(double a, double b) { return a > b || a != a ? a : b; }

// e^q and e^q - 1, q held where e^q is a normal number: only beyond could a product of them that is finite differ.
template <class C>
struct Root {
    C exp, expm1;
};

// e^q = 2^n (1 + p), p a minimax polynomial in r = q - n ln 2, of one power more than that of common/math.h.
__device__ inline Root<float> root_of(float q) {
    q = lower(higher(q, -87.0f), 87.0f);
    const float rounded = fmaf(q, 0x1.715476p0f, kRounder), n = rounded - kRounder;
    const float r = fmaf(n, 0x1.bd0106p-13f, fmaf(n, -0x1.63p-1f, q));
    float p = fmaf(r, 0x1.a6a8p-13f, 0x1.6d45cap-10f);
    p = fmaf(p, r, 0x1.110cecp-7f);
    p = fmaf(p, r, 0x1.5554eep-5f);
    p = fmaf(p, r, 0x1.555558p-3f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p * r, r, r);
    const float scale = same_bits<float>((same_bits<std::uint32_t>(rounded) << 23) + 0x3f800000u);
    return {fmaf(p, scale, scale), fmaf(p, scale, scale - 1)};
}
// As in float32, p being Taylor's series, r (1 + r/2 (1 + r/3 ..)), and ln 2 in two parts as fdlibm has it.
__device__ inline Root<double> root_of(double q) {
    q = lower(higher(q, -708.0), 708.0);
    constexpr double rounder = 0x1.8p52;
    const double rounded = fma(q, 0x1.71547652b82fep0, rounder), n = rounded - rounder;
    const double r = fma(n, -0x1.a39ef35793c76p-33, fma(n, -0x1.62e42feep-1, q));
    double p = 1;
#pragma unroll
    for (int k = 14; k > 1; --k) p = fma(p, r * (1.0 / k), 1.0);
    p *= r;
    const double scale = same_bits<double>((same_bits<std::uint64_t>(rounded) << 52) + 0x3ff0000000000000u);
    return {fma(p, scale, scale), fma(p, scale, scale - 1)};
}

// e^x - 1 of p = e^(x/4) - 1, exact to a few roundings near 0 as well: (1 + p)^4 - 1.
template <class C>
__device__ C expm1_of_quarter(C p) {
    return p * fma(p, fma(p, p + 4, C(6)), C(4));
}

// d e^(x/2) of e^(x/4), in two steps: d may bring back into range what e^(x/2) alone would leave.
template <class C>
__device__ C scaled(C d, C root) {
    return d * root * root;
}

// a - b, and 0 between equal infinities.
template <class C>
__device__ C difference(C a, C b) {
    return a == b ? C(0) : a - b;
}

// grad * derivative; what is not used has no gradient, even where its derivative is infinite.
template <class C>
__device__ C chain(C grad, C derivative) {
    const bool unused = grad == 0 && fabs(derivative) == C(HUGE_VAL);
    return grad * (unused ? C(0) : derivative);
}

// a + b, where inf - inf is inf: off a point mass there is no density, however much of it there is elsewhere.
template <class C>
__device__ C combined(C a, C b) {
    const C sum = a + b;
    return sum != sum && a == a && b == b ? C(HUGE_VAL) : sum;
}

// ratio = lq - lp, expm1 = e^ratio - 1, whitened = (mq - mp) e^(-lp/2); root = e^(-lp/4), or e^(lq/4) without a prior.
template <class C, bool kPrior>
struct Compared {
    C ratio, expm1, whitened, root;

    __device__ Compared(C mq, C lq, C mp, C lp) : ratio(lq), whitened(mq) {
        if constexpr (kPrior) {
            root = root_of(lp * C(-0.25)).exp;
            ratio = difference(lq, lp);
            whitened = scaled(difference(mq, mp), root);
            expm1 = expm1_of_quarter(root_of(ratio * C(0.25)).expm1);
        } else {
            const Root<C> both = root_of(ratio * C(0.25));
            root = both.exp;
            expm1 = expm1_of_quarter(both.expm1);
        }
    }

    // From 2832 on e^ratio is inf: no more is subtracted, lest inf meet inf.
    __device__ C term() const {
        const C excess = higher(expm1 - (ratio > C(2832) ? C(2832) : ratio), C(0));
        return fma(whitened, whitened, excess);
    }
    __device__ C d_mean() const { return kPrior ? scaled(whitened, root) : whitened; }
    // e^(lq/4)
    __device__ C root_of_logvar(C lq) const { return kPrior ? root_of(lq * C(0.25)).exp : root; }
};

}  // namespace lapcore::cuda
