// The module lapcore._C: plain functions over raw pointers, sizes and strides, so that one build serves every PyTorch.
// Arguments have been checked by lapcore.ops. The GIL is released while a kernel runs.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "cpu/dispatch.h"
#if defined(LAPCORE_CUDA)
#include "cuda/pyramid.h"
#endif

namespace py = pybind11;

namespace lapcore {
namespace {

using Tensor = std::tuple<std::uintptr_t, std::vector<std::int64_t>, std::vector<std::int64_t>>;

View view_of(const Tensor& tensor) {
    const auto& [data, shape, strides] = tensor;
    return {reinterpret_cast<void*>(data), shape, strides};
}

void* pointer(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

PyramidCall call_of(int dtype, int border, int threads) {
    return {static_cast<DType>(dtype), static_cast<Border>(border), threads};
}

void pyramid_apply(int op, int dtype, int border, int threads, const Tensor& src, std::uintptr_t dst,
                   std::int64_t height, std::int64_t width, const std::optional<Tensor>& base, double alpha) {
    const View source = view_of(src);
    const View base_view = base ? view_of(*base) : View{};
    const py::gil_scoped_release release;
    kernels().pyramid.apply(call_of(dtype, border, threads), static_cast<Op>(op), source, base ? &base_view : nullptr,
                            alpha, pointer(dst), height, width);
}

void laplacian_pyramid(int dtype, int border, int threads, const Tensor& x, const std::vector<std::uintptr_t>& out) {
    const View source = view_of(x);
    std::vector<void*> outputs;
    for (const auto address : out) outputs.push_back(pointer(address));
    const py::gil_scoped_release release;
    kernels().pyramid.laplacian_pyramid(call_of(dtype, border, threads), source, outputs);
}

void collapse(int dtype, int border, int threads, const std::vector<Tensor>& pyramid, std::uintptr_t out) {
    std::vector<View> levels;
    for (const auto& level : pyramid) levels.push_back(view_of(level));
    const py::gil_scoped_release release;
    kernels().pyramid.collapse(call_of(dtype, border, threads), levels, pointer(out));
}

#if defined(LAPCORE_CUDA)
void cuda_pyramid_apply(int op, int dtype, int border, std::uintptr_t stream, const Tensor& src, std::uintptr_t dst,
                        std::int64_t height, std::int64_t width, const std::optional<Tensor>& base, double alpha) {
    const View source = view_of(src);
    const View base_view = base ? view_of(*base) : View{};
    const cuda::PyramidCall call{static_cast<DType>(dtype), static_cast<Border>(border), pointer(stream)};
    const py::gil_scoped_release release;
    cuda::pyramid_apply(call, static_cast<Op>(op), source, base ? &base_view : nullptr, alpha, pointer(dst), height,
                        width);
}
#endif

}  // namespace
}  // namespace lapcore

PYBIND11_MODULE(_C, m) {
    using namespace lapcore;
    using py::arg;
    m.doc() =
        "Kernels of lapcore over raw pointers: a tensor is (address, shape, strides in elements), outputs are "
        "contiguous.";
    m.def("isa", &isa, "The instruction set whose kernels are in use.");
    m.def("isas", &isas, "The instruction sets this CPU and build can use, best last.");
    m.def("use_isa", &use_isa, arg("name"),
          "Switches to the kernels of another instruction set, for tests and benchmarks.");
    m.def("pyramid_apply", &pyramid_apply, arg("op"), arg("dtype"), arg("border"), arg("threads"), arg("src"),
          arg("dst"), arg("height"), arg("width"), arg("base"), arg("alpha"));
    m.def("laplacian_pyramid", &laplacian_pyramid, arg("dtype"), arg("border"), arg("threads"), arg("x"), arg("out"));
    m.def("collapse", &collapse, arg("dtype"), arg("border"), arg("threads"), arg("pyramid"), arg("out"));
#if defined(LAPCORE_CUDA)
    m.def("cuda_pyramid_apply", &cuda_pyramid_apply, arg("op"), arg("dtype"), arg("border"), arg("stream"), arg("src"),
          arg("dst"), arg("height"), arg("width"), arg("base"), arg("alpha"),
          "Enqueues one operator on a CUDA stream of the current device; RuntimeError when CUDA refuses the launch.");
    m.attr("has_cuda") = true;
#else
    m.attr("has_cuda") = false;
#endif
}
