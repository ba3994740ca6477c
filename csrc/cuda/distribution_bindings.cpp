// Gaussians, mixtures of logistics and draws over raw pointers. Arguments have been checked by lapcore.ops.
#include <optional>

#include "cuda/bindings.h"
#include "cuda/gaussian.h"
#include "cuda/likelihood.h"
#include "cuda/random.h"
#include "gil.h"
#include "tensors.h"

namespace py = pybind11;

namespace lapcore::cuda {
namespace {

using Shape = std::pair<std::int64_t, std::int64_t>;        // rows, length
using MomentRows = std::vector<std::optional<RowsTensor>>;  // mean, logvar and the prior's, or their gradients

GaussianCall call_of(int dtype, std::uintptr_t stream, const Shape& shape) {
    return {static_cast<DType>(dtype), pointer(stream), shape.first, shape.second};
}

MixtureCall call_of(int dtype, std::uintptr_t stream, int channels, bool official) {
    return {static_cast<DType>(dtype), channels, official, pointer(stream)};
}

Moments moments_of(const MomentRows& rows) {
    return {rows_of(rows.at(0)), rows_of(rows.at(1)), rows_of(rows.at(2)), rows_of(rows.at(3))};
}

double* parts_of(std::uintptr_t parts) { return static_cast<double*>(pointer(parts)); }

void forward(int dtype, std::uintptr_t stream, const Shape& shape, const MomentRows& moments, const SeedsTensor& seeds,
             std::uintptr_t z, std::uintptr_t kl, std::uintptr_t parts) {
    const Moments m = moments_of(moments);
    const WithoutGil released;
    gaussian_forward(call_of(dtype, stream, shape), m, seeds_of(seeds), pointer(z), pointer(kl), parts_of(parts));
}

void backward(int dtype, std::uintptr_t stream, const Shape& shape, const std::optional<RowsTensor>& grad_z,
              std::uintptr_t grad_kl, const MomentRows& moments, const SeedsTensor& seeds,
              const MomentRows& gradients) {
    const Moments m = moments_of(moments), out = moments_of(gradients);
    const WithoutGil released;
    gaussian_backward(call_of(dtype, stream, shape), rows_of(grad_z), pointer(grad_kl), m, seeds_of(seeds), out);
}

void nll(int dtype, std::uintptr_t stream, const Shape& shape, const RowsTensor& x, const RowsTensor& mean,
         const RowsTensor& logvar, std::uintptr_t out, std::uintptr_t parts) {
    const WithoutGil released;
    gaussian_nll(call_of(dtype, stream, shape), rows_of(x), rows_of(mean), rows_of(logvar), pointer(out),
                 parts_of(parts));
}

void nll_backward(int dtype, std::uintptr_t stream, const Shape& shape, std::uintptr_t grad, const RowsTensor& x,
                  const RowsTensor& mean, const RowsTensor& logvar, std::uintptr_t d_x, std::uintptr_t d_mean,
                  std::uintptr_t d_logvar) {
    const WithoutGil released;
    gaussian_nll_backward(call_of(dtype, stream, shape), pointer(grad), rows_of(x), rows_of(mean), rows_of(logvar),
                          pointer(d_x), pointer(d_mean), pointer(d_logvar));
}

void mixture(int dtype, std::uintptr_t stream, int channels, bool official, const Tensor& params, const Tensor& x,
             std::uintptr_t parts, std::uintptr_t out) {
    const View from = view_of(params), image = view_of(x);
    const WithoutGil released;
    mixture_nll(call_of(dtype, stream, channels, official), from, image, parts_of(parts), pointer(out));
}

void mixture_backward(int dtype, std::uintptr_t stream, int channels, bool official, std::uintptr_t grad,
                      const Tensor& params, const Tensor& x, std::uintptr_t d_params, std::uintptr_t d_x) {
    const View from = view_of(params), image = view_of(x);
    const WithoutGil released;
    mixture_nll_backward(call_of(dtype, stream, channels, official), pointer(grad), from, image, pointer(d_params),
                         pointer(d_x));
}

void sample(int dtype, std::uintptr_t stream, int channels, bool snap, const Tensor& params, const SeedsTensor& seeds,
            std::uintptr_t out) {
    const View from = view_of(params);
    const WithoutGil released;
    mixture_sample(call_of(dtype, stream, channels, false), from, seeds_of(seeds), snap, pointer(out));
}

void draw(int distribution, int dtype, std::uintptr_t stream, const SeedsTensor& seeds, std::int64_t rows,
          std::int64_t length, std::uintptr_t out) {
    const WithoutGil released;
    random_draw(static_cast<Distribution>(distribution), static_cast<DType>(dtype), pointer(stream), seeds_of(seeds),
                rows, length, pointer(out));
}

void bind_gaussian(py::module_& m) {
    using py::arg;
    m.def("cuda_gaussian_parts", &gaussian_parts, arg("rows"), arg("length"),
          "How many float64 the sums of rows want for `parts`.");
    m.def("cuda_gaussian_forward", &forward, arg("dtype"), arg("stream"), arg("shape"), arg("moments"), arg("seeds"),
          arg("z"), arg("kl"), arg("parts"),
          "z and kl, which are 0 where they are not wanted. Seeds are on the card where there is one for each row, "
          "else on the host.");
    m.def("cuda_gaussian_backward", &backward, arg("dtype"), arg("stream"), arg("shape"), arg("grad_z"), arg("grad_kl"),
          arg("moments"), arg("seeds"), arg("gradients"));
    m.def("cuda_gaussian_nll", &nll, arg("dtype"), arg("stream"), arg("shape"), arg("x"), arg("mean"), arg("logvar"),
          arg("out"), arg("parts"));
    m.def("cuda_gaussian_nll_backward", &nll_backward, arg("dtype"), arg("stream"), arg("shape"), arg("grad"), arg("x"),
          arg("mean"), arg("logvar"), arg("d_x"), arg("d_mean"), arg("d_logvar"));
}

void bind_mixture(py::module_& m) {
    using py::arg;
    m.def("cuda_mixture_parts", &mixture_parts, arg("pixels"),
          "How many float64 an image of so many pixels wants of cuda_mixture_nll's `parts`.");
    m.def("cuda_mixture_nll", &mixture, arg("dtype"), arg("stream"), arg("channels"), arg("official"), arg("params"),
          arg("x"), arg("parts"), arg("out"));
    m.def("cuda_mixture_nll_backward", &mixture_backward, arg("dtype"), arg("stream"), arg("channels"), arg("official"),
          arg("grad"), arg("params"), arg("x"), arg("d_params"), arg("d_x"));
    m.def("cuda_mixture_sample", &sample, arg("dtype"), arg("stream"), arg("channels"), arg("snap"), arg("params"),
          arg("seeds"), arg("out"), "Seeds are on the card where there is one for each row, else on the host.");
}

}  // namespace

void bind_distributions(py::module_& m) {
    using py::arg;
    bind_gaussian(m);
    bind_mixture(m);
    m.def("cuda_random_draw", &draw, arg("distribution"), arg("dtype"), arg("stream"), arg("seeds"), arg("rows"),
          arg("length"), arg("out"),
          "Enqueues a draw on a CUDA stream; seeds are on the card where there is one for each row, else on the host.");
}

}  // namespace lapcore::cuda
