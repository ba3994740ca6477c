// Whole pyramids of small images in one launch: a block takes a few planes and makes one level after the other, those
// between in shared memory, so that every sample of the input and of the results moves once.
#include <algorithm>

#include "cuda/image.h"
#include "cuda/launch.h"
#include "cuda/level.h"
#include "cuda/pyramid_plane.h"

namespace lapcore::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kMaxLevels = 8;
// Blocks that a multiprocessor holds at once, at the least: as many as leave registers enough.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
template <class T>
constexpr int kResident = sizeof(T) == 4 ? 4 : 3;
#else
template <class T>
constexpr int kResident = sizeof(T) == 4 ? 5 : 4;
#endif
constexpr int kPairs = 16;  // low rows that a warp makes of a strip, as a rule
constexpr std::int64_t kShared = 96 * 1024;
constexpr std::int64_t kTiny =
    64 * 64;  // samples of a plane that one block makes in less time than a second launch takes

LAPCORE_HD constexpr bool is_forward(Chain chain) {
    return chain == Chain::laplacian || chain == Chain::collapse || chain == Chain::gaussian;
}

LAPCORE_HD constexpr bool goes_up(Chain chain) { return chain == Chain::collapse || chain == Chain::laplacian_adjoint; }

LAPCORE_HD constexpr Mode mode_of(Chain chain) {
    if (chain == Chain::collapse) return Mode::expand;
    return chain == Chain::laplacian || chain == Chain::laplacian_adjoint ? Mode::level : Mode::decimate;
}

template <class T>
struct PlaneLevel {
    Shape shape;
    Split split;         // of a block's planes
    Plane<T> image;      // of the first plane: h_l or g_l
    int offset, stride;  // of the level's image between, in a plane's share of the shared memory; its row stride
};

template <class T>
struct Problem {
    PlaneLevel<T> level[kMaxLevels];
    Plane<T> image, coarsest;  // what the chain begins or ends with; its last level
    Leading<kMaxLevels + 2> leading;
    std::int64_t planes;
    int levels, planes_per_block, plane_bytes;
};

template <class T>
__device__ Plane<const T> read_only(const Plane<T>& plane) {
    return {plane.data, plane.row_stride, plane.column_stride, plane.packed};
}

template <class T, Chain kChain>
__global__ void __launch_bounds__(kThreads, kResident<T>) plane_kernel(const __grid_constant__ Problem<T> problem) {
    constexpr bool kForward = is_forward(kChain);
    constexpr Mode kMode = mode_of(kChain);
    constexpr int V = kColumns<T>;
    __shared__ LevelEnds<Compute<T>> ends;
    unsigned char* shared = dynamic_shared();
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, levels = problem.levels;
    const std::int64_t first_plane = std::int64_t{blockIdx.x} * problem.planes_per_block;
    const std::int64_t here = min(std::int64_t{problem.planes_per_block}, problem.planes - first_plane);

#pragma unroll 1
    for (int step = 0; step < levels; ++step) {
        const int l = goes_up(kChain) ? levels - 1 - step : step;
        const PlaneLevel<T>& level = problem.level[l];
        const Shape& shape = level.shape;
        if (step > 0) __syncthreads();  // the level before is made
        if constexpr (!kForward) {
            ends.fill(shape.height, shape.width, shape.border, threadIdx.x, kThreads);
            __syncthreads();
        }
#pragma unroll 1
        for (std::int64_t w = warp; w * level.split.segments() < level.split.jobs; w += kWarps) {
            Job job = job_of<V>(level.split, problem.planes_per_block, w, lane);
            if (job.plane >= here) job = {0, -4 * V, 0, false, false};

            Plane<T> at_level = level.image, image = problem.image, coarsest = problem.coarsest;
            Plane<T> next = l + 1 < levels ? problem.level[l + 1].image : coarsest;
            problem.leading.walk(first_plane + job.plane, [&](int d, std::int64_t i) {
                const auto& stride = problem.leading.stride;
                at_level.data += i * stride[l][d];
                next.data += i * stride[l + 1][d];
                coarsest.data += i * stride[levels][d];
                image.data += i * stride[kMaxLevels + 1][d];
            });
            unsigned char* mine = shared + job.plane * problem.plane_bytes;
            const auto between = [&](int of, int width, int columns) -> Plane<T> {
                const PlaneLevel<T>& kept = problem.level[of];
                return {reinterpret_cast<T*>(mine + kept.offset), kept.stride, 1, width % columns == 0};
            };
            const auto fine_between = [&] { return between(l, shape.width.fine, V); };
            const auto low_between = [&] { return between(l + 1, shape.width.low, V / 2); };

            LevelImages<T> images{};
            images.low_factor = kChain == Chain::laplacian_adjoint ? -1 : 0;
            images.band_factor = kChain == Chain::laplacian ? -1 : 1;
            if constexpr (kChain == Chain::laplacian) {
                images.fine = read_only(l == 0 ? image : fine_between());
                images.low = l + 1 < levels ? low_between() : coarsest;
                images.band = at_level;
            } else if constexpr (kMode == Mode::decimate) {
                images.fine = read_only(at_level);
                images.low = next;
            } else {
                images.fine = read_only(at_level);
                images.below = read_only(l + 1 < levels ? low_between() : coarsest);
                images.band = l == 0 ? image : fine_between();
            }
            run_level<T, kMode, kForward>(shape, &ends, job, level.split.pairs, images);
        }
    }
}

