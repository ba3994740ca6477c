// Mixtures of discretised logistics in float32, of params of 16 bits too.
#include "cpu/likelihood.h"

#include "cpu/likelihood_blocks.h"

namespace lapcore::LAPCORE_ISA {
namespace {

const LikelihoodKernels& kernels_of(const MixtureCall& call) {
    return call.dtype == DType::float64 ? likelihoods_of_doubles : likelihood_kernels_of<float>;
}

}  // namespace

extern const LikelihoodKernels likelihood_kernels;
const LikelihoodKernels likelihood_kernels{
    [](const MixtureCall& call, const View& params, const View& x, void* nll) {
        kernels_of(call).nll(call, params, x, nll);
    },
    [](const MixtureCall& call, const void* grad, const View& params, const View& x, void* d_params, void* d_x) {
        kernels_of(call).nll_backward(call, grad, params, x, d_params, d_x);
    },
    [](const MixtureCall& call, const View& params, const Seeds& seeds, bool snap, void* out) {
        kernels_of(call).sample(call, params, seeds, snap, out);
    }};

}  // namespace lapcore::LAPCORE_ISA
