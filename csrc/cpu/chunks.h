// How rows of elements are shared out among threads. Included once per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/threads.h"

namespace lapcore::LAPCORE_ISA {

constexpr std::int64_t kTile = 1152;  // as much noise as is drawn at once (random.h)

// A row is taken in chunks whose place depends on nothing but its length: so do sums over it.
constexpr std::int64_t kChunk = 16 * kTile;

inline std::int64_t chunks_of(std::int64_t length) { return (length + kChunk - 1) / kChunk; }

// How many elements the chunks before number `last` hold, those of all rows counted through.
inline std::int64_t elements_before(std::int64_t last, std::int64_t length) {
    const std::int64_t chunks = chunks_of(length);
    return last / chunks * length + std::min(last % chunks * kChunk, length);
}

// Calls task(first, last) for runs of chunks, those of all rows counted through.
template <class Task>
void over_chunks(std::int64_t rows, std::int64_t length, int threads, const Task& task) {
    const std::int64_t chunks = rows * chunks_of(length);
    threads = int(std::min<std::int64_t>(threads, 1 + rows * length / kChunk));
    const std::int64_t runs = std::min<std::int64_t>(chunks, threads == 1 ? 1 : 4 * threads);
    parallel_for(runs, threads, [&](std::int64_t i) { task(i * chunks / runs, (i + 1) * chunks / runs); });
}

// A row's part in a task: elements [first, first + n) of `row`, which belong to the chunk number `chunk` of all.
struct RowTile {
    std::int64_t chunk, row, first, n;
};

// Calls body(tile) for all tiles of a run of chunks in order.
template <class Body>
void over_tiles(std::int64_t length, std::int64_t first_chunk, std::int64_t last_chunk, const Body& body) {
    const std::int64_t chunks = chunks_of(length);
    for (std::int64_t c = first_chunk; c < last_chunk; ++c) {
        const std::int64_t row = c / chunks, begin = c % chunks * kChunk, end = std::min(begin + kChunk, length);
        for (std::int64_t e = begin; e < end; e += kTile) body(RowTile{c, row, e, std::min(kTile, end - e)});
    }
}

}  // namespace lapcore::LAPCORE_ISA
