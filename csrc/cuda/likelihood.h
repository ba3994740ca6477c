// What csrc/cuda/likelihood.cu offers: mixtures of discretised logistics. Pixels are (N, P, L) and (N, C, L), of any
// strides; x, sums and draws are float32, or float64 for float64 params.
#pragma once

#include "common/random.h"
#include "common/view.h"

namespace lapcore::cuda {

struct MixtureCall {
    DType dtype;  // of params
    int channels;
    bool official;
    void* stream;
};

// How many sums an image of so many pixels is taken in.
std::int64_t mixture_parts(std::int64_t pixels);

// nll (N,), by way of parts (N, mixture_parts(L)); added up in an order that the image's size alone determines.
void mixture_nll(const MixtureCall& call, const View& params, const View& x, double* parts, void* nll);

// grad (N,) -> d_params, of params' dtype, and, where it is given, d_x; both contiguous.
void mixture_nll_backward(const MixtureCall& call, const void* grad, const View& params, const View& x, void* d_params,
                          void* d_x);

// out (N, C, L), contiguous. Seeds of rows are on the card.
void mixture_sample(const MixtureCall& call, const View& params, const Seeds& seeds, bool snap, void* out);

}  // namespace lapcore::cuda
