// lapcore/native/vector_quantize.py's side of csrc/cpu/vector_quantize.h.
#pragma once

#include "bindings/bindings.h"

namespace lapcore::bindings::vector_quantize {

inline void vector_quantize(int dtype, int threads, const Tensor& z, const Tensor& codebook, std::uintptr_t quantized,
                            std::uintptr_t indices) {
    const View rows = view_of(z), codes = view_of(codebook);
    const WithoutGil released;
    kernels().vector_quantize.nearest(static_cast<DType>(dtype), threads, rows, codes, pointer(quantized),
                                      static_cast<std::int64_t*>(pointer(indices)));
}

inline void bind(py::module_& m) {
    using py::arg;
    m.def("vector_quantize", &vector_quantize, arg("dtype"), arg("threads"), arg("z"), arg("codebook"),
          arg("quantized"), arg("indices"));
}

}  // namespace lapcore::bindings::vector_quantize
