// One pyramid operator on a GPU: separable, one tile of outputs at a time, for every dtype, stride and border.
//
// A block combines source rows into lines of shared memory, one for each row of its tile, then the samples of each line
// into outputs. The order of the sums does not depend on the tile, the batch or the card (axis.h).
#include "cuda/axis.h"
#include "cuda/element.h"
#include "cuda/image.h"
#include "cuda/launch.h"
#include "cuda/pyramid.h"

namespace lapcore::cuda {
namespace {

constexpr int kTileW = 32, kTileH = 8, kThreads = 128;
constexpr int kResident = 8;  // blocks that a multiprocessor holds at once, at the least
constexpr int kWaves = 4;  // times that the blocks of a large launch fill the card; each takes tiles until none is left

enum Tensors { kSrc, kBase, kDst, kTensors };

// T of the source, D of the result.
template <class T, class D>
struct Problem {
    Axis<Sum<T>> rows, columns;
    Leading<kTensors> leading;
    std::int64_t tiles;
    Image<const T> src, base;  // of the first plane, as is dst; base may be empty
    Image<D> dst;
    Sum<T> alpha;
};

// Sample x of the line that output row y is made of.
template <bool kDecimates, class T>
__device__ Sum<T> line_sample(const Axis<Sum<T>>& rows, const Image<const T>& src, std::int64_t y, std::int64_t x) {
    const auto sample = [&](std::int64_t row) { return loaded(*src.at(row, x)); };
    if (rows.inside.has(y)) return inner_sum<kDecimates>(rows.unit, y, sample);
    return paired_sum(rows.end(y), sample);
}

// Integers are sums of unnormalised weights, 256 of them down and 64 up: rounded once, half up.
template <class T, bool kDecimates>
__device__ Sum<T> finished(Sum<T> sum) {
    if constexpr (std::is_integral_v<T>) {
        constexpr int kShift = kDecimates ? 8 : 6;
        return saturated<T>((sum + (1 << (kShift - 1))) >> kShift);
    } else {
        return sum;
    }
}

template <class T, class D, bool kDecimates>
__global__ void __launch_bounds__(kThreads, kResident) pyramid_kernel(const __grid_constant__ Problem<T, D> problem) {
    using C = Sum<T>;
    // What the inner outputs of a tile read of a line.
    constexpr int kSpan = kDecimates ? 2 * kTileW + 3 : kTileW / 2 + 2;
    __shared__ C line[kTileH][kSpan];

    const Axis<C>&rows = problem.rows, &columns = problem.columns;
    const std::int64_t tiles_w = (columns.n_dst + kTileW - 1) / kTileW, tiles_h = (rows.n_dst + kTileH - 1) / kTileH;
    for (std::int64_t tile = blockIdx.x; tile < problem.tiles; tile += gridDim.x) {
        const std::int64_t plane = tile / tiles_w / tiles_h;
        const std::int64_t top = tile / tiles_w % tiles_h * kTileH, left = tile % tiles_w * kTileW;
        const std::int64_t first = kDecimates ? 2 * left - 2 : left / 2 - 1;

        Image<const T> src = problem.src, base = problem.base;
        Image<D> dst = problem.dst;
        problem.leading.walk(plane, [&](int d, std::int64_t i) {
            src.data += i * problem.leading.stride[kSrc][d];
            if (base) base.data += i * problem.leading.stride[kBase][d];
            dst.data += i * problem.leading.stride[kDst][d];
        });

#pragma unroll 1
        for (int e = threadIdx.x; e < kTileH * kSpan; e += kThreads) {
            const int r = e / kSpan, s = e % kSpan;
            const std::int64_t y = top + r, x = columns.padded(first + s);
            line[r][s] = y < rows.n_dst && x != kOutside ? line_sample<kDecimates>(rows, src, y, x) : C(0);
        }
        __syncthreads();

#pragma unroll 1
        for (int e = threadIdx.x; e < kTileH * kTileW; e += kThreads) {
            const int r = e / kTileW;
            const std::int64_t y = top + r, x = left + e % kTileW;
            if (y >= rows.n_dst || x >= columns.n_dst) continue;
            C sum;
            if (columns.inside.has(x)) {
                sum = inner_sum<kDecimates>(columns.unit, x, [&](std::int64_t j) { return line[r][j - first]; });
            } else {
                // The transpose of a circular border reads the far end of the line, which another tile has.
                sum = plain_sum(columns.end(x), [&](std::int64_t j) {
                    const bool here = j >= first && j < first + kSpan;
                    return here ? line[r][j - first] : line_sample<kDecimates>(rows, src, y, j);
                });
            }
            C value = finished<T, kDecimates>(sum);
            if (base) value = loaded(*base.at(y, x)) + problem.alpha * value;
            *dst.at(y, x) = stored<D>(value);
        }
        __syncthreads();
    }
}

template <class T, class D = T>
void apply(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, const View& dst) {
    using C = Sum<T>;
    const std::int64_t height = dst.height(), width = dst.width();
    const std::int64_t tiles = src.planes() * ((height + kTileH - 1) / kTileH) * ((width + kTileW - 1) / kTileW);
    if (tiles == 0) return;
    const Problem<T, D> problem{axis_of<C>(op, src.height(), height, call.border),
                                padded_axis_of<C>(op, src.width(), width, call.border),
                                leading_of<kTensors>({&src, base, &dst}),
                                tiles,
                                image_of<const T>(&src),
                                image_of<const T>(base),
                                image_of<D>(&dst),
                                static_cast<C>(alpha)};
    const std::int64_t blocks = std::min(tiles, std::int64_t{kWaves} * kResident * multiprocessors());
    launch(decimates(op) ? pyramid_kernel<T, D, true> : pyramid_kernel<T, D, false>, blocks, kThreads, call.stream,
           problem);
}

}  // namespace

void pyramid_apply(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, const View& dst) {
    if (call.dtype >= DType::uint8 && !is_forward(op)) throw std::invalid_argument("op: integers have no adjoints");
    switch (call.dtype) {
        case DType::float16: return apply<Half>(call, op, src, base, alpha, dst);
        case DType::bfloat16: return apply<BFloat16>(call, op, src, base, alpha, dst);
        case DType::float32: return apply<float>(call, op, src, base, alpha, dst);
        case DType::float64: return apply<double>(call, op, src, base, alpha, dst);
        case DType::uint8:
            if (base) return apply<std::uint8_t, std::int16_t>(call, op, src, base, alpha, dst);
            return apply<std::uint8_t>(call, op, src, base, alpha, dst);
        case DType::int16: return apply<std::int16_t>(call, op, src, base, alpha, dst);
        case DType::uint16:
            if (base) throw std::invalid_argument("base: not with uint16");
            return apply<std::uint16_t>(call, op, src, base, alpha, dst);
    }
}

}  // namespace lapcore::cuda
