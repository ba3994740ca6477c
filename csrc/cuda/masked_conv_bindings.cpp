// Masked convolutions and their activations over raw pointers. Arguments have been checked by lapcore.ops.
#include <optional>

#include "cuda/activations.h"
#include "cuda/bindings.h"
#include "cuda/masked_conv.h"
#include "gil.h"
#include "tensors.h"

namespace py = pybind11;

namespace lapcore::cuda {
namespace {

using Masked = std::tuple<int, int, bool, bool, int>;  // whole, groups, own, halves, stride
using Shape = std::pair<std::int64_t, std::int64_t>;   // rows, and values in a half

MaskedConvCall call_of(int dtype, std::uintptr_t stream, const Masked& masked) {
    const auto& [whole, groups, own, halves, stride] = masked;
    return {static_cast<DType>(dtype), whole, groups, own, halves, stride, pointer(stream)};
}

void convolve(int dtype, std::uintptr_t stream, const Masked& masked, const Tensor& x, const Tensor& weight,
              std::uintptr_t bias, const std::optional<Tensor>& condition, int activation, const Tensor& out,
              std::uintptr_t work) {
    const View image = view_of(x), weights = view_of(weight), result = view_of(out);
    const View added = condition ? view_of(*condition) : View{};
    const WithoutGil released;
    masked_conv(call_of(dtype, stream, masked), image, weights, pointer(bias), condition ? &added : nullptr,
                static_cast<Activation>(activation), result, pointer(work));
}

void backward_input(int dtype, std::uintptr_t stream, const Masked& masked, const Tensor& grad, const Tensor& weight,
                    const Tensor& dx, std::uintptr_t work) {
    const View d_out = view_of(grad), weights = view_of(weight), result = view_of(dx);
    const WithoutGil released;
    masked_conv_input(call_of(dtype, stream, masked), d_out, weights, result, pointer(work));
}

void backward_weight(int dtype, std::uintptr_t stream, const Masked& masked, const Tensor& grad, const Tensor& x,
                     const Tensor& dw, std::uintptr_t work) {
    const View d_out = view_of(grad), image = view_of(x), result = view_of(dw);
    const WithoutGil released;
    masked_conv_weight(call_of(dtype, stream, masked), d_out, image, result, pointer(work));
}

ActivationCall activation_call(int dtype, std::uintptr_t stream, const Shape& shape) {
    return {static_cast<DType>(dtype), pointer(stream), shape.first, shape.second};
}

void bind_activations(py::module_& m) {
    using py::arg;
    m.def(
        "cuda_gated_activation",
        [](int dtype, std::uintptr_t stream, const Shape& shape, int first, const RowsTensor& x, std::uintptr_t y) {
            const WithoutGil released;
            gated_activation(activation_call(dtype, stream, shape), static_cast<First>(first), rows_of(x), pointer(y));
        },
        arg("dtype"), arg("stream"), arg("shape"), arg("first"), arg("x"), arg("y"), "Enqueues gates.");
    m.def(
        "cuda_gated_activation_backward",
        [](int dtype, std::uintptr_t stream, const Shape& shape, int first, const RowsTensor& grad, const RowsTensor& x,
           std::uintptr_t dx) {
            const WithoutGil released;
            gated_activation_backward(activation_call(dtype, stream, shape), static_cast<First>(first), rows_of(grad),
                                      rows_of(x), pointer(dx));
        },
        arg("dtype"), arg("stream"), arg("shape"), arg("first"), arg("grad"), arg("x"), arg("dx"),
        "Enqueues the gradient of gates.");
    m.def(
        "cuda_concat_elu",
        [](int dtype, std::uintptr_t stream, const Shape& shape, const RowsTensor& x, std::uintptr_t y) {
            const WithoutGil released;
            concat_elu(activation_call(dtype, stream, shape), rows_of(x), pointer(y));
        },
        arg("dtype"), arg("stream"), arg("shape"), arg("x"), arg("y"), "Enqueues concatenated ELUs.");
    m.def(
        "cuda_concat_elu_backward",
        [](int dtype, std::uintptr_t stream, const Shape& shape, const RowsTensor& grad, const RowsTensor& x,
           std::uintptr_t dx) {
            const WithoutGil released;
            concat_elu_backward(activation_call(dtype, stream, shape), rows_of(grad), rows_of(x), pointer(dx));
        },
        arg("dtype"), arg("stream"), arg("shape"), arg("grad"), arg("x"), arg("dx"),
        "Enqueues the gradient of concatenated ELUs.");
}

}  // namespace

void bind_masked_conv(py::module_& m) {
    using py::arg;
    m.def(
        "cuda_masked_conv2d_work",
        [](int dtype, const Masked& masked, const Tensor& weight) {
            return masked_conv_work(call_of(dtype, 0, masked), view_of(weight));
        },
        arg("dtype"), arg("masked"), arg("weight"),
        "How many bytes cuda_masked_conv2d and cuda_masked_conv2d_backward_input want for `work`.");
    m.def("cuda_masked_conv2d", &convolve, arg("dtype"), arg("stream"), arg("masked"), arg("x"), arg("weight"),
          arg("bias"), arg("condition"), arg("activation"), arg("out"), arg("work"),
          "Enqueues a masked convolution: tensors as csrc/cuda/masked_conv.h takes them.");
    m.def("cuda_masked_conv2d_backward_input", &backward_input, arg("dtype"), arg("stream"), arg("masked"), arg("grad"),
          arg("weight"), arg("dx"), arg("work"), "Enqueues its gradient at the input.");
    m.def(
        "cuda_masked_conv2d_backward_weight_work",
        [](int dtype, const Masked& masked, const Tensor& weight, std::int64_t pixels) {
            return masked_conv_weight_work(call_of(dtype, 0, masked), view_of(weight), pixels);
        },
        arg("dtype"), arg("masked"), arg("weight"), arg("pixels"),
        "How many bytes cuda_masked_conv2d_backward_weight wants for `work`.");
    m.def("cuda_masked_conv2d_backward_weight", &backward_weight, arg("dtype"), arg("stream"), arg("masked"),
          arg("grad"), arg("x"), arg("dw"), arg("work"), "Enqueues its gradient at the weights.");
    bind_activations(m);
}

}  // namespace lapcore::cuda
