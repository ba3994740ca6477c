#include "bindings/bindings.h"
#include "cpu/dispatch.h"
#include "gil.h"
#include "tensors.h"

namespace py = pybind11;

namespace lapcore {
namespace {

void parzen_log_likelihood(int dtype, int threads, const Tensor& x, const Tensor& samples,
                           const std::vector<double>& sigmas, std::uintptr_t result) {
    const View rows = view_of(x), centres = view_of(samples);
    const WithoutGil released;
    kernels().parzen.log_likelihood(static_cast<DType>(dtype), threads, rows, centres, sigmas, pointer(result));
}

}  // namespace

void bind_parzen(py::module_& m) {
    using py::arg;
    m.def("parzen_log_likelihood", &parzen_log_likelihood, arg("dtype"), arg("threads"), arg("x"), arg("samples"),
          arg("sigmas"), arg("result"));
}

}  // namespace lapcore
