// The nearest code of each row: a running minimum over tiles of the product with the codebook, then over the parts of
// the codebook that blocks went through. A thread's minima lie in shared memory, for the product takes the registers.

#include "common/floats.h"
#include "cuda/launch.h"
#include "cuda/tile_product.h"
#include "cuda/vector_quantize.h"

namespace lapcore::cuda {
namespace {

template <class T>
struct Problem {
    Matrix<T> rows, codes, quantized;
    int depth, row_tiles;
    bool packed;
    Parts parts;
    std::int64_t* indices;
    Sum<T>*norms, *scores;  // of the codes; the least of each part and row
    std::int32_t* found;    // where that is

    // Infinite where there is no code, or none that is finite: no score is then less than another.
    __device__ Sum<T> norm_of(std::int64_t code) const {
        const Sum<T> infinity = HUGE_VALF, norm = code < codes.rows ? norms[code] : infinity;
        return norm < infinity ? norm : infinity;
    }
};

template <class S>
struct Nearest {
    S score = HUGE_VALF;
    std::int32_t index = 0;

    __device__ void take(S other, std::int32_t at) {
        if (!(other < score)) return;
        score = other;
        index = at;
    }
};

// The nearest over the lanes that share a row; all of them have it.
template <class S>
__device__ Nearest<S> nearest_of_lanes(Nearest<S> mine) {
#pragma unroll
    for (int d = kTileLanes / 2; d > 0; d /= 2) {
        const S score = __shfl_xor_sync(kWarp, mine.score, d);
        const std::int32_t index = __shfl_xor_sync(kWarp, mine.index, d);
        const bool closer = score < mine.score || (score == mine.score && index < mine.index);
        mine.score = closer ? score : mine.score;
        mine.index = closer ? index : mine.index;
    }
    return mine;
}

// What each thread alone writes and reads.
template <class S, int kMine>
struct Kept {
    S score[kMine][kTileThreads];
    std::int32_t index[kMine][kTileThreads];
};

template <class S, int kMine>
__device__ void keep(Kept<S, kMine>& kept, int i, const Nearest<S>& nearest) {
    kept.score[i][threadIdx.x] = nearest.score;
    kept.index[i][threadIdx.x] = nearest.index;
}

template <class S, int kMine>
__device__ Nearest<S> kept_of(const Kept<S, kMine>& kept, int i) {
    return {kept.score[i][threadIdx.x], kept.index[i][threadIdx.x]};
}

template <class T>
__global__ void __launch_bounds__(kTileThreads, 2) nearest_kernel(const __grid_constant__ Problem<T> problem) {
    using S = Sum<T>;
    using Product = TileProduct<T>;
    constexpr int kMine = Product::kMine;
    __shared__ typename Product::Memory memory;
    __shared__ Kept<S, kMine> kept;
    const TileJob job(problem.parts, problem.row_tiles);
    const int across = threadIdx.x % kTileLanes, down = threadIdx.x / kTileLanes;
    Product product(memory, problem.rows, problem.codes, problem.depth, problem.packed);
#pragma unroll
    for (int i = 0; i < kMine; ++i) keep(kept, i, {});
#pragma unroll 1
    for (int tile = job.first; tile < job.end; ++tile) {
        S sum[kMine][kMine];
        product.multiply(job.row, tile, sum);
        const std::int64_t code = std::int64_t{tile} * Product::kSide;
        S norm[kMine];
#pragma unroll
        for (int j = 0; j < kMine; ++j) norm[j] = problem.norm_of(code + Product::place(across, j));
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
            Nearest<S> nearest = kept_of(kept, i);
#pragma unroll
            for (int j = 0; j < kMine; ++j) {
                nearest.take(norm[j] - sum[i][j], static_cast<std::int32_t>(code) + Product::place(across, j));
            }
            keep(kept, i, nearest);
        }
    }
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
        const Nearest<S> all = nearest_of_lanes(kept_of(kept, i));
        const std::int64_t row = std::int64_t{job.row} * Product::kSide + Product::place(down, i);
        if (across != 0 || row >= problem.rows.rows) continue;
        problem.scores[job.part * problem.rows.rows + row] = all.score;
        problem.found[job.part * problem.rows.rows + row] = all.index;
    }
}

// A warp for each row: the nearest over the parts in their order, and its code.
template <class T>
__global__ void __launch_bounds__(kTileThreads) gather_kernel(const __grid_constant__ Problem<T> problem) {
    const std::int64_t rows = problem.rows.rows;
    const std::int64_t row = std::int64_t{blockIdx.x} * (kTileThreads / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    Nearest<Sum<T>> nearest;
#pragma unroll 4
    for (int part = 0; part < problem.parts.count; ++part) {
        nearest.take(problem.scores[part * rows + row], problem.found[part * rows + row]);
    }
    const int lane = threadIdx.x % 32;
    if (lane == 0) problem.indices[row] = nearest.index;
    const T* code = problem.codes.data + nearest.index * problem.codes.stride;
    T* quantized = const_cast<T*>(problem.quantized.data) + row * problem.quantized.stride;
#pragma unroll 1
    for (int k = lane; k < problem.depth; k += 32) quantized[k] = code[k];
}

template <class T>
std::int64_t bytes_of_work(std::int64_t rows, std::int64_t codes) {
    const std::int64_t parts = Parts::of<T>(codes).count;
    return sizeof(Sum<T>) * (codes + parts * rows) + sizeof(std::int32_t) * parts * rows;
}

template <class T>
void quantize(void* stream, const View& z, const View& codebook, const View& out, std::int64_t* indices, void* work) {
    const Matrix<T> rows = matrix_of<T>(z), codes = matrix_of<T>(codebook);
    const Parts parts = Parts::of<T>(codes.rows);
    const int depth = static_cast<int>(z.width());
    auto* const norms = static_cast<Sum<T>*>(work);
    auto* const scores = norms + codes.rows;
    auto* const found = reinterpret_cast<std::int32_t*>(scores + parts.count * rows.rows);
    const Problem<T> problem{rows,
                             codes,
                             matrix_of<T>(out),
                             depth,
                             static_cast<int>(tiles_of<T>(rows.rows)),
                             rows.packed() && codes.packed(),
                             parts,
                             indices,
                             norms,
                             scores,
                             found};
    const HalfNorms<T> half{codes, depth, norms};
    launch(half_norms_kernel<T>, (codes.rows + kTileThreads - 1) / kTileThreads, kTileThreads, stream, half);
    launch(nearest_kernel<T>, std::int64_t{problem.row_tiles} * parts.count, kTileThreads, stream, problem);
    constexpr int kRows = kTileThreads / 32;
    launch(gather_kernel<T>, (rows.rows + kRows - 1) / kRows, kTileThreads, stream, problem);
}

}  // namespace

std::int64_t vector_quantize_work(DType dtype, std::int64_t rows, std::int64_t codes) {
    return with_float(dtype, [&](auto t) { return bytes_of_work<decltype(t)>(rows, codes); });
}

void vector_quantize(DType dtype, void* stream, const View& z, const View& codebook, const View& quantized,
                     std::int64_t* indices, void* work) {
    with_float(dtype, [&](auto t) { quantize<decltype(t)>(stream, z, codebook, quantized, indices, work); });
}

}  // namespace lapcore::cuda
