// lapcore/native/gaussian.py's side of csrc/cpu/gaussian.h.
#pragma once

#include "bindings/bindings.h"

namespace lapcore::bindings::gaussian {

using Shape = std::pair<std::int64_t, std::int64_t>;        // rows, length
using MomentRows = std::vector<std::optional<RowsTensor>>;  // mean, logvar and the prior's, or their gradients

inline GaussianCall call_of(int dtype, int threads, const Shape& shape) {
    return {static_cast<DType>(dtype), threads, shape.first, shape.second};
}

inline Moments moments_of(const MomentRows& rows) {
    return {rows_of(rows.at(0)), rows_of(rows.at(1)), rows_of(rows.at(2)), rows_of(rows.at(3))};
}

inline void forward(int dtype, int threads, const Shape& shape, const MomentRows& moments, const SeedsTensor& seeds,
                    std::uintptr_t z, std::uintptr_t kl) {
    const Moments m = moments_of(moments);
    const WithoutGil released;
    kernels().gaussian.forward(call_of(dtype, threads, shape), m, seeds_of(seeds), pointer(z), pointer(kl));
}

inline void backward(int dtype, int threads, const Shape& shape, const std::optional<RowsTensor>& grad_z,
                     std::uintptr_t grad_kl, const MomentRows& moments, const SeedsTensor& seeds,
                     const MomentRows& gradients) {
    const Moments m = moments_of(moments), out = moments_of(gradients);
    const WithoutGil released;
    kernels().gaussian.backward(call_of(dtype, threads, shape), rows_of(grad_z), pointer(grad_kl), m, seeds_of(seeds),
                                out);
}

inline void nll(int dtype, int threads, const Shape& shape, const RowsTensor& x, const RowsTensor& mean,
                const RowsTensor& logvar, std::uintptr_t out) {
    const WithoutGil released;
    kernels().gaussian.nll(call_of(dtype, threads, shape), rows_of(x), rows_of(mean), rows_of(logvar), pointer(out));
}

inline void nll_backward(int dtype, int threads, const Shape& shape, std::uintptr_t grad, const RowsTensor& x,
                         const RowsTensor& mean, const RowsTensor& logvar, std::uintptr_t d_x, std::uintptr_t d_mean,
                         std::uintptr_t d_logvar) {
    const WithoutGil released;
    kernels().gaussian.nll_backward(call_of(dtype, threads, shape), pointer(grad), rows_of(x), rows_of(mean),
                                    rows_of(logvar), pointer(d_x), pointer(d_mean), pointer(d_logvar));
}

inline void bind(py::module_& m) {
    using py::arg;
    m.def("gaussian_forward", &forward, arg("dtype"), arg("threads"), arg("shape"), arg("moments"), arg("seeds"),
          arg("z"), arg("kl"), "z and kl, which are 0 where they are not wanted.");
    m.def("gaussian_backward", &backward, arg("dtype"), arg("threads"), arg("shape"), arg("grad_z"), arg("grad_kl"),
          arg("moments"), arg("seeds"), arg("gradients"));
    m.def("gaussian_nll", &nll, arg("dtype"), arg("threads"), arg("shape"), arg("x"), arg("mean"), arg("logvar"),
          arg("out"));
    m.def("gaussian_nll_backward", &nll_backward, arg("dtype"), arg("threads"), arg("shape"), arg("grad"), arg("x"),
          arg("mean"), arg("logvar"), arg("d_x"), arg("d_mean"), arg("d_logvar"));
}

}  // namespace lapcore::bindings::gaussian
