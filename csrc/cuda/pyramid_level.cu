// Levels of large images: one launch for a Laplacian level, forward or backward, or for one operator.
#include <algorithm>

#include "cuda/image.h"
#include "cuda/launch.h"
#include "cuda/level.h"
#include "cuda/pyramid_level.h"

namespace lapcore::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kWarpsPerProcessor = 64;

enum Tensors { kFine, kBelow, kLow, kBand, kTensors };

template <class T>
struct Problem {
    Shape shape;
    Split split;
    std::int64_t planes;
    Leading<kTensors> leading;
    LevelImages<T> images;  // of the first plane
};

template <class T, Mode kMode, bool kForward>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 6 : 4)
    level_kernel(const __grid_constant__ Problem<T> problem) {
    __shared__ LevelEnds<Compute<T>> ends;
    const Shape& shape = problem.shape;
    if constexpr (!kForward) {
        ends.fill(shape.height, shape.width, shape.border, threadIdx.x, kThreads);
        __syncthreads();
    }
    const std::int64_t warp = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
    const Job job = job_of<kColumns<T>>(problem.split, problem.planes, warp, threadIdx.x % 32);

    LevelImages<T> images = problem.images;
    problem.leading.walk(job.plane, [&](int d, std::int64_t i) {
        const auto& stride = problem.leading.stride;
        if (images.fine) images.fine.data += i * stride[kFine][d];
        if (images.below) images.below.data += i * stride[kBelow][d];
        if (images.low) images.low.data += i * stride[kLow][d];
        if (images.band) images.band.data += i * stride[kBand][d];
    });
    run_level<T, kMode, kForward>(shape, &ends, job, problem.split.pairs, images);
}

struct Images {
    const View *fine, *below, *low, *band;
};

template <class T, Mode kMode, bool kForward>
void start(const PyramidCall& call, const Images& views, double low_factor, double band_factor) {
    using C = Compute<T>;
    constexpr int V = kColumns<T>;
    const View& fine = views.fine ? *views.fine : *views.band;
    const Shape shape = shape_of(fine, views.below ? *views.below : *views.low, call.border);
    const std::int64_t planes = fine.planes();
    const Split split = split_of(shape, planes, V, std::int64_t{kWarpsPerProcessor} * multiprocessors());
    if (split.jobs == 0) return;
    const Problem<T> problem{shape,
                             split,
                             planes,
                             leading_of<kTensors>({views.fine, views.below, views.low, views.band}),
                             {plane_of<T, const T>(views.fine, V), plane_of<T, const T>(views.below, V / 2),
                              plane_of<T, T>(views.low, V / 2), plane_of<T, T>(views.band, V),
                              static_cast<C>(low_factor), static_cast<C>(band_factor)}};
    const std::int64_t per_block = std::int64_t{kWarps} * split.segments();
    launch(level_kernel<T, kMode, kForward>, (split.jobs + per_block - 1) / per_block, kThreads, call.stream, problem);
}

template <Mode kMode, bool kForward>
bool start(const PyramidCall& call, const Images& views, double low_factor, double band_factor) {
    for (const View* view : {views.fine, views.below, views.low, views.band})
        if (!is_small(view)) return false;
    switch (call.dtype) {
        case DType::float16: start<Half, kMode, kForward>(call, views, low_factor, band_factor); return true;
        case DType::bfloat16: start<BFloat16, kMode, kForward>(call, views, low_factor, band_factor); return true;
        case DType::float32: start<float, kMode, kForward>(call, views, low_factor, band_factor); return true;
        default: return false;
    }
}

}  // namespace

bool stream_operator(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, const View& dst) {
    const bool circular = call.border == Border::circular;
    switch (op) {
        case Op::down: return start<Mode::decimate, true>(call, {&src, base, &dst, nullptr}, base ? alpha : 0, 0);
        case Op::up: return start<Mode::expand, true>(call, {base, &src, nullptr, &dst}, 0, alpha);
        case Op::down_adjoint:
            return !circular && start<Mode::expand, false>(call, {base, &src, nullptr, &dst}, 0, alpha);
        case Op::up_adjoint:
            return !circular && start<Mode::decimate, false>(call, {&src, base, &dst, nullptr}, base ? alpha : 0, 0);
    }
    return false;
}

void laplacian_level(const PyramidCall& call, const View& fine, const View& low, const View& band) {
    // The line that a circular border continues has the period of the image only where its sides are even.
    if (call.border != Border::circular || is_even(fine)) {
        if (start<Mode::level, true>(call, {&fine, nullptr, &low, &band}, 0, -1)) return;
    }
    pyramid_apply(call, Op::down, fine, nullptr, 1, low);
    pyramid_apply(call, Op::up, low, &fine, -1, band);
}

void laplacian_level_adjoint(const PyramidCall& call, const View& grad, const View& below, const View& work,
                             const View& total) {
    if (call.border != Border::circular && start<Mode::level, false>(call, {&grad, &below, nullptr, &total}, -1, 1)) {
        return;
    }
    pyramid_apply(call, Op::up_adjoint, grad, &below, -1, work);
    pyramid_apply(call, Op::down_adjoint, work, &grad, 1, total);
}

}  // namespace lapcore::cuda
