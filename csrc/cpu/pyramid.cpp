// Pyramid kernels for CPUs: separable, streaming over rows, vectorised along them.
//
// Small planes go one to a thread, which makes all levels of one while it is in the cache, those of the smallest in
// groups (cpu/small.h). Large ones are cut into strips of rows, with several levels at once where that is possible
// (cpu/cascade.h). A Laplacian level writes the low-pass and the band in one pass (cpu/laplacian.h). Kernels know the
// format they sum in; rows of other dtypes and strides are converted as they are read and written (cpu/planes.h).
#include "cpu/pyramid.h"

#include <stdexcept>

#include "cpu/pyramid_formats.h"

namespace lapcore::LAPCORE_ISA {

void apply_tables(const PyramidCall& call, const TapTable& rows, const TapTable& columns, const View& src,
                  const View* base, double alpha, const View& dst);
void laplacian_loss(const LossCall& call, const View& input, const View& target, const std::vector<View>& masks,
                    void* loss, const View* grad);

namespace {

const PyramidFormat& format_of(DType dtype) {
    switch (dtype) {
        case DType::float64: return double_pyramids;
        case DType::uint8: return uint8_pyramids;
        case DType::int16: return int16_pyramids;
        case DType::uint16: return uint16_pyramids;
        default: return float_pyramids;
    }
}

}  // namespace

extern const PyramidKernels pyramid_kernels;
const PyramidKernels pyramid_kernels{
    [](const PyramidCall& call, Op op, const View& src, const View* base, double alpha, const View& dst) {
        format_of(call.dtype).apply(call, op, src, base, alpha < 0 ? -1 : 1, dst);
    },
    &apply_tables,
    [](const PyramidCall& call, const View& x, const std::vector<View>& out) {
        format_of(call.dtype).gaussian_pyramid(call, x, out);
    },
    [](const PyramidCall& call, const View& x, const std::vector<View>& out, const std::vector<void*>& work) {
        format_of(call.dtype).laplacian_pyramid(call, x, out, work);
    },
    [](const PyramidCall& call, const std::vector<View>& levels, const View& out, const std::vector<void*>& work) {
        const auto collapse = format_of(call.dtype).collapse;
        if (!collapse) throw std::invalid_argument("pyramid: expected bands of integers to be int16");
        collapse(call, levels, out, work);
    },
    &laplacian_loss,
};

}  // namespace lapcore::LAPCORE_ISA
