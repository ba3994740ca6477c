// lapcore/native/random.py's side of csrc/cpu/random.h.
#include "bindings/bindings.h"
#include "cpu/dispatch.h"
#include "gil.h"
#include "tensors.h"

namespace py = pybind11;

namespace lapcore {
namespace {

void random_draw(int distribution, int dtype, int threads, const SeedsTensor& seeds, std::int64_t rows,
                 std::int64_t length, std::uintptr_t out) {
    const WithoutGil released;
    kernels().random.draw(static_cast<Distribution>(distribution), static_cast<DType>(dtype), threads, seeds_of(seeds),
                          rows, length, pointer(out));
}

}  // namespace

void bind_random(py::module_& m) {
    using py::arg;
    m.def("random_draw", &random_draw, arg("distribution"), arg("dtype"), arg("threads"), arg("seeds"), arg("rows"),
          arg("length"), arg("out"));
}

}  // namespace lapcore
