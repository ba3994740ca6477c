// A pyramid operator whose taps come as tables, for filters other than binomial: separable, one tile of outputs at a
// time. Sums run over the taps in their order, along the columns and then along the row.
#include <algorithm>

#include "cuda/element.h"
#include "cuda/image.h"
#include "cuda/launch.h"
#include "cuda/pyramid.h"

namespace lapcore::cuda {
namespace {

constexpr int kTileW = 32, kTileH = 8, kThreads = 128, kResident = 8, kWaves = 4;
constexpr int kSpan = 2 * kTileW + 8;  // samples of a line kept for a tile: all it reads, up to a ratio of two

enum Tensors { kSrc, kBase, kDst, kTensors };

template <class C>
struct Table {
    const std::int64_t* index;
    const C* weight;
    std::int64_t count, n_src, n_dst;

    // The sum over the taps of output i.
    template <class Sample>
    __device__ C sum(std::int64_t i, const Sample& sample) const {
        C total = 0;
#pragma unroll 1
        for (std::int64_t k = 0; k < count; ++k) {
            const std::int64_t j = index[k * n_dst + i];
            if (j < n_src) total += sample(j) * weight[k * n_dst + i];
        }
        return total;
    }

    // The first sample that output i reads.
    __device__ std::int64_t first(std::int64_t i) const {
        std::int64_t least = n_src;
#pragma unroll 1
        for (std::int64_t k = 0; k < count; ++k) least = min(least, index[k * n_dst + i]);
        return least;
    }

    // One past the last sample that output i reads.
    __device__ std::int64_t last(std::int64_t i) const {
        std::int64_t most = 0;
#pragma unroll 1
        for (std::int64_t k = 0; k < count; ++k) {
            const std::int64_t j = index[k * n_dst + i];
            if (j < n_src) most = max(most, j + 1);
        }
        return most;
    }
};

template <class T>
struct Problem {
    Table<Sum<T>> rows, columns;
    Leading<kTensors> leading;
    std::int64_t tiles;
    Image<const T> src, base;  // of the first plane, as is dst; base may be empty
    Image<T> dst;
    Sum<T> alpha;
};

template <class T>
__global__ void __launch_bounds__(kThreads, kResident) table_kernel(const __grid_constant__ Problem<T> problem) {
    using C = Sum<T>;
    __shared__ C line[kTileH][kSpan];

    const Table<C>&rows = problem.rows, &columns = problem.columns;
    const std::int64_t tiles_w = (columns.n_dst + kTileW - 1) / kTileW, tiles_h = (rows.n_dst + kTileH - 1) / kTileH;
    for (std::int64_t tile = blockIdx.x; tile < problem.tiles; tile += gridDim.x) {
        const std::int64_t plane = tile / tiles_w / tiles_h;
        const std::int64_t top = tile / tiles_w % tiles_h * kTileH, left = tile % tiles_w * kTileW;

        Image<const T> src = problem.src, base = problem.base;
        Image<T> dst = problem.dst;
        problem.leading.walk(plane, [&](int d, std::int64_t i) {
            src.data += i * problem.leading.stride[kSrc][d];
            if (base) base.data += i * problem.leading.stride[kBase][d];
            dst.data += i * problem.leading.stride[kDst][d];
        });
        const auto line_sample = [&](std::int64_t y, std::int64_t x) {
            return rows.sum(y, [&](std::int64_t row) { return loaded(*src.at(row, x)); });
        };

        // What lies outside, as the far end of a circular border does, is summed when it is asked for.
        const std::int64_t first = columns.first(left);
        const std::int64_t end = columns.last(min(left + kTileW, columns.n_dst) - 1);
        const int span = static_cast<int>(max(std::int64_t{0}, min(end - first, std::int64_t{kSpan})));
        const int height = static_cast<int>(min(rows.n_dst - top, std::int64_t{kTileH}));
#pragma unroll 1
        for (int e = threadIdx.x; e < height * span; e += kThreads) {
            line[e / span][e % span] = line_sample(top + e / span, first + e % span);
        }
        __syncthreads();

#pragma unroll 1
        for (int e = threadIdx.x; e < height * kTileW; e += kThreads) {
            const int r = e / kTileW;
            const std::int64_t y = top + r, x = left + e % kTileW;
            if (x >= columns.n_dst) continue;
            C value = columns.sum(x, [&](std::int64_t j) {
                return j >= first && j < first + span ? line[r][j - first] : line_sample(y, j);
            });
            if (base) value = loaded(*base.at(y, x)) + problem.alpha * value;
            *dst.at(y, x) = stored<T>(value);
        }
        __syncthreads();
    }
}

template <class C>
Table<C> table_of(const TapTable& taps, std::int64_t n_src, std::int64_t n_dst) {
    return {taps.index, static_cast<const C*>(taps.weight), taps.count, n_src, n_dst};
}

template <class T>
void apply(const PyramidCall& call, const TapTable& rows, const TapTable& columns, const View& src, const View* base,
           double alpha, const View& dst) {
    using C = Sum<T>;
    const std::int64_t height = dst.height(), width = dst.width();
    const std::int64_t tiles = src.planes() * ((height + kTileH - 1) / kTileH) * ((width + kTileW - 1) / kTileW);
    if (tiles == 0) return;
    const Problem<T> problem{table_of<C>(rows, src.height(), height),
                             table_of<C>(columns, src.width(), width),
                             leading_of<kTensors>({&src, base, &dst}),
                             tiles,
                             image_of<const T>(&src),
                             image_of<const T>(base),
                             image_of<T>(&dst),
                             static_cast<C>(alpha)};
    const std::int64_t blocks = std::min(tiles, std::int64_t{kWaves} * kResident * multiprocessors());
    launch(table_kernel<T>, blocks, kThreads, call.stream, problem);
}

}  // namespace

void pyramid_apply_table(const PyramidCall& call, const TapTable& rows, const TapTable& columns, const View& src,
                         const View* base, double alpha, const View& dst) {
    switch (call.dtype) {
        case DType::float16: return apply<Half>(call, rows, columns, src, base, alpha, dst);
        case DType::bfloat16: return apply<BFloat16>(call, rows, columns, src, base, alpha, dst);
        case DType::float32: return apply<float>(call, rows, columns, src, base, alpha, dst);
        case DType::float64: return apply<double>(call, rows, columns, src, base, alpha, dst);
        default: throw std::invalid_argument("dtype: integers have the binomial filter only");
    }
}

}  // namespace lapcore::cuda
