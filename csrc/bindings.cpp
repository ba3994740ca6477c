// The module lapcore._C, and what it has of pyramids (the other families are in csrc/bindings/): plain functions over
// raw pointers, sizes and strides, so that one build serves every PyTorch. Arguments have been checked by lapcore.ops.
// The GIL is released while a kernel runs.
#include "bindings/bindings.h"

#include <pybind11/pybind11.h>

#include <optional>

#include "cpu/dispatch.h"
#include "cpu/memory.h"
#include "gil.h"
#include "tensors.h"
#if defined(LAPCORE_CUDA)
#include "cuda/bindings.h"
#endif

namespace py = pybind11;

namespace lapcore {
namespace {

// The leading dimensions of each tensor as few as they can be.
View merged(const Tensor& tensor) { return view_of(tensor).merged(); }

std::vector<View> merged(const std::vector<Tensor>& tensors) {
    std::vector<View> views;
    for (const Tensor& tensor : tensors) views.push_back(merged(tensor));
    return views;
}

PyramidCall call_of(int dtype, int border, int threads) {
    return {static_cast<DType>(dtype), static_cast<Border>(border), threads};
}

std::vector<void*> pointers(const std::vector<std::uintptr_t>& addresses) {
    std::vector<void*> found;
    for (const auto address : addresses) found.push_back(pointer(address));
    return found;
}

void pyramid_apply(int op, int dtype, int border, int threads, const Tensor& src, const Tensor& dst,
                   const std::optional<Tensor>& base, double alpha,
                   const std::optional<std::pair<TapsTensor, TapsTensor>>& tables) {
    const View source = merged(src), target = merged(dst), added = base ? merged(*base) : View{};
    const PyramidCall call = call_of(dtype, border, threads);
    const WithoutGil released;
    prefer_huge_pages(target, bytes_of(static_cast<DType>(dtype)));
    if (tables) {
        kernels().pyramid.apply_tables(call, table_of(tables->first), table_of(tables->second), source,
                                       base ? &added : nullptr, alpha, target);
    } else {
        kernels().pyramid.apply(call, static_cast<Op>(op), source, base ? &added : nullptr, alpha, target);
    }
}

void gaussian_pyramid(int dtype, int border, int threads, const Tensor& x, const std::vector<Tensor>& out) {
    const View source = merged(x);
    const auto outputs = merged(out);
    const WithoutGil released;
    for (const auto& output : outputs) prefer_huge_pages(output, bytes_of(static_cast<DType>(dtype)));
    kernels().pyramid.gaussian_pyramid(call_of(dtype, border, threads), source, outputs);
}

void laplacian_pyramid(int dtype, int border, int threads, const Tensor& x, const std::vector<Tensor>& out,
                       const std::vector<std::uintptr_t>& work) {
    const View source = merged(x);
    const auto outputs = merged(out);
    const auto between = pointers(work);
    const WithoutGil released;
    for (const auto& output : outputs) prefer_huge_pages(output, bytes_of(static_cast<DType>(dtype)));
    kernels().pyramid.laplacian_pyramid(call_of(dtype, border, threads), source, outputs, between);
}

void collapse(int dtype, int border, int threads, const std::vector<Tensor>& pyramid, const Tensor& out,
              const std::vector<std::uintptr_t>& work) {
    const auto levels = merged(pyramid);
    const View target = merged(out);
    const auto between = pointers(work);
    const WithoutGil released;
    prefer_huge_pages(target, bytes_of(static_cast<DType>(dtype)));
    kernels().pyramid.collapse(call_of(dtype, border, threads), levels, target, between);
}

void laplacian_loss(int dtype, int border, int threads, const Tensor& input, const Tensor& target,
                    const std::vector<Tensor>& masks, const std::vector<std::vector<std::int64_t>>& sizes,
                    std::int64_t samples, std::int64_t weighted, std::uintptr_t coefficients, std::uintptr_t loss,
                    const std::optional<Tensor>& grad) {
    const View a = merged(input), b = merged(target), gradient = grad ? merged(*grad) : View{};
    const auto weights = merged(masks);
    const WithoutGil released;
    if (grad) prefer_huge_pages(gradient, bytes_of(static_cast<DType>(dtype)));
    const LossCall call{call_of(dtype, border, threads), sizes, samples, weighted, pointer(coefficients)};
    kernels().pyramid.laplacian_loss(call, a, b, weights, pointer(loss), grad ? &gradient : nullptr);
}

}  // namespace
}  // namespace lapcore

// Calls run beside each other with the GIL and without it. What they share guards itself: the choice of an instruction
// set is atomic, the memory of outputs that are gone has a lock, threads and jobs are made for several callers.
PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
    using namespace lapcore;
    using py::arg;
    m.doc() =
        "Kernels of lapcore over raw pointers: a tensor is (address, shape, strides in elements), outputs are "
        "contiguous.";
    m.def("isa", &isa, "The instruction set whose kernels are in use.");
    m.def("isas", &isas, "The instruction sets this CPU and build can use, best last.");
    m.def("use_isa", &use_isa, arg("name"),
          "Switches to the kernels of another instruction set, for tests and benchmarks.");
    py::class_<Block>(m, "Block", py::buffer_protocol(), "Memory for one large output, as a writable buffer of bytes.")
        .def(py::init<std::size_t>(), arg("bytes"))
        .def_buffer([](Block& block) {
            return py::buffer_info(static_cast<std::uint8_t*>(block.data()), std::ptrdiff_t(block.bytes()));
        });
    m.def("release_kept_blocks", &release_kept_blocks,
          "Gives the memory of outputs that are gone back to the system; how many bytes that were.");
    m.def("pyramid_apply", &pyramid_apply, arg("op"), arg("dtype"), arg("border"), arg("threads"), arg("src"),
          arg("dst"), arg("base"), arg("alpha"), arg("tables"));
    m.def("gaussian_pyramid", &gaussian_pyramid, arg("dtype"), arg("border"), arg("threads"), arg("x"), arg("out"));
    m.def("laplacian_pyramid", &laplacian_pyramid, arg("dtype"), arg("border"), arg("threads"), arg("x"), arg("out"),
          arg("work"));
    m.def("collapse", &collapse, arg("dtype"), arg("border"), arg("threads"), arg("pyramid"), arg("out"), arg("work"));
    m.def("laplacian_loss", &laplacian_loss, arg("dtype"), arg("border"), arg("threads"), arg("input"), arg("target"),
          arg("masks"), arg("sizes"), arg("samples"), arg("weighted"), arg("coefficients"), arg("loss"), arg("grad"));
    bind_gaussian(m);
    bind_parzen(m);
    bind_likelihood(m);
    bind_masked_conv(m);
    bind_pixelcnn_sampler(m);
    bind_random(m);
    bind_vector_quantize(m);
#if defined(LAPCORE_CUDA)
    cuda::bind(m);
    m.attr("has_cuda") = true;
#else
    m.attr("has_cuda") = false;
#endif
}
