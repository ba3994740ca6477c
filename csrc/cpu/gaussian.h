// What csrc/cpu/gaussian.cpp offers, once per instruction set: diagonal Gaussians, of one row of elements each.
#pragma once

#include <cstdint>

#include "common/gaussian.h"
#include "common/random.h"
#include "common/view.h"

namespace lapcore {

struct GaussianCall {
    DType dtype;
    int threads;
    std::int64_t rows, length;
};

// Sums and their gradients, one for each row, are in the type that sums are taken in. Outputs are contiguous; those
// that are null are not made.
struct GaussianKernels {
    // z = mean + exp(logvar/2) noise, and the divergence from the prior.
    void (*forward)(const GaussianCall& call, const Moments& moments, const Seeds& seeds, void* z, void* kl);
    // The gradients of both at the moments; grad_z or grad_kl may be null.
    void (*backward)(const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& moments,
                     const Seeds& seeds, const Moments& gradients);
    void (*nll)(const GaussianCall& call, const Rows& x, const Rows& mean, const Rows& logvar, void* nll);
    void (*nll_backward)(const GaussianCall& call, const void* grad, const Rows& x, const Rows& mean,
                         const Rows& logvar, void* d_x, void* d_mean, void* d_logvar);
};

// Those of float64, which every instruction set shares.
extern const GaussianKernels gaussians_of_doubles;

}  // namespace lapcore
