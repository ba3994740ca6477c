// What csrc/cuda/parzen.cu offers: log-likelihoods under Gaussian kernels around samples.
#pragma once

#include <vector>

#include "common/view.h"

namespace lapcore::cuda {

// How many bytes parzen_log_likelihood works in.
std::int64_t parzen_work(DType dtype, std::int64_t rows, std::int64_t samples, std::int64_t sigmas);

// out (S, N), contiguous: logmeanexp_i(-||x_n - mu_i||^2 / (2 sigma_s^2)) - D ln(sigma_s sqrt(2 pi)). x, samples and
// out are all float32 or all float64; x and samples, less some common centre, have rows whose values are next to each
// other. What is not finite, or whose square is not, is infinitely far; a NaN in x makes its row NaN, one in the
// samples all.
void parzen_log_likelihood(DType dtype, void* stream, const View& x, const View& samples,
                           const std::vector<double>& sigmas, void* out, void* work);

}  // namespace lapcore::cuda
