// Draws from categorical distributions by inversion: rows are the lanes, so that sums over the levels, which are taken
// in ascending order, run beside each other. Included once per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/categorical.h"
#include "cpu/buffer.h"
#include "cpu/matrix.h"

namespace lapcore::LAPCORE_ISA {

using lapcore::probability_of;

LAPCORE_INLINE Vector<double> probability_of(Vector<double> logit, Vector<double> largest) {
    for (std::int64_t i = 0; i < kLanes<double>; ++i) logit[i] = probability_of<double>(logit[i], largest[i]);
    return logit;
}

template <class C>
class CategoricalDraws {
public:
    static constexpr std::int64_t kRows = kTileColumns<C>;

    // Of each of up to kRows rows, `stride` apart, the first k whose sum p_0 + .. + p_k is above u times the whole;
    // where rounding leaves none, the last with p > 0.
    void draw(const C* logits, std::int64_t stride, std::int64_t rows, std::int64_t levels, const C* u,
              std::int64_t* indices) {
        if (levels > levels_) {
            levels_ = levels;
            columns_ = Buffer<C>(blocks_of(levels) * kDepth * kRows);
        }
        C largest[kRows];
        for (std::int64_t row = 0; row < rows; ++row) largest[row] = largest_of(logits + row * stride, levels);
        pack_columns(rows, levels, columns_.get(), [&](std::int64_t row, std::int64_t first, std::int64_t n, C* to) {
            for (std::int64_t i = 0; i < n; i += kLanes<C>) {
                const std::int64_t lanes = std::min(kLanes<C>, n - i);
                const V logit = load_first(logits + row * stride + first + i, lanes);
                store_first(to + i, probability_of(logit, V{} + largest[row]), lanes);
            }
        });
        invert(rows, levels, u, indices);
    }

private:
    using V = Vector<C>;
    using Indices = Vector<std::conditional_t<sizeof(C) == 4, std::int32_t, std::int64_t>>;

    static C largest_of(const C* logits, std::int64_t levels) {
        V lanes = V{} - std::numeric_limits<C>::infinity();
        std::int64_t k = 0;
        for (; k + kLanes<C> <= levels; k += kLanes<C>) lanes = maximum(load(logits + k), lanes);
        C largest = lanes[0];
        for (std::int64_t i = 1; i < kLanes<C>; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
        for (; k < levels; ++k) largest = logits[k] > largest ? logits[k] : largest;
        return largest;
    }

    // p_k of all rows is at columns_ + k * kRows.
    void invert(std::int64_t rows, std::int64_t levels, const C* u, std::int64_t* indices) const {
        V whole[kTileVectors]{}, sum[kTileVectors]{}, bound[kTileVectors];
        Indices below[kTileVectors]{}, last[kTileVectors]{}, at{};
        const auto p_of = [&](std::int64_t k, std::int64_t v)
                              LAPCORE_INLINE_LAMBDA { return load(columns_.get() + k * kRows + v * kLanes<C>); };
        for (std::int64_t k = 0; k < levels; ++k) {
            for (std::int64_t v = 0; v < kTileVectors; ++v) whole[v] += p_of(k, v);
        }
        for (std::int64_t v = 0; v < kTileVectors; ++v) {
            const std::int64_t lanes = std::clamp<std::int64_t>(rows - v * kLanes<C>, 0, kLanes<C>);
            bound[v] = load_first(u + v * kLanes<C>, lanes) * whole[v];
        }
        for (std::int64_t k = 0; k < levels; ++k, at = at + 1) {
            for (std::int64_t v = 0; v < kTileVectors; ++v) {
                const V p = p_of(k, v);
                sum[v] += p;
                below[v] -= sum[v] <= bound[v];  // a comparison that holds is -1
                last[v] = p > 0 ? at : last[v];
            }
        }
        for (std::int64_t i = 0; i < rows; ++i) {
            const std::int64_t v = i / kLanes<C>, lane = i % kLanes<C>, found = below[v][lane];
            indices[i] = found < levels ? found : last[v][lane];
        }
    }

    std::int64_t levels_ = 0;
    Buffer<C> columns_;
};

}  // namespace lapcore::LAPCORE_ISA
