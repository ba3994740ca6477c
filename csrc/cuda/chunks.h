// Rows of contiguous elements cut into packs of four, one for each block of Philox, and chunks of packs, one for each
// warp or, where rows are short, for a part of one. How a row is cut depends on its length alone, and so does the order
// in which it is added up.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/gaussian.h"
#include "cuda/rows.h"

namespace lapcore::cuda {

constexpr int kChunkThreads = 128;
constexpr int kFour = 4;
constexpr int kDeepest = 8;  // packs of a lane

struct Chunks {
    std::int64_t rows, length;
    int lanes, depth;     // of a chunk: each of its lanes takes every lanes-th pack
    std::int64_t of_row;  // chunks

    std::int64_t count() const { return rows * of_row; }
    std::int64_t blocks() const {
        const std::int64_t of_block = kChunkThreads / lanes;
        return (count() + of_block - 1) / of_block;
    }
};

inline Chunks chunks_of(std::int64_t rows, std::int64_t length) {
    const std::int64_t packs = (length + kFour - 1) / kFour;
    int lanes = 1;
    while (lanes < 32 && lanes < packs) lanes *= 2;
    const int depth = static_cast<int>(std::min<std::int64_t>((packs + lanes - 1) / lanes, kDeepest));
    return {rows, length, lanes, depth, (packs + lanes * depth - 1) / (lanes * depth)};
}

// A thread's part of a chunk.
struct ChunkLane {
    std::int64_t chunk, row, pack;  // its first pack
    int lane;                       // in the chunk
    bool exists;

    __device__ explicit ChunkLane(const Chunks& chunks) {
        const int of_block = kChunkThreads / chunks.lanes;
        lane = static_cast<int>(threadIdx.x) % chunks.lanes;
        chunk = std::int64_t{blockIdx.x} * of_block + static_cast<int>(threadIdx.x) / chunks.lanes;
        exists = chunk < chunks.rows * chunks.of_row;
        // A 64-bit division takes longer than all else here.
        const bool small = (chunk | chunks.of_row) >> 32 == 0;
        row = small ? static_cast<std::uint32_t>(chunk) / static_cast<std::uint32_t>(chunks.of_row)
                    : chunk / chunks.of_row;
        pack = (chunk - row * chunks.of_row) * (chunks.lanes * chunks.depth) + lane;
    }

    // body(first element) of each of its packs.
    template <class Body>
    __device__ void each(const Chunks& chunks, const Body& body) const {
        if (!exists) return;
#pragma unroll 1
        for (int i = 0; i < chunks.depth; ++i) {
            const std::int64_t first = kFour * (pack + std::int64_t{i} * chunks.lanes);
            if (first >= chunks.length) return;
            body(first);
        }
    }
};

// Rows in memory, whose data is null where there are none.
template <class T>
struct RowsOf {
    T* data;
    std::int64_t stride;

    __device__ explicit operator bool() const { return data != nullptr; }
};

template <class T>
RowsOf<T> rows_of(const Rows& rows) {
    return {static_cast<T*>(rows.data), rows.stride};
}

// Whether all packs of rows may be moved in one access: each is whole and aligned.
template <class T>
bool packed(const Rows& rows, std::int64_t length) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(rows.data) % (sizeof(T) * kFour) == 0;
    return aligned && rows.stride % kFour == 0 && length % kFour == 0;
}

template <class T>
struct Four {
    T e[kFour];
};

// What moves a pack in one access, or two, for certain: the card's own vector types.
template <class T>
using Vectors = std::conditional_t<sizeof(T) == 2, uint2, uint4>;
template <class T>
constexpr int kVectors = static_cast<int>(sizeof(T) * kFour / sizeof(Vectors<T>));

// Four elements of a row from `first` on; zeros beyond its end.
template <bool kPacked, class T>
__device__ Four<Sum<T>> read_four(const RowsOf<const T>& rows, std::int64_t row, std::int64_t first,
                                  std::int64_t length) {
    const T* const at = rows.data + row * rows.stride + first;
    Pack<T, kFour> pack{};
    if constexpr (kPacked) {
        Vectors<T> vectors[kVectors<T>];
#pragma unroll
        for (int i = 0; i < kVectors<T>; ++i) vectors[i] = __ldg(reinterpret_cast<const Vectors<T>*>(at) + i);
        std::memcpy(&pack, vectors, sizeof pack);
    } else {
#pragma unroll
        for (int k = 0; k < kFour; ++k)
            if (first + k < length) pack.e[k] = at[k];
    }
    Four<Sum<T>> four;
#pragma unroll
    for (int k = 0; k < kFour; ++k) four.e[k] = loaded(pack.e[k]);
    return four;
}

template <bool kPacked, class T>
__device__ void write_four(const RowsOf<T>& rows, std::int64_t row, std::int64_t first, std::int64_t length,
                           const Four<Sum<T>>& four) {
    T* const at = rows.data + row * rows.stride + first;
    Pack<T, kFour> pack;
#pragma unroll
    for (int k = 0; k < kFour; ++k) pack.e[k] = stored<T>(four.e[k]);
    if constexpr (kPacked) {
        Vectors<T> vectors[kVectors<T>];
        std::memcpy(vectors, &pack, sizeof pack);
#pragma unroll
        for (int i = 0; i < kVectors<T>; ++i) __stcg(reinterpret_cast<Vectors<T>*>(at) + i, vectors[i]);
    } else {
#pragma unroll
        for (int k = 0; k < kFour; ++k)
            if (first + k < length) at[k] = pack.e[k];
    }
}

}  // namespace lapcore::cuda
