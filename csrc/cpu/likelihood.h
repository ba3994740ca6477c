// What csrc/cpu/likelihood.cpp offers, once per instruction set. Pixels are (N, P, L) and (N, C, L), of any strides.
#pragma once

#include "common/random.h"
#include "common/view.h"

namespace lapcore {

struct MixtureCall {
    DType dtype;  // of params; x and the rest are float32, or float64 for float64
    int threads, channels;
    bool official;
};

struct LikelihoodKernels {
    // -log p of every image: nll (N,).
    void (*nll)(const MixtureCall& call, const View& params, const View& x, void* nll);
    // grad (N,) -> d_params, of params' dtype, and, where it is given, d_x; both contiguous.
    void (*nll_backward)(const MixtureCall& call, const void* grad, const View& params, const View& x, void* d_params,
                         void* d_x);
    // out (N, C, L), contiguous.
    void (*sample)(const MixtureCall& call, const View& params, const Seeds& seeds, bool snap, void* out);
};

// Those of float64, which every instruction set shares.
extern const LikelihoodKernels likelihoods_of_doubles;

}  // namespace lapcore
