// Plain functions over raw pointers of the current device and a stream. Arguments have been checked by lapcore.ops.
#include "cuda/bindings.h"

#include <optional>
#include <stdexcept>

#include "cuda/laplacian_loss.h"
#include "cuda/pyramid.h"
#include "cuda/pyramids.h"
#include "gil.h"
#include "tensors.h"

namespace py = pybind11;

namespace lapcore::cuda {
namespace {

// Leading dimensions stay as they are: those of several tensors are merged together (image.h).
PyramidCall call_of(int dtype, int border, std::uintptr_t stream) {
    return {static_cast<DType>(dtype), static_cast<Border>(border), pointer(stream)};
}

void apply(int op, int dtype, int border, std::uintptr_t stream, const Tensor& src, const Tensor& dst,
           const std::optional<Tensor>& base, double alpha,
           const std::optional<std::pair<TapsTensor, TapsTensor>>& tables) {
    const View source = view_of(src), target = view_of(dst), added = base ? view_of(*base) : View{};
    const View* given = base ? &added : nullptr;
    const PyramidCall call = call_of(dtype, border, stream);
    const WithoutGil released;
    if (tables) {
        pyramid_apply_table(call, table_of(tables->first), table_of(tables->second), source, given, alpha, target);
    } else {
        pyramid_operator(call, static_cast<Op>(op), source, given, alpha, target);
    }
}

void pyramid(const std::string& name, int dtype, int border, std::uintptr_t stream, const Tensor& image,
             const std::vector<Tensor>& levels, const std::vector<Tensor>& work) {
    const View whole = view_of(image);
    const Views each = views_of(levels), between = views_of(work);
    const PyramidCall call = call_of(dtype, border, stream);
    const WithoutGil released;
    if (name == "laplacian_pyramid") return laplacian_pyramid(call, whole, each, between);
    if (name == "collapse") return collapse(call, each, whole, between);
    if (name == "laplacian_pyramid_adjoint") return laplacian_pyramid_adjoint(call, each, whole, between);
    if (name == "gaussian_pyramid") return gaussian_pyramid(call, whole, each);
    if (name == "collapse_adjoint") return collapse_adjoint(call, whole, each);
    throw std::invalid_argument("name: " + name);
}

std::int64_t parts_of_loss(const Tensor& input, const std::vector<Tensor>& fine, int terms) {
    return loss_parts(view_of(input), views_of(fine), terms);
}

void loss(int dtype, int border, std::uintptr_t stream, const Tensor& input, const Tensor& target,
          const std::vector<Tensor>& masks, const std::vector<Tensor>& fine, const std::vector<Tensor>& lows,
          const std::vector<Tensor>& signs, const std::vector<Tensor>& totals, const std::vector<Tensor>& below,
          const Tensor& coefficients, const Tensor& parts, const Tensor& loss) {
    const LossImages images{view_of(input), view_of(target), views_of(masks),  views_of(fine),
                            views_of(lows), views_of(signs), views_of(totals), views_of(below)};
    const View weights = view_of(coefficients);
    const LossSums sums{static_cast<const float*>(weights.data), static_cast<double*>(view_of(parts).data),
                        static_cast<float*>(view_of(loss).data), weights.height(), static_cast<int>(weights.width())};
    const PyramidCall call = call_of(dtype, border, stream);
    const WithoutGil released;
    laplacian_loss(call, images, sums);
}

}  // namespace

void bind(py::module_& m) {
    using py::arg;
    m.def("cuda_pyramid_apply", &apply, arg("op"), arg("dtype"), arg("border"), arg("stream"), arg("src"), arg("dst"),
          arg("base"), arg("alpha"), arg("tables"),
          "Enqueues one operator on a CUDA stream of the current device; RuntimeError when CUDA refuses the launch.");
    m.def("cuda_pyramid", &pyramid, arg("name"), arg("dtype"), arg("border"), arg("stream"), arg("image"),
          arg("levels"), arg("work"),
          "Enqueues an operation on a whole pyramid: image, levels and work as csrc/cuda/pyramids.h takes them.");
    m.def("cuda_loss_parts", &parts_of_loss, arg("input"), arg("fine"), arg("terms"),
          "How many float64 cuda_laplacian_loss wants for `parts`.");
    m.def("cuda_laplacian_loss", &loss, arg("dtype"), arg("border"), arg("stream"), arg("input"), arg("target"),
          arg("masks"), arg("fine"), arg("lows"), arg("signs"), arg("totals"), arg("below"), arg("coefficients"),
          arg("parts"), arg("loss"),
          "Enqueues the Laplacian loss and its gradient: images as csrc/cuda/laplacian_loss.h takes them.");
    bind_distances(m);
    bind_distributions(m);
    bind_masked_conv(m);
    bind_pixelcnn_sampler(m);
}

}  // namespace lapcore::cuda
