// lapcore/native/random.py's side of csrc/cpu/random.h.
#pragma once

#include "bindings/bindings.h"

namespace lapcore::bindings::random {

inline void random_draw(int distribution, int dtype, int threads, const SeedsTensor& seeds, std::int64_t rows,
                        std::int64_t length, std::uintptr_t out) {
    const WithoutGil released;
    kernels().random.draw(static_cast<Distribution>(distribution), static_cast<DType>(dtype), threads, seeds_of(seeds),
                          rows, length, pointer(out));
}

inline void bind(py::module_& m) {
    using py::arg;
    m.def("random_draw", &random_draw, arg("distribution"), arg("dtype"), arg("threads"), arg("seeds"), arg("rows"),
          arg("length"), arg("out"));
}

}  // namespace lapcore::bindings::random
