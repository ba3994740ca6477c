// vector_quantize and parzen_log_likelihood over raw pointers. Arguments have been checked by lapcore.ops.
#include "cuda/bindings.h"
#include "cuda/parzen.h"
#include "cuda/vector_quantize.h"
#include "gil.h"
#include "tensors.h"

namespace py = pybind11;

namespace lapcore::cuda {
namespace {

void quantize(int dtype, std::uintptr_t stream, const Tensor& z, const Tensor& codebook, const Tensor& quantized,
              std::uintptr_t indices, std::uintptr_t work) {
    const View rows = view_of(z), codes = view_of(codebook), out = view_of(quantized);
    const WithoutGil released;
    vector_quantize(static_cast<DType>(dtype), pointer(stream), rows, codes, out,
                    static_cast<std::int64_t*>(pointer(indices)), pointer(work));
}

void parzen(int dtype, std::uintptr_t stream, const Tensor& x, const Tensor& samples, const std::vector<double>& sigmas,
            std::uintptr_t out, std::uintptr_t work) {
    const View rows = view_of(x), centres = view_of(samples);
    const WithoutGil released;
    parzen_log_likelihood(static_cast<DType>(dtype), pointer(stream), rows, centres, sigmas, pointer(out),
                          pointer(work));
}

}  // namespace

void bind_distances(py::module_& m) {
    using py::arg;
    m.def(
        "cuda_vector_quantize_work",
        [](int dtype, std::int64_t rows, std::int64_t codes) {
            return vector_quantize_work(static_cast<DType>(dtype), rows, codes);
        },
        arg("dtype"), arg("rows"), arg("codes"), "How many bytes cuda_vector_quantize wants for `work`.");
    m.def("cuda_vector_quantize", &quantize, arg("dtype"), arg("stream"), arg("z"), arg("codebook"), arg("quantized"),
          arg("indices"), arg("work"),
          "Enqueues the search for the nearest codes: tensors as csrc/cuda/vector_quantize.h takes them.");
    m.def(
        "cuda_parzen_work",
        [](int dtype, std::int64_t rows, std::int64_t samples, std::int64_t sigmas) {
            return parzen_work(static_cast<DType>(dtype), rows, samples, sigmas);
        },
        arg("dtype"), arg("rows"), arg("samples"), arg("sigmas"),
        "How many bytes cuda_parzen_log_likelihood wants for `work`.");
    m.def("cuda_parzen_log_likelihood", &parzen, arg("dtype"), arg("stream"), arg("x"), arg("samples"), arg("sigmas"),
          arg("out"), arg("work"),
          "Enqueues log-likelihoods for every sigma: tensors as csrc/cuda/parzen.h takes them.");
}

}  // namespace lapcore::cuda
