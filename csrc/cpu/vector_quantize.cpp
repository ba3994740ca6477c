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
#include "cpu/typed_elements.h"

namespace lapcore::LAPCORE_ISA {

namespace {

constexpr std::int64_t kRowsPerTask = 256;

// Rows of a dtype.
struct Matrix {
    DType dtype;
    const View& view;

    std::int64_t rows() const { return view.shape[0]; }
    std::int64_t depth() const { return view.width(); }
    // n numbers of a row from the first on.
    template <class C>
    void read(std::int64_t row, std::int64_t first, std::int64_t n, C* to) const {
        load_elements(dtype, view.data, row * view.strides[0] + first, 1, n, to);
    }
    void copy(std::int64_t row, void* to) const {
        const std::int64_t bytes = bytes_of(dtype);
        std::memcpy(to, static_cast<const char*>(view.data) + row * view.strides[0] * bytes,
                    std::size_t(depth() * bytes));
    }
};

template <class C>
using Index = std::conditional_t<sizeof(C) == 4, std::int32_t, std::int64_t>;

// The codes as tiles, with -|e|^2 / 2 of each. A code whose square is not finite is never the nearest: it is zero here,
// with -inf.
template <class C>
class Codebook {
public:
    explicit Codebook(const Matrix& codes)
        : depth_(codes.depth()),
          size_(tiles_of(codes.rows()) * kTileRows),
          tile_(blocks_of(depth_) * kBlock),
          packed_(std::size_t(size_ / kTileRows * tile_)),
          biases_(std::size_t(size_), -std::numeric_limits<C>::infinity()) {
        const auto read = [&](std::int64_t row, std::int64_t first, std::int64_t n, C* to) {
            codes.read(row, first, n, to);
            if (std::isinf(biases_[std::size_t(row)])) std::fill_n(to, n, C{});
        };
        std::vector<C> code(std::size_t(depth_), C{});
        for (std::int64_t k = 0; k < codes.rows(); ++k) {
            codes.read(k, 0, depth_, code.data());
            double square = 0;
            for (const C x : code) square += double(x) * double(x);
            if (C(square) <= std::numeric_limits<C>::max()) biases_[std::size_t(k)] = C(-square / 2);
        }
        pack_rows(codes.rows(), size_, depth_, tile_, kBlock, packed_.data(), read);
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

template <class C>
void nearest(int threads, const Matrix& z, const Matrix& codes, void* quantized, std::int64_t* indices) {
    const std::int64_t rows = z.rows(), depth = z.depth();
    const Codebook<C> codebook(codes);
    parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask, threads, [&](std::int64_t task) {
        const Buffer<C> columns(blocks_of(depth) * kDepth * kTileColumns<C>);
        const std::int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
        for (std::int64_t first = task * kRowsPerTask; first < end; first += kTileColumns<C>) {
            const std::int64_t count = std::min(end - first, kTileColumns<C>);
            pack_columns(count, depth, columns.get(),
                         [&](std::int64_t column, std::int64_t from, std::int64_t n, C* to) {
                             z.read(first + column, from, n, to);
                         });
            codebook.nearest(columns.get(), indices + first, count);
            for (std::int64_t i = first; i < first + count; ++i)
                codes.copy(indices[i], static_cast<char*>(quantized) + i * depth * bytes_of(codes.dtype));
        }
    });
}

}  // namespace

extern const VectorQuantizeKernels vector_quantize_kernels;
const VectorQuantizeKernels vector_quantize_kernels{
    [](DType dtype, int threads, const View& z, const View& codebook, void* quantized, std::int64_t* indices) {
        const auto run = dtype == DType::float64 ? nearest<double> : nearest<float>;
        run(threads, {dtype, z}, {dtype, codebook}, quantized, indices);
    },
};

}  // namespace lapcore::LAPCORE_ISA
