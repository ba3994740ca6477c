// What csrc/cpu/parzen.cpp offers, once per instruction set.
#pragma once

#include <vector>

#include "common/view.h"

namespace lapcore {

struct ParzenKernels {
    // (S, N), contiguous, float32, or float64 for float64: the log-likelihoods of the rows of x (N, D) under kernels of
    // each sigma around the samples (M, D). Rows are contiguous, any stride apart.
    void (*log_likelihood)(DType dtype, int threads, const View& x, const View& samples,
                           const std::vector<double>& sigmas, void* result);
};

}  // namespace lapcore
