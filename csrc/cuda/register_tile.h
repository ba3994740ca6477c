// A tile of sums in the registers of a block of 16 x 16 threads, M x N of them a thread, to which slices of two
// operands are added that lie in shared memory, the depth first. Each sum is one chain of fused multiply-adds in the
// order of the depth.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "cuda/element.h"
#include "cuda/rows.h"

namespace lapcore::cuda {

__device__ inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double multiply_add(double a, double b, double c) { return fma(a, b, c); }

constexpr int kTileThreads = 256;
constexpr int kTileLanes = 16;  // threads that share a row of a tile: half a warp
constexpr int kTileDepth = 8;   // of a slice

template <class T>
constexpr int kThreadSide = sizeof(Sum<T>) == 8 ? 4 : 8;

// Of the M lines of a thread, the i-th's place in the tile; lane: threadIdx.x / 16 for rows, % 16 for columns.
template <int M>
__device__ int place_in_tile(int lane, int i) {
    return i / (M / 2) * (kTileLanes * M / 2) + lane * (M / 2) + i % (M / 2);
}

// A thread's lines at one depth.
template <int M, class S>
__device__ void read_lines(const S* at, int lane, S (&values)[M]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const auto pack = *reinterpret_cast<const Pack<S, M / 2>*>(at + place_in_tile<M>(lane, half * (M / 2)));
#pragma unroll
        for (int c = 0; c < M / 2; ++c) values[half * (M / 2) + c] = pack.e[c];
    }
}

template <class S, int M, int N, int R, int C>
__device__ void accumulate(const S (&rows)[kTileDepth][R], const S (&columns)[kTileDepth][C], S (&sum)[M][N]) {
#pragma unroll 2
    for (int k = 0; k < kTileDepth; ++k) {
        S row[M], column[N];
        read_lines(rows[k], threadIdx.x / kTileLanes, row);
        read_lines(columns[k], threadIdx.x % kTileLanes, column);
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j) sum[i][j] = multiply_add(row[i], column[j], sum[i][j]);
    }
}

}  // namespace lapcore::cuda
