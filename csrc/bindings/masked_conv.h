// lapcore/native/masked_conv.py's side of csrc/cpu/masked_conv.h.
#pragma once

#include "bindings/bindings.h"

namespace lapcore::bindings::masked_conv {

using Live = std::pair<std::int64_t, std::vector<std::int64_t>>;  // whole taps, channels of the centre tap

inline MaskedConvCall call_of(int dtype, int threads, const Live& live, std::int64_t stride) {
    return {static_cast<DType>(dtype), threads, {live.first, live.second}, stride};
}

inline void forward(int dtype, int threads, const Live& live, std::int64_t stride, const Tensor& x,
                    const Tensor& weight, std::uintptr_t bias, std::uintptr_t condition, bool per_pixel, int activation,
                    const Tensor& y) {
    const MaskedConvCall call = call_of(dtype, threads, live, stride);
    const Epilogue epilogue{pointer(bias), pointer(condition), per_pixel, static_cast<Activation>(activation)};
    const View source = view_of(x), weights = view_of(weight), target = view_of(y);
    const WithoutGil released;
    kernels().masked_conv.forward(call, source, weights, epilogue, target);
}

inline void backward_input(int dtype, int threads, const Live& live, const Tensor& grad, const Tensor& weight,
                           const Tensor& dx) {
    const MaskedConvCall call = call_of(dtype, threads, live, 1);
    const View source = view_of(grad), weights = view_of(weight), target = view_of(dx);
    const WithoutGil released;
    kernels().masked_conv.backward_input(call, source, weights, target);
}

inline void backward_weight(int dtype, int threads, const Live& live, std::int64_t stride, const Tensor& grad,
                            const Tensor& x, const Tensor& d_weight) {
    const MaskedConvCall call = call_of(dtype, threads, live, stride);
    const View incoming = view_of(grad), source = view_of(x), target = view_of(d_weight);
    const WithoutGil released;
    kernels().masked_conv.backward_weight(call, incoming, source, target);
}

inline void gate(int dtype, int threads, int first, std::int64_t rows, std::int64_t half, std::uintptr_t x,
                 std::uintptr_t y) {
    const WithoutGil released;
    kernels().masked_conv.gated(static_cast<DType>(dtype), threads, static_cast<First>(first), rows, half, pointer(x),
                                pointer(y));
}

inline void gate_backward(int dtype, int threads, int first, std::int64_t rows, std::int64_t half, std::uintptr_t grad,
                          std::uintptr_t x, std::uintptr_t dx) {
    const WithoutGil released;
    kernels().masked_conv.gated_backward(static_cast<DType>(dtype), threads, static_cast<First>(first), rows, half,
                                         pointer(grad), pointer(x), pointer(dx));
}

inline void elu(int dtype, int threads, std::int64_t rows, std::int64_t half, std::uintptr_t x, std::uintptr_t y) {
    const WithoutGil released;
    kernels().masked_conv.concat_elu(static_cast<DType>(dtype), threads, rows, half, pointer(x), pointer(y));
}

inline void elu_backward(int dtype, int threads, std::int64_t rows, std::int64_t half, std::uintptr_t grad,
                         std::uintptr_t x, std::uintptr_t dx) {
    const WithoutGil released;
    kernels().masked_conv.concat_elu_backward(static_cast<DType>(dtype), threads, rows, half, pointer(grad), pointer(x),
                                              pointer(dx));
}

inline void bind(py::module_& m) {
    using py::arg;
    m.def("masked_conv2d", &forward, arg("dtype"), arg("threads"), arg("live"), arg("stride"), arg("x"), arg("weight"),
          arg("bias"), arg("condition"), arg("per_pixel"), arg("activation"), arg("y"),
          "live: how many taps are whole, and the channels of the next, for each output channel. bias and condition "
          "are 0 where they are not there.");
    m.def("masked_conv2d_backward_input", &backward_input, arg("dtype"), arg("threads"), arg("live"), arg("grad"),
          arg("weight"), arg("dx"), "Of stride 1.");
    m.def("masked_conv2d_backward_weight", &backward_weight, arg("dtype"), arg("threads"), arg("live"), arg("stride"),
          arg("grad"), arg("x"), arg("d_weight"));
    m.def("gated_activation", &gate, arg("dtype"), arg("threads"), arg("first"), arg("rows"), arg("half"), arg("x"),
          arg("y"));
    m.def("gated_activation_backward", &gate_backward, arg("dtype"), arg("threads"), arg("first"), arg("rows"),
          arg("half"), arg("grad"), arg("x"), arg("dx"));
    m.def("concat_elu", &elu, arg("dtype"), arg("threads"), arg("rows"), arg("half"), arg("x"), arg("y"));
    m.def("concat_elu_backward", &elu_backward, arg("dtype"), arg("threads"), arg("rows"), arg("half"), arg("grad"),
          arg("x"), arg("dx"));
}

}  // namespace lapcore::bindings::masked_conv
