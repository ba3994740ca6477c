// Draws from categorical distributions by inversion: rows are the lanes, so that sums over the levels, which are taken
// in ascending order, run beside each other. Included once per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/categorical.h"
#include "cpu/matrix.h"
#include "cpu/rows.h"

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
        pack_columns(rows, levels, columns_.get(), [&](std::int64_t row, std::int64_t first, std::int64_t n, C* to) {
            std::copy_n(logits + row * stride + first, n, to);
        });
        for (std::int64_t first = 0; first < rows; first += kLanes<C>) {
            const std::int64_t n = std::min(kLanes<C>, rows - first);
            const auto found = draw_lanes(columns_.get() + first, levels, load_first(u + first, n));
            for (std::int64_t i = 0; i < n; ++i) indices[first + i] = found[i];
        }
    }

private:
    using V = Vector<C>;
    using Indices = Vector<std::conditional_t<sizeof(C) == 4, std::int32_t, std::int64_t>>;

    // Level k of all lanes is at columns + k * kRows.
    static Indices draw_lanes(C* columns, std::int64_t levels, V u) {
        V largest = V{} - std::numeric_limits<C>::infinity(), whole{}, sum{};
        for (std::int64_t k = 0; k < levels; ++k) largest = maximum(load(columns + k * kRows), largest);
        for (std::int64_t k = 0; k < levels; ++k) {
            const V p = probability_of(load(columns + k * kRows), largest);
            store(columns + k * kRows, p);
            whole += p;
        }
        const V bound = u * whole;
        Indices below{}, last{}, at{};
        for (std::int64_t k = 0; k < levels; ++k, at = at + 1) {
            const V p = load(columns + k * kRows);
            sum += p;
            below -= sum <= bound;  // a comparison that holds is -1
            last = p > 0 ? at : last;
        }
        return at == below ? last : below;
    }

    std::int64_t levels_ = 0;
    Buffer<C> columns_;
};

}  // namespace lapcore::LAPCORE_ISA
