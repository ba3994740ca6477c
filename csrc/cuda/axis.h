// A 1-D operator of the binomial filter along one axis, as kernels take it: interior outputs have their taps in closed
// form, those of the few outputs near an end come in a table from the host, so that no local memory is needed. Sums are
// taken in the order of csrc/cpu/rows.h, and compiled with -fmad=false: they equal the cpu backend's to the bit.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "common/taps.h"

namespace lapcore::cuda {

constexpr int kMaxEnds = 8;
constexpr int kPad = 2;

LAPCORE_HD inline bool decimates(Op op) { return op == Op::down || op == Op::up_adjoint; }
LAPCORE_HD inline bool is_forward(Op op) { return op == Op::down || op == Op::up; }

// Outputs [lo, hi) of an axis read a whole stencil inside the line, and no folded border sample lands on them.
struct Interior {
    std::int64_t lo, hi;
    LAPCORE_HD bool has(std::int64_t i) const { return i >= lo && i < hi; }
};

inline Interior interior(Op op, std::int64_t n_dst) {
    const std::int64_t margin = decimates(op) ? 2 : 4;
    return {margin, std::max(margin, n_dst - margin)};
}

template <class C>
struct EndTaps {
    int count;
    bool symmetric;  // samples of equal weight can be paired up
    std::int64_t index[kMaxTaps];
    C weight[kMaxTaps];
};

template <class C>
struct Axis {
    std::int64_t n_src, n_dst;
    Interior inside;
    C unit;  // the weights of the interior are 1, 4 and 6 of these
    EndTaps<C> ends[kMaxEnds];
    std::int64_t pad[2 * kPad];  // the samples that stand before and after the line

    LAPCORE_HD const EndTaps<C>& end(std::int64_t i) const {
        return ends[i < inside.lo ? i : i - (inside.hi - inside.lo)];
    }

    // The sample that stands at x of a line which goes on by kPad at either end; kOutside beyond.
    LAPCORE_HD std::int64_t padded(std::int64_t x) const {
        if (x >= 0 && x < n_src) return x;
        const std::int64_t p = x < 0 ? x + kPad : x - n_src + kPad;
        return p < 2 * kPad ? pad[p] : kOutside;
    }
};

template <class C>
bool is_symmetric(int count, const C* w) {
    return (count == 5 && w[0] == w[4] && w[1] == w[3]) || (count == 3 && w[0] == w[2]) || (count == 2 && w[0] == w[1]);
}

// Integers have the weights unnormalised.
template <class C>
Axis<C> axis_of(Op op, std::int64_t n_src, std::int64_t n_dst, Border border) {
    const double scale = op == Op::down || op == Op::down_adjoint ? 16 : 8;
    const auto weight = [&](double w) { return static_cast<C>(std::is_integral_v<C> ? std::round(w * scale) : w); };
    Axis<C> axis{n_src, n_dst, interior(op, n_dst), weight(1 / scale), {}, {}};
    const std::int64_t inner = axis.inside.hi - axis.inside.lo;
    for (int e = 0; e < kMaxEnds && e < n_dst - inner; ++e) {
        const Taps taps = taps_of(op, e < axis.inside.lo ? e : e + inner, n_src, n_dst, border);
        EndTaps<C>& end = axis.ends[e];
        end.count = taps.count;
        for (int k = 0; k < taps.count; ++k) {
            end.index[k] = taps.index[k];
            end.weight[k] = weight(taps.weight[k]);
        }
        end.symmetric = is_symmetric(end.count, end.weight);
    }
    return axis;
}

// Along a row forward operators continue the line by the border rule and are one stencil throughout.
template <class C>
Axis<C> padded_axis_of(Op op, std::int64_t n_src, std::int64_t n_dst, Border border) {
    Axis<C> axis = axis_of<C>(op, n_src, n_dst, border);
    if (is_forward(op)) axis.inside = {0, n_dst};
    for (int p = 0; p < 2 * kPad; ++p) {
        const std::int64_t beyond = p < kPad ? p - kPad : n_src + p - kPad;
        axis.pad[p] = op == Op::up ? up_index(beyond, n_src, border) : border_index(beyond, n_src, border);
    }
    return axis;
}

template <class C>
__device__ C pair_up(C a, C b, C c, C d, C e, C w0, C w1, C w2) {
    return ((a + e) * w0 + (b + d) * w1) + c * w2;
}

template <class C>
__device__ C pair_up(C a, C b, C c, C w0, C w1) {
    return (a + c) * w0 + b * w1;
}

template <class C>
__device__ C pair_up(C a, C b, C w) {
    return (a + b) * w;
}

template <bool kDecimates, class C, class Sample>
__device__ C inner_sum(C unit, std::int64_t i, const Sample& sample) {
    if constexpr (kDecimates) {
        const std::int64_t j = 2 * i;
        return pair_up(sample(j - 2), sample(j - 1), sample(j), sample(j + 1), sample(j + 2), unit, 4 * unit, 6 * unit);
    } else {
        const std::int64_t j = i / 2;
        if (i % 2 == 0) return pair_up(sample(j - 1), sample(j), sample(j + 1), unit, 6 * unit);
        return pair_up(sample(j), sample(j + 1), 4 * unit);
    }
}

template <class C, class Sample>
__device__ C plain_sum(const EndTaps<C>& taps, const Sample& sample) {
    C sum = 0;
#pragma unroll 1
    for (int k = 0; k < taps.count; ++k) sum += sample(taps.index[k]) * taps.weight[k];
    return sum;
}

template <class C, class Sample>
__device__ C paired_sum(const EndTaps<C>& taps, const Sample& sample) {
    if (!taps.symmetric) return plain_sum(taps, sample);
    const auto s = [&](int k) { return sample(taps.index[k]); };
    const C* w = taps.weight;
    if (taps.count == 5) return pair_up(s(0), s(1), s(2), s(3), s(4), w[0], w[1], w[2]);
    if (taps.count == 3) return pair_up(s(0), s(1), s(2), w[0], w[1]);
    return pair_up(s(0), s(1), w[0]);
}

}  // namespace lapcore::cuda
