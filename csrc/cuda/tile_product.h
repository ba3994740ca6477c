// The product of the rows of two matrices, rows . columns^T, one tile of 128 x 128 at a time (64 x 64 in float64), for
// kernels that reduce a tile as soon as they have it: the whole product is never stored.
//
// A block of 16 x 16 threads holds a tile's sums in registers, 8 x 8 (4 x 4) a thread, and passes through the depth in
// slices of 8 that lie in shared memory twice, so that one is read while the next arrives. Each sum is one chain of
// fused multiply-adds in the order of the depth, whatever the batch. float32 throughout: tensor cores would round the
// inputs to 11 bits, and the distances made of these sums cancel.
//
// What bounds it is the rate of multiply-adds: a thread reads 16 values from shared memory for 64 of them, and a block
// 256 from memory for 16384, a fraction of what L1 and L2 deliver.
#pragma once

#include <cstdint>

#include "common/view.h"
#include "cuda/register_tile.h"

namespace lapcore::cuda {

// Rows of values that are next to each other in memory.
template <class T>
struct Matrix {
    const T* data;
    std::int64_t rows, stride;

    // Whether each row can be read 16 bytes at a time.
    bool packed() const {
        return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % std::int64_t(16 / sizeof(T)) == 0;
    }
};

template <class T>
Matrix<T> matrix_of(const View& view) {
    return {static_cast<const T*>(view.data), view.height(), view.row_stride()};
}

template <class T>
constexpr int kTileSide = kTileLanes * kThreadSide<T>;

template <class T>
std::int64_t tiles_of(std::int64_t lines) {
    return (lines + kTileSide<T> - 1) / kTileSide<T>;
}

// Runs of tiles of columns, which blocks of their own go through. The number of columns alone determines them, and so
// the order in which all columns of a row are taken.
struct Parts {
    int tiles, tiles_per_part, count;

    template <class T>
    static Parts of(std::int64_t columns) {
        constexpr int kMost = 32;  // what is kept of each row and part is to be little
        const int tiles = static_cast<int>(tiles_of<T>(columns)), each = (tiles + kMost - 1) / kMost;
        return {tiles, each, (tiles + each - 1) / each};
    }
};

// One block's tile of rows and its run of tiles of columns: blocks next to each other share the columns.
struct TileJob {
    int row, first, end, part;

    __device__ TileJob(const Parts& parts, int rows) {
        row = static_cast<int>(blockIdx.x) % rows;
        part = static_cast<int>(blockIdx.x) / rows;
        first = part * parts.tiles_per_part;
        end = first + parts.tiles_per_part < parts.tiles ? first + parts.tiles_per_part : parts.tiles;
    }
};

template <class T>
class TileProduct {
public:
    using S = Sum<T>;
    static constexpr int kSide = kTileSide<T>, kMine = kThreadSide<T>, kDepth = kTileDepth;

    // Slices of the depth, transposed. The padding spreads what a warp stores over the banks.
    struct Memory {
        alignas(16) S values[2][2][kDepth][kSide + 16 / sizeof(S)];
    };

    __device__ TileProduct(Memory& memory, const Matrix<T>& rows, const Matrix<T>& columns, int depth, bool packed)
        : memory_(memory), rows_(rows), columns_(columns), depth_(depth), packed_(packed) {}

    // Of a thread's rows and columns, the i-th's place in the tile.
    __device__ static int place(int lane, int i) { return place_in_tile<kMine>(lane, i); }

    // A tile, by the numbers of its tile of rows and of columns. Beyond the last row or column it means nothing.
    __device__ void multiply(int row, int column, S (&sum)[kMine][kMine]) {
        const T* from[kFetches];
        Pack<T, kVector> packs[kFetches];
#pragma unroll
        for (int f = 0; f < kFetches; ++f) {
            const Place p = fetched(f);
            const Matrix<T>& matrix = p.side ? columns_ : rows_;
            const std::int64_t line = std::int64_t{p.side ? column : row} * kSide + p.line, last = matrix.rows - 1;
            from[f] = matrix.data + (line < last ? line : last) * matrix.stride + p.depth;
        }
#pragma unroll
        for (int i = 0; i < kMine; ++i)
#pragma unroll
            for (int j = 0; j < kMine; ++j) sum[i][j] = 0;
        fetch(from, depth_, packs);
        store(packs, 0);
        __syncthreads();
#pragma unroll 1
        for (int left = depth_, slice = 0; left > 0; left -= kDepth, slice ^= 1) {
            const bool more = left > kDepth;
            if (more) {
#pragma unroll
                for (int f = 0; f < kFetches; ++f) from[f] += kDepth;
                fetch(from, left - kDepth, packs);
            }
            accumulate(memory_.values[slice][0], memory_.values[slice][1], sum);
            if (more) store(packs, slice ^ 1);
            __syncthreads();
        }
    }

private:
    static constexpr int kVector = 16 / sizeof(T);
    static constexpr int kPacksPerLine = kDepth / kVector, kPacks = kSide * kPacksPerLine;
    static constexpr int kFetches = 2 * kPacks / kTileThreads;
    static_assert(2 * kPacks % kTileThreads == 0);

    // What a thread's f-th fetch is of: side 0 the rows, 1 the columns.
    struct Place {
        int side, line, depth;
    };
    __device__ static Place fetched(int f) {
        const int p = threadIdx.x + f * kTileThreads, inside = p % kPacks;
        return {p / kPacks, inside / kPacksPerLine, inside % kPacksPerLine * kVector};
    }

    // left: how much of the depth there is from this slice on; zeros beyond it.
    __device__ void fetch(const T* const (&from)[kFetches], int left, Pack<T, kVector> (&packs)[kFetches]) const {
#pragma unroll
        for (int f = 0; f < kFetches; ++f) {
            const int count = left - fetched(f).depth;
            if (packed_ && count >= kVector) {
                packs[f] = *reinterpret_cast<const Pack<T, kVector>*>(from[f]);
            } else {
#pragma unroll
                for (int c = 0; c < kVector; ++c) packs[f].e[c] = c < count ? from[f][c] : T{};
            }
        }
    }

    __device__ void store(const Pack<T, kVector> (&packs)[kFetches], int slice) {
#pragma unroll
        for (int f = 0; f < kFetches; ++f) {
            const Place p = fetched(f);
#pragma unroll
            for (int c = 0; c < kVector; ++c)
                memory_.values[slice][p.side][p.depth + c][p.line] = loaded(packs[f].e[c]);
        }
    }

    Memory& memory_;
    const Matrix<T>&rows_, &columns_;
    const int depth_;
    const bool packed_;
};

// |row|^2 / 2, the chain that a product of the row with itself is. Infinite where it is beyond the numbers, NaN only of
// a NaN.
template <class T>
struct HalfNorms {
    Matrix<T> matrix;
    int depth;
    Sum<T>* norms;
};

template <class T>
__global__ void __launch_bounds__(kTileThreads) half_norms_kernel(const __grid_constant__ HalfNorms<T> problem) {
    const std::int64_t row = std::int64_t{blockIdx.x} * kTileThreads + threadIdx.x;
    if (row >= problem.matrix.rows) return;
    const T* values = problem.matrix.data + row * problem.matrix.stride;
    Sum<T> norm = 0;
#pragma unroll 8
    for (int k = 0; k < problem.depth; ++k) {
        const Sum<T> value = loaded(values[k]);
        norm = multiply_add(value, value, norm);
    }
    problem.norms[row] = norm / 2;
}

}  // namespace lapcore::cuda
