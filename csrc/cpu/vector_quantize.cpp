// The nearest code of each row: the largest z . e - |e|^2 / 2, which is (|z|^2 - ||z - e||^2) / 2. Rows are the lanes
// of a tile; its scores stay in registers, and so does nothing of the (N, K) table.
//
// A score is one chain of multiply-adds that starts at -|e|^2 / 2. It is off by at most (D + 2) u (|e|^2 / 2 + |z| .
// |e|), u = 2^-24 for float32 and 2^-53 for float64, and the code that is chosen is at most 4 times that, in squared
// distance, further than the nearest.
#include "cpu/vector_quantize.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/floats.h"
#include "cpu/buffer.h"
#include "cpu/convert.h"
#include "cpu/matrix.h"
#include "cpu/threads.h"

namespace lapcore::LAPCORE_ISA {

namespace {

constexpr std::int64_t kRowsPerTask = 256;

template <class T>
const T* row_of(const View& view, std::int64_t row) {
    return static_cast<const T*>(view.data) + row * view.strides[0];
}

template <class C>
using Index = std::conditional_t<sizeof(C) == 4, std::int32_t, std::int64_t>;

// The codes as tiles, with -|e|^2 / 2 of each. A code whose square is not finite is never the nearest: it is zero here,
// with -inf.
template <class T>
class Codebook {
public:
    using C = Sum<T>;

    explicit Codebook(const View& codes)
        : depth_(codes.width()),
          size_(tiles_of(codes.shape[0]) * kTileRows),
          tile_(blocks_of(depth_) * kBlock),
          packed_(std::size_t(size_ / kTileRows * tile_)),
          biases_(std::size_t(size_), -std::numeric_limits<C>::infinity()) {
        const auto read = [&](std::int64_t row, std::int64_t first, std::int64_t n, C* to) {
            load_row(row_of<T>(codes, row) + first, 1, n, to);
            if (std::isinf(biases_[std::size_t(row)])) std::fill_n(to, n, C{});
        };
        std::vector<C> code(std::size_t(depth_), C{});
        for (std::int64_t k = 0; k < codes.shape[0]; ++k) {
            load_row(row_of<T>(codes, k), 1, depth_, code.data());
            double square = 0;
            for (const C x : code) square += double(x) * double(x);
            if (C(square) <= std::numeric_limits<C>::max()) biases_[std::size_t(k)] = C(-square / 2);
        }
        pack_rows(codes.shape[0], size_, depth_, tile_, kBlock, packed_.data(), read);
    }

    // Of kTileColumns rows of z, transposed.
    void nearest(const C* z, std::int64_t* indices, std::int64_t count) const {
        Vector<C> best[kTileVectors];
        Vector<Index<C>> at[kTileVectors]{};
        for (auto& b : best) b = broadcast(-std::numeric_limits<C>::infinity());
        for (std::int64_t first = 0; first < size_; first += kTileRows) {
            Tile<C> scores;
            for (std::int64_t r = 0; r < kTileRows; ++r) {
                for (auto& score : scores.rows[r]) score = broadcast(biases_[std::size_t(first + r)]);
            }
            add_product(packed_.data() + first / kTileRows * tile_, kBlock, z, depth_, scores);
#pragma GCC unroll 16
            for (std::int64_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 16
                for (std::int64_t v = 0; v < kTileVectors; ++v) {
                    const auto better = scores.rows[r][v] > best[v];
                    best[v] = better ? scores.rows[r][v] : best[v];
                    at[v] = better ? broadcast(Index<C>(first + r)) : at[v];
                }
            }
        }
        for (std::int64_t i = 0; i < count; ++i) indices[i] = at[i / kLanes<C>][i % kLanes<C>];
    }

private:
    std::int64_t depth_, size_, tile_;
    std::vector<C> packed_, biases_;
};

template <class T>
void nearest(int threads, const View& z, const View& codes, T* quantized, std::int64_t* indices) {
    using C = Sum<T>;
    const std::int64_t rows = z.shape[0], depth = z.width();
    const Codebook<T> codebook(codes);
    parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask, threads, [&](std::int64_t task) {
        const Buffer<C> columns(blocks_of(depth) * kDepth * kTileColumns<C>);
        const std::int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
        for (std::int64_t first = task * kRowsPerTask; first < end; first += kTileColumns<C>) {
            const std::int64_t count = std::min(end - first, kTileColumns<C>);
            pack_columns(count, depth, columns.get(),
                         [&](std::int64_t column, std::int64_t from, std::int64_t n, C* to) {
                             load_row(row_of<T>(z, first + column) + from, 1, n, to);
                         });
            codebook.nearest(columns.get(), indices + first, count);
            for (std::int64_t i = first; i < first + count; ++i)
                std::memcpy(quantized + i * depth, row_of<T>(codes, indices[i]), std::size_t(depth) * sizeof(T));
        }
    });
}

}  // namespace

extern const VectorQuantizeKernels vector_quantize_kernels;
const VectorQuantizeKernels vector_quantize_kernels{
    [](DType dtype, int threads, const View& z, const View& codebook, void* quantized, std::int64_t* indices) {
        with_float(dtype,
                   [&](auto t) { nearest(threads, z, codebook, static_cast<decltype(t)*>(quantized), indices); });
    },
};

}  // namespace lapcore::LAPCORE_ISA
