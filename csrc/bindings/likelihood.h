// lapcore/native/likelihood.py's side of csrc/cpu/likelihood.h.
#pragma once

#include "bindings/bindings.h"

namespace lapcore::bindings::likelihood {

inline MixtureCall call_of(int dtype, int threads, int channels, bool official) {
    return {static_cast<DType>(dtype), threads, channels, official};
}

inline void nll(int dtype, int threads, int channels, bool official, const Tensor& params, const Tensor& x,
                std::uintptr_t out) {
    const View from = view_of(params), image = view_of(x);
    const WithoutGil released;
    kernels().likelihood.nll(call_of(dtype, threads, channels, official), from, image, pointer(out));
}

inline void nll_backward(int dtype, int threads, int channels, bool official, std::uintptr_t grad, const Tensor& params,
                         const Tensor& x, std::uintptr_t d_params, std::uintptr_t d_x) {
    const View from = view_of(params), image = view_of(x);
    const WithoutGil released;
    kernels().likelihood.nll_backward(call_of(dtype, threads, channels, official), pointer(grad), from, image,
                                      pointer(d_params), pointer(d_x));
}

inline void sample(int dtype, int threads, int channels, bool snap, const Tensor& params, const SeedsTensor& seeds,
                   std::uintptr_t out) {
    const View from = view_of(params);
    const WithoutGil released;
    kernels().likelihood.sample(call_of(dtype, threads, channels, false), from, seeds_of(seeds), snap, pointer(out));
}

inline void bind(py::module_& m) {
    using py::arg;
    m.def("mixture_nll", &nll, arg("dtype"), arg("threads"), arg("channels"), arg("official"), arg("params"), arg("x"),
          arg("out"), "params (N, P, L) and x (N, C, L) of any strides.");
    m.def("mixture_nll_backward", &nll_backward, arg("dtype"), arg("threads"), arg("channels"), arg("official"),
          arg("grad"), arg("params"), arg("x"), arg("d_params"), arg("d_x"), "d_x is 0 where it is not wanted.");
    m.def("mixture_sample", &sample, arg("dtype"), arg("threads"), arg("channels"), arg("snap"), arg("params"),
          arg("seeds"), arg("out"));
}

}  // namespace lapcore::bindings::likelihood
