// What csrc/cuda/gaussian.cu offers: diagonal Gaussians, of one row of elements each, on a stream of the current
// device. As GaussianKernels in cpu/gaussian.h; there must be at least one element.
#pragma once

#include "common/gaussian.h"
#include "common/random.h"
#include "common/view.h"

namespace lapcore::cuda {

struct GaussianCall {
    DType dtype;
    void* stream;
    std::int64_t rows, length;
};

// How many float64 `parts` of the sums of rows there are: none where a row is added up at once.
std::int64_t gaussian_parts(std::int64_t rows, std::int64_t length);

void gaussian_forward(const GaussianCall& call, const Moments& moments, const Seeds& seeds, void* z, void* kl,
                      double* parts);
void gaussian_backward(const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& moments,
                       const Seeds& seeds, const Moments& gradients);
void gaussian_nll(const GaussianCall& call, const Rows& x, const Rows& mean, const Rows& logvar, void* nll,
                  double* parts);
void gaussian_nll_backward(const GaussianCall& call, const void* grad, const Rows& x, const Rows& mean,
                           const Rows& logvar, void* d_x, void* d_mean, void* d_logvar);

}  // namespace lapcore::cuda
