#include "bindings/bindings.h"
#include "cpu/dispatch.h"
#include "gil.h"
#include "tensors.h"

namespace py = pybind11;

namespace lapcore {
namespace {

void vector_quantize(int dtype, int threads, const Tensor& z, const Tensor& codebook, std::uintptr_t quantized,
                     std::uintptr_t indices) {
    const View rows = view_of(z), codes = view_of(codebook);
    const WithoutGil released;
    kernels().vector_quantize.nearest(static_cast<DType>(dtype), threads, rows, codes, pointer(quantized),
                                      static_cast<std::int64_t*>(pointer(indices)));
}

}  // namespace

void bind_vector_quantize(py::module_& m) {
    using py::arg;
    m.def("vector_quantize", &vector_quantize, arg("dtype"), arg("threads"), arg("z"), arg("codebook"),
          arg("quantized"), arg("indices"));
}

}  // namespace lapcore
