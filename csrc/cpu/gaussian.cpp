// Diagonal Gaussians in float32, of tensors of 16 bits too.
#include "cpu/gaussian.h"

#include "cpu/gaussian_nll.h"
#include "cpu/gaussian_passes.h"

namespace lapcore::LAPCORE_ISA {
namespace {

constexpr GaussianKernels kFloats{forward<float>, backward<float>, nll<float>, nll_backward<float>};

const GaussianKernels& kernels_of(const GaussianCall& call) {
    return call.dtype == DType::float64 ? gaussians_of_doubles : kFloats;
}

}  // namespace

extern const GaussianKernels gaussian_kernels;
const GaussianKernels gaussian_kernels{
    [](const GaussianCall& call, const Moments& moments, const Seeds& seeds, void* z, void* kl) {
        kernels_of(call).forward(call, moments, seeds, z, kl);
    },
    [](const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& moments, const Seeds& seeds,
       const Moments& gradients) { kernels_of(call).backward(call, grad_z, grad_kl, moments, seeds, gradients); },
    [](const GaussianCall& call, const Rows& x, const Rows& mean, const Rows& logvar, void* out) {
        kernels_of(call).nll(call, x, mean, logvar, out);
    },
    [](const GaussianCall& call, const void* grad, const Rows& x, const Rows& mean, const Rows& logvar, void* d_x,
       void* d_mean,
       void* d_logvar) { kernels_of(call).nll_backward(call, grad, x, mean, logvar, d_x, d_mean, d_logvar); },
};

}  // namespace lapcore::LAPCORE_ISA
