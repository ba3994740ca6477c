// What csrc/cuda/pyramid.cu offers. Pointers are device memory of the current device; dst is contiguous.
#pragma once

#include "common/taps.h"
#include "common/view.h"

namespace lapcore::cuda {

struct PyramidCall {
    DType dtype;
    Border border;
    void* stream;
};

// Enqueues dst (..., height, width) = op(src), or base + alpha * op(src) when base is given. At most 6 leading
// dimensions may remain once neighbours that lie like one are merged (std::invalid_argument); a launch CUDA refuses is
// a std::runtime_error.
void pyramid_apply(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, void* dst,
                   std::int64_t height, std::int64_t width);

}  // namespace lapcore::cuda
