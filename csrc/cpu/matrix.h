// Products of matrices, c[i][j] += sum_k a[i][k] b[k][j], tile by tile: kTileRows rows of a, each a broadcast number,
// times kTileColumns columns of b, which are the lanes of kTileVectors vectors. Included once per instruction set.
//
// Every c[i][j] is one chain of multiply-adds over k, fused where the instruction set has that: it depends neither on
// the tile it falls into, nor on what else is computed, nor on the threads. On the baseline of x86, which has not,
// other bits come out: fused by software, exactly, by way of doubles, products take 26 times as long.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

// As many sums as leave registers for the factors; AVX-512 has 32 of them.
#if defined(__AVX512F__)
constexpr std::int64_t kTileRows = 12;
#elif defined(__AVX2__)
constexpr std::int64_t kTileRows = 6;
#else
constexpr std::int64_t kTileRows = 4;
#endif
constexpr std::int64_t kTileVectors = 2;
template <class C>
constexpr std::int64_t kTileColumns = kTileVectors * kLanes<C>;

// The rows of a lie in blocks of kTileRows x kDepth, so that the rows of a block are a fixed distance apart.
constexpr std::int64_t kDepth = 64;
constexpr std::int64_t kBlock = kTileRows * kDepth;

template <class C>
LAPCORE_INLINE Vector<C> broadcast(C value) {
    return value - Vector<C>{};  // for a zero of either sign
}

// a * b + c
template <class C>
LAPCORE_INLINE Vector<C> multiply_add(Vector<C> a, Vector<C> b, Vector<C> c) {
#if defined(__AVX512F__)
    if constexpr (sizeof(C) == 4) return Vector<C>(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c)));
    if constexpr (sizeof(C) == 8) return Vector<C>(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c)));
#elif defined(__FMA__)
    if constexpr (sizeof(C) == 4) return Vector<C>(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c)));
    if constexpr (sizeof(C) == 8) return Vector<C>(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c)));
#else
    return a * b + c;
#endif
}

template <class C>
struct Tile {
    Vector<C> rows[kTileRows][kTileVectors];
};

// c += a b over `depth` steps; a: the first block of some rows, the others `stride` apart; b: (depth, kTileColumns).
// Of the tile's first kRows rows. A call of its own: among other code GCC keeps the loop's pointers in memory, which
// takes twice the time.
template <std::int64_t kRows = kTileRows, class C>
__attribute__((noinline)) void add_product(const C* a, std::int64_t stride, const C* b, std::int64_t depth,
                                           Tile<C>& c) {
    Vector<C> sums[kRows][kTileVectors];
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (std::int64_t v = 0; v < kTileVectors; ++v) sums[r][v] = c.rows[r][v];
    }
    for (; depth > 0; depth -= kDepth, a += stride) {
        const std::int64_t n = std::min(depth, kDepth);
        for (std::int64_t k = 0; k < n; ++k, b += kTileColumns<C>) {
            Vector<C> factors[kTileVectors];
#pragma GCC unroll 16
            for (std::int64_t v = 0; v < kTileVectors; ++v) factors[v] = load(b + v * kLanes<C>);
#pragma GCC unroll 16
            for (std::int64_t r = 0; r < kRows; ++r) {
                const Vector<C> factor = broadcast(a[r * kDepth + k]);
#pragma GCC unroll 16
                for (std::int64_t v = 0; v < kTileVectors; ++v) {
                    sums[r][v] = multiply_add<C>(factor, factors[v], sums[r][v]);
                }
            }
        }
    }
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (std::int64_t v = 0; v < kTileVectors; ++v) c.rows[r][v] = sums[r][v];
    }
}

// Of the first `rows` rows at least.
template <class C>
void add_product(std::int64_t rows, const C* a, std::int64_t stride, const C* b, std::int64_t depth, Tile<C>& c) {
    constexpr std::int64_t third = kTileRows / 3;
    if (rows <= third) return add_product<third>(a, stride, b, depth, c);
    if (rows <= 2 * third) return add_product<2 * third>(a, stride, b, depth, c);
    add_product<kTileRows>(a, stride, b, depth, c);
}

inline std::int64_t blocks_of(std::int64_t depth) { return (depth + kDepth - 1) / kDepth; }
inline std::int64_t tiles_of(std::int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }

// a, of `padded` rows, those from `rows` on zero: read(row, first, n, to) gives n numbers of a row from the first on.
// Tile t and depth block d begin at t * tile_stride + d * block_stride.
template <class C, class Read>
void pack_rows(std::int64_t rows, std::int64_t padded, std::int64_t depth, std::int64_t tile_stride,
               std::int64_t block_stride, C* a, const Read& read) {
    for (std::int64_t r = 0; r < padded; ++r) {
        C* const to = a + r / kTileRows * tile_stride + r % kTileRows * kDepth;
        for (std::int64_t d = 0; d < blocks_of(depth); ++d) {
            const std::int64_t n = std::min(depth - d * kDepth, kDepth);
            if (r < rows) {
                read(r, d * kDepth, n, to + d * block_stride);
            } else {
                std::fill_n(to + d * block_stride, n, C{});
            }
        }
    }
}

// kLanes rows of kLanes numbers, `stride` apart, as columns, kTileColumns apart: by perfect shuffles.
template <class C>
LAPCORE_INLINE void transpose(const C* rows, std::int64_t stride, C* columns) {
    constexpr std::int64_t n = kLanes<C>;
    Vector<C> v[n], w[n];
    for (std::int64_t i = 0; i < n; ++i) v[i] = load(rows + i * stride);
    for (std::int64_t span = 1; span < n; span *= 2) {
        for (std::int64_t i = 0; i < n / 2; ++i) {
            w[2 * i] = interleave_first<C>(v[i], v[i + n / 2]);
            w[2 * i + 1] = interleave_second<C>(v[i], v[i + n / 2]);
        }
        std::copy_n(w, n, v);
    }
    for (std::int64_t i = 0; i < n; ++i) store(columns + i * kTileColumns<C>, v[i]);
}

// b, (blocks_of(depth) * kDepth, kTileColumns): column j is what read(j, first, n, to) gives; missing ones are zero.
template <class C, class Read>
void pack_columns(std::int64_t columns, std::int64_t depth, C* b, const Read& read) {
    alignas(kVectorBytes) C rows[kLanes<C> * kDepth]{};
    for (std::int64_t j = 0; j < kTileColumns<C>; j += kLanes<C>) {
        for (std::int64_t k = 0; k < depth; k += kDepth) {
            const std::int64_t n = std::min(depth - k, kDepth);
            for (std::int64_t i = 0; i < kLanes<C>; ++i) {
                if (j + i < columns) {
                    read(j + i, k, n, rows + i * kDepth);
                } else {
                    std::fill_n(rows + i * kDepth, n, C{});
                }
            }
            for (std::int64_t i = 0; i < n; i += kLanes<C>)
                transpose(rows + i, kDepth, b + (k + i) * kTileColumns<C> + j);
        }
    }
}

}  // namespace lapcore::LAPCORE_ISA
