// lapcore/native/parzen.py's side of csrc/cpu/parzen.h.
#pragma once

#include "bindings/bindings.h"

namespace lapcore::bindings::parzen {

inline void parzen_log_likelihood(int dtype, int threads, const Tensor& x, const Tensor& samples,
                                  const std::vector<double>& sigmas, std::uintptr_t result) {
    const View rows = view_of(x), centres = view_of(samples);
    const WithoutGil released;
    kernels().parzen.log_likelihood(static_cast<DType>(dtype), threads, rows, centres, sigmas, pointer(result));
}

inline void bind(py::module_& m) {
    using py::arg;
    m.def("parzen_log_likelihood", &parzen_log_likelihood, arg("dtype"), arg("threads"), arg("x"), arg("samples"),
          arg("sigmas"), arg("result"));
}

}  // namespace lapcore::bindings::parzen
