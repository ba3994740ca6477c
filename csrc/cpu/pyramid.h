// What csrc/cpu/pyramid.cpp offers, once per instruction set. Outputs are contiguous.
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

struct PyramidKernels {
    // dst (..., height, width) = op(src), or base + alpha * op(src) when base is given.
    void (*apply)(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, void* dst,
                  std::int64_t height, std::int64_t width);
    // out[0..L-1] are the bands, out[L] the low-pass; L = out.size() - 1 >= 1.
    void (*laplacian_pyramid)(const PyramidCall& call, const View& x, const std::vector<void*>& out);
    // The inverse of laplacian_pyramid; pyramid.size() >= 2.
    void (*collapse)(const PyramidCall& call, const std::vector<View>& pyramid, void* out);
};

}  // namespace lapcore
