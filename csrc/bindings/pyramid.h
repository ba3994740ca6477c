// lapcore/native/pyramid.py's side of csrc/cpu/pyramid.h.
#pragma once

#include "bindings/bindings.h"
#include "cpu/memory.h"

namespace lapcore::bindings::pyramid {

// The leading dimensions of each tensor as few as they can be.
inline View merged(const Tensor& tensor) { return view_of(tensor).merged(); }

inline std::vector<View> merged(const std::vector<Tensor>& tensors) {
    std::vector<View> views;
    for (const Tensor& tensor : tensors) views.push_back(merged(tensor));
    return views;
}

inline PyramidCall call_of(int dtype, int border, int threads) {
    return {static_cast<DType>(dtype), static_cast<Border>(border), threads};
}

inline std::vector<void*> pointers(const std::vector<std::uintptr_t>& addresses) {
    std::vector<void*> found;
    for (const auto address : addresses) found.push_back(pointer(address));
    return found;
}

inline void pyramid_apply(int op, int dtype, int border, int threads, const Tensor& src, const Tensor& dst,
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

inline void gaussian_pyramid(int dtype, int border, int threads, const Tensor& x, const std::vector<Tensor>& out) {
    const View source = merged(x);
    const auto outputs = merged(out);
    const WithoutGil released;
    for (const auto& output : outputs) prefer_huge_pages(output, bytes_of(static_cast<DType>(dtype)));
    kernels().pyramid.gaussian_pyramid(call_of(dtype, border, threads), source, outputs);
}

inline void laplacian_pyramid(int dtype, int border, int threads, const Tensor& x, const std::vector<Tensor>& out,
                              const std::vector<std::uintptr_t>& work) {
    const View source = merged(x);
    const auto outputs = merged(out);
    const auto between = pointers(work);
    const WithoutGil released;
    for (const auto& output : outputs) prefer_huge_pages(output, bytes_of(static_cast<DType>(dtype)));
    kernels().pyramid.laplacian_pyramid(call_of(dtype, border, threads), source, outputs, between);
}

inline void collapse(int dtype, int border, int threads, const std::vector<Tensor>& pyramid, const Tensor& out,
                     const std::vector<std::uintptr_t>& work) {
    const auto levels = merged(pyramid);
    const View target = merged(out);
    const auto between = pointers(work);
    const WithoutGil released;
    prefer_huge_pages(target, bytes_of(static_cast<DType>(dtype)));
    kernels().pyramid.collapse(call_of(dtype, border, threads), levels, target, between);
}

inline void laplacian_loss(int dtype, int border, int threads, const Tensor& input, const Tensor& target,
                           const std::vector<Tensor>& masks, const std::vector<std::vector<std::int64_t>>& sizes,
                           std::int64_t samples, std::int64_t weighted, std::uintptr_t coefficients,
                           std::uintptr_t loss, const std::optional<Tensor>& grad) {
    const View a = merged(input), b = merged(target), gradient = grad ? merged(*grad) : View{};
    const auto weights = merged(masks);
    const WithoutGil released;
    if (grad) prefer_huge_pages(gradient, bytes_of(static_cast<DType>(dtype)));
    const LossCall call{call_of(dtype, border, threads), sizes, samples, weighted, pointer(coefficients)};
    kernels().pyramid.laplacian_loss(call, a, b, weights, pointer(loss), grad ? &gradient : nullptr);
}

inline void bind(py::module_& m) {
    using py::arg;
    m.def("pyramid_apply", &pyramid_apply, arg("op"), arg("dtype"), arg("border"), arg("threads"), arg("src"),
          arg("dst"), arg("base"), arg("alpha"), arg("tables"));
    m.def("gaussian_pyramid", &gaussian_pyramid, arg("dtype"), arg("border"), arg("threads"), arg("x"), arg("out"));
    m.def("laplacian_pyramid", &laplacian_pyramid, arg("dtype"), arg("border"), arg("threads"), arg("x"), arg("out"),
          arg("work"));
    m.def("collapse", &collapse, arg("dtype"), arg("border"), arg("threads"), arg("pyramid"), arg("out"), arg("work"));
    m.def("laplacian_loss", &laplacian_loss, arg("dtype"), arg("border"), arg("threads"), arg("input"), arg("target"),
          arg("masks"), arg("sizes"), arg("samples"), arg("weighted"), arg("coefficients"), arg("loss"), arg("grad"));
}

}  // namespace lapcore::bindings::pyramid
