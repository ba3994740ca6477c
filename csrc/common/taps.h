// The 1-D operators every pyramid kernel is made of, written once for CPU and CUDA.
//
// An operator maps a line of n_src samples to n_dst. Output i is a short weighted sum of source samples, its taps:
//   down          out[i] = sum_k K[k]/16 src[border(2i + k)],  K = 1 4 6 4 1, k = -2..2          (Burt & Adelson 1983;
//   OpenCV) up            out[2i] = (src[i-1] + 6 src[i] + src[i+1]) / 8,  out[2i+1] = (src[i] + src[i+1]) / 2
//   down_adjoint, up_adjoint: their exact transposes, as gathers, so that gradients are deterministic.
// A 2-D operator is the product of one along the rows and one along the columns.
#pragma once

#include <cstdint>

#include "common/hd.h"

namespace lapcore {

enum class Border : int { reflect, replicate, circular, constant, symmetric };
enum class Op : int { down, up, down_adjoint, up_adjoint };

constexpr int kMaxTaps = 8;
constexpr std::int64_t kOutside = -1;

struct Taps {
    int count = 0;
    std::int64_t index[kMaxTaps];
    double weight[kMaxTaps];

    LAPCORE_HD void add(std::int64_t i, double w) {
        if (i == kOutside) return;
        index[count] = i;
        weight[count] = w;
        ++count;
    }
};

LAPCORE_HD static inline std::int64_t modulo(std::int64_t i, std::int64_t period) {
    const std::int64_t r = i % period;
    return r < 0 ? r + period : r;
}

// The sample that stands at position i of a line of n, for any i: reflections repeat as often as it takes.
LAPCORE_HD static inline std::int64_t border_index(std::int64_t i, std::int64_t n, Border border) {
    if (i >= 0 && i < n) return i;
    switch (border) {
        case Border::reflect: {
            if (n == 1) return 0;
            const std::int64_t period = 2 * (n - 1), r = modulo(i, period);
            return r < n ? r : period - r;
        }
        case Border::symmetric: {
            const std::int64_t period = 2 * n, r = modulo(i, period);
            return r < n ? r : period - 1 - r;
        }
        case Border::replicate: return i < 0 ? 0 : n - 1;
        case Border::circular: return modulo(i, n);
        case Border::constant: return kOutside;
    }
    return kOutside;
}

// pyr_up reaches one sample past each end. For reflect OpenCV mirrors the upsampled grid, not the source:
// the sample before the first is the second, the sample after the last is the last.
LAPCORE_HD static inline std::int64_t up_index(std::int64_t i, std::int64_t n, Border border) {
    if (border == Border::reflect && i >= n) return n - 1;
    return border_index(i, n, border);
}

LAPCORE_HD static inline Taps down_taps(std::int64_t i, std::int64_t n, Border border) {
    Taps taps;
    const double weight[5] = {1.0 / 16, 4.0 / 16, 6.0 / 16, 4.0 / 16, 1.0 / 16};
    for (int k = 0; k < 5; ++k) taps.add(border_index(2 * i + k - 2, n, border), weight[k]);
    return taps;
}

LAPCORE_HD static inline Taps up_taps(std::int64_t i, std::int64_t n, Border border) {
    Taps taps;
    const std::int64_t j = i / 2;
    if (i % 2 == 0) {
        taps.add(up_index(j - 1, n, border), 1.0 / 8);
        taps.add(j, 6.0 / 8);
        taps.add(up_index(j + 1, n, border), 1.0 / 8);
    } else {
        taps.add(j, 4.0 / 8);
        taps.add(up_index(j + 1, n, border), 4.0 / 8);
    }
    return taps;
}

LAPCORE_HD static inline Taps forward_taps(Op op, std::int64_t i, std::int64_t n, Border border) {
    return op == Op::down || op == Op::down_adjoint ? down_taps(i, n, border) : up_taps(i, n, border);
}

// Row i of the transpose: the outputs of the forward operator that read sample i, with the weight they read it with.
// They lie in a window around i; under a circular border those at the far ends may read it too.
LAPCORE_HD static inline Taps adjoint_taps(Op op, std::int64_t i, std::int64_t n, std::int64_t n_out, Border border) {
    const bool down = op == Op::down_adjoint;
    std::int64_t first = down ? i / 2 - 1 : 2 * i - 2;
    std::int64_t last = down ? i / 2 + 1 : 2 * i + 2;
    first = first < 0 ? 0 : first;
    last = last > n_out - 1 ? n_out - 1 : last;

    Taps taps;
    const std::int64_t ends[3] = {0, n_out - 2, n_out - 1};
    const int n_ends = border == Border::circular ? 3 : 0;
    const std::int64_t window = last - first + 1;
    for (std::int64_t c = 0; c < window + n_ends; ++c) {
        const std::int64_t out = c < window ? first + c : ends[c - window];
        const bool seen = c >= window && (out < 0 || (out >= first && out <= last) || (c == window + 1 && out == 0));
        if (seen) continue;
        const Taps forward = forward_taps(op, out, n, border);
        double weight = 0;
        for (int k = 0; k < forward.count; ++k) weight += forward.index[k] == i ? forward.weight[k] : 0;
        if (weight != 0) taps.add(out, weight);
    }
    return taps;
}

// The taps of output i, for an operator from n_src to n_dst samples.
LAPCORE_HD static inline Taps taps_of(Op op, std::int64_t i, std::int64_t n_src, std::int64_t n_dst, Border border) {
    if (op == Op::down || op == Op::up) return forward_taps(op, i, n_src, border);
    return adjoint_taps(op, i, n_dst, n_src, border);
}

// The taps of any 1-D operator, made by Python: index (count, n) with n_src for a zero, weight (count, n) in the type
// of the sums.
struct TapTable {
    const std::int64_t* index = nullptr;
    const void* weight = nullptr;
    std::int64_t count = 0;
};

}  // namespace lapcore
