// What csrc/cpu/pyramid.cpp and csrc/cpu/laplacian_loss.cpp offer, once per instruction set. Every view may have any
// strides.
#pragma once

#include <vector>

#include "common/taps.h"
#include "common/view.h"

namespace lapcore {

struct PyramidCall {
    DType dtype;
    Border border;
    int threads;
};

struct LossCall {
    PyramidCall pyramid;
    const std::vector<std::vector<std::int64_t>>& sizes;  // of every level after cropping, the residual's last
    std::int64_t samples, weighted;                       // N, and how many levels count
    const void* coefficients;                             // (N, weighted), in the type of the sums
};

struct PyramidKernels {
    // dst = op(src), or base + alpha * op(src) when base is given, alpha 1 or -1.
    void (*apply)(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, const View& dst);
    // The same for any pair of 1-D operators, on floats.
    void (*apply_tables)(const PyramidCall& call, const TapTable& rows, const TapTable& columns, const View& src,
                         const View* base, double alpha, const View& dst);
    // out: g_1 .. g_L.
    void (*gaussian_pyramid)(const PyramidCall& call, const View& x, const std::vector<View>& out);
    // out: the bands h_0 .. h_{L-1} and g_L; work: memory for g_1 .. g_{L-1}, or empty.
    void (*laplacian_pyramid)(const PyramidCall& call, const View& x, const std::vector<View>& out,
                              const std::vector<void*>& work);
    // The inverse of laplacian_pyramid; work: memory for c_1 .. c_{L-1}, or empty.
    void (*collapse)(const PyramidCall& call, const std::vector<View>& pyramid, const View& out,
                     const std::vector<void*>& work);
    // loss (N) and, where grad is given, the gradient of their sum, both in the type of the sums; masks: one view for
    // each weighted level, or empty.
    void (*laplacian_loss)(const LossCall& call, const View& input, const View& target, const std::vector<View>& masks,
                           void* loss, const View* grad);
};

}  // namespace lapcore
