// Rows of contiguous elements cut into packs of four, one for each block of Philox, and chunks of packs, one for each
// warp or, where rows are short, for a part of one. How a row is cut depends on its length alone, and so does the order
// in which it is added up.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/gaussian.h"
#include "cuda/rows.h"

namespace lapcore::cuda {

constexpr int kChunkThreads = 128;
constexpr int kFour = 4;
constexpr int kDepth = 8;  // packs of a lane, or more where a row would have more chunks than
constexpr int kMostChunks = 4096;

struct Chunks {
    std::int64_t rows, length;
    std::int64_t of_row;  // chunks
    std::int64_t depth;   // packs of a lane, which takes every lanes-th
    int lanes;            // of a chunk

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
    const auto over = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    const std::int64_t deepest = std::max<std::int64_t>(kDepth, over(packs, std::int64_t{kMostChunks} * lanes));
    const std::int64_t depth = std::min(over(packs, lanes), deepest);
    return {rows, length, over(packs, lanes * depth), depth, lanes};
}

// A thread's part of a chunk.
struct ChunkLane {
    std::int64_t chunk, row, begin, end;  // of its packs
    int lane;                             // in the chunk
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
        const std::int64_t first = (chunk - row * chunks.of_row) * chunks.lanes * chunks.depth;
        begin = first + lane;
        end = exists ? min(first + chunks.lanes * chunks.depth, (chunks.length + kFour - 1) / kFour) : 0;
    }

    // body(pack) of each of its packs.
    template <class Body>
    __device__ void each(const Chunks& chunks, const Body& body) const {
#pragma unroll 1
        for (std::int64_t pack = begin; pack < end; pack += chunks.lanes) body(pack);
    }
};

// Rows in memory, or one of them; data is null where there are none.
template <class T>
struct RowsOf {
    T* data;
    std::int64_t stride;

    __device__ explicit operator bool() const { return data != nullptr; }
    __device__ RowsOf row(std::int64_t i) const { return {data ? data + i * stride : nullptr, 0}; }
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

// Four elements of a row; zeros beyond its end.
template <bool kPacked, class T>
__device__ Four<Sum<T>> read_four(const RowsOf<const T>& row, std::int64_t pack, std::int64_t length) {
    const T* const at = row.data + kFour * pack;
    Pack<T, kFour> values{};
    if constexpr (kPacked) {
        Vectors<T> vectors[kVectors<T>];
#pragma unroll
        for (int i = 0; i < kVectors<T>; ++i) vectors[i] = __ldg(reinterpret_cast<const Vectors<T>*>(at) + i);
        std::memcpy(&values, vectors, sizeof values);
    } else {
#pragma unroll
        for (int k = 0; k < kFour; ++k)
            if (kFour * pack + k < length) values.e[k] = at[k];
    }
    Four<Sum<T>> four;
#pragma unroll
    for (int k = 0; k < kFour; ++k) four.e[k] = loaded(values.e[k]);
    return four;
}

template <bool kPacked, class T>
__device__ void write_four(const RowsOf<T>& row, std::int64_t pack, std::int64_t length, const Four<Sum<T>>& four) {
    T* const at = row.data + kFour * pack;
    Pack<T, kFour> values;
#pragma unroll
    for (int k = 0; k < kFour; ++k) values.e[k] = stored<T>(four.e[k]);
    if constexpr (kPacked) {
        Vectors<T> vectors[kVectors<T>];
        std::memcpy(vectors, &values, sizeof values);
#pragma unroll
        for (int i = 0; i < kVectors<T>; ++i) __stcg(reinterpret_cast<Vectors<T>*>(at) + i, vectors[i]);
    } else {
#pragma unroll
        for (int k = 0; k < kFour; ++k)
            if (kFour * pack + k < length) at[k] = values.e[k];
    }
}

}  // namespace lapcore::cuda