template <class T, Chain kChain>
bool start(const PyramidCall& call, const View& image, const Views& views) {
    constexpr int V = kColumns<T>;
    const int levels = static_cast<int>(views.size()) - 1;
    Problem<T> problem{};
    problem.planes = image.planes();
    problem.levels = levels;
    const View* tensors[kMaxLevels + 2] = {};
    for (int l = 0; l <= levels; ++l) tensors[l] = &views[l];
    tensors[kMaxLevels + 1] = &image;

    // Levels 1 .. levels - 1, each row aligned to a Pack; chains of decimations read back what they have written
    // instead.
    constexpr bool kKeeps = mode_of(kChain) != Mode::decimate;
    std::int64_t bytes = 0;
    for (int l = 1; l < std::max(levels, 2); ++l) {
        const std::int64_t stride = (views[l].width() + V - 1) / V * V;
        if (l < levels) {
            problem.level[l].offset = static_cast<int>(bytes);
            problem.level[l].stride = static_cast<int>(stride);
        }
        bytes += views[l].height() * stride * static_cast<std::int64_t>(sizeof(T));
        if (bytes > kShared) return false;
    }
    if (!kKeeps || levels == 1) bytes = 0;
    problem.plane_bytes = static_cast<int>(bytes);

    const std::int64_t processors = multiprocessors();
    if (problem.planes < processors && image.height() * image.width() > kTiny) return false;

    // As many planes to a block as give each of its warps something to do on the finest level, and leave no processor
    // idle.
    const Shape finest = shape_of(views[0], views[1], call.border);
    const Split one = split_of(finest, 1, V, (finest.height.low + kPairs - 1) / kPairs);
    std::int64_t per_block = (std::int64_t{kWarps} * one.segments() + one.jobs - 1) / one.jobs;
    per_block = std::min(per_block, (problem.planes + processors - 1) / processors);
    if (bytes > 0) per_block = std::min(per_block, kShared / bytes);
    per_block = std::max<std::int64_t>(per_block, 1);
    problem.planes_per_block = static_cast<int>(per_block);

    for (int l = 0; l < levels; ++l) {
        PlaneLevel<T>& level = problem.level[l];
        level.shape = shape_of(views[l], views[l + 1], call.border);
        level.split = split_of(level.shape, per_block, V, kWarps);
        level.image = plane_of<T, T>(&views[l], V);
    }
    problem.image = plane_of<T, T>(&image, V);
    problem.coarsest = plane_of<T, T>(&views[levels], V / 2);
    problem.leading = leading_of<kMaxLevels + 2>(tensors);
    const std::int64_t blocks = (problem.planes + per_block - 1) / per_block;
    if (blocks > 0) {
        launch_with_shared(plane_kernel<T, kChain>, blocks, kThreads, static_cast<std::size_t>(bytes * per_block),
                           call.stream, problem);
    }
    return true;
}

template <class T>
bool start(const PyramidCall& call, Chain chain, const View& image, const Views& views) {
    switch (chain) {
        case Chain::laplacian: return start<T, Chain::laplacian>(call, image, views);
        case Chain::collapse: return start<T, Chain::collapse>(call, image, views);
        case Chain::laplacian_adjoint: return start<T, Chain::laplacian_adjoint>(call, image, views);
        case Chain::gaussian: return start<T, Chain::gaussian>(call, image, views);
        case Chain::collapse_adjoint: return start<T, Chain::collapse_adjoint>(call, image, views);
    }
    return false;
}

}  // namespace

bool plane_chain(const PyramidCall& call, Chain chain, const View& image, const Views& levels) {
    if (levels.size() < 2 || levels.size() > kMaxLevels + 1 || !is_small(&image)) return false;
    for (const View& view : levels)
        if (!is_small(&view)) return false;
    if (call.border == Border::circular) {
        // As for single levels (pyramid_level.cu).
        if (!is_forward(chain)) return false;
        for (std::size_t l = 0; l + 1 < levels.size() && chain == Chain::laplacian; ++l)
            if (!is_even(levels[l])) return false;
    }
    switch (call.dtype) {
        case DType::float16: return start<Half>(call, chain, image, levels);
        case DType::bfloat16: return start<BFloat16>(call, chain, image, levels);
        case DType::float32: return start<float>(call, chain, image, levels);
        default: return false;
    }
}

}  // namespace lapcore::cuda
