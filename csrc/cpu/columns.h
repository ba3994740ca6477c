// What the columns of a few rows add up to, a vector of pixels at a time. Included once per instruction set.
//
// `column(at)` adds up a column, at(row) reading one row's sample or vector. A row is of n pixels of K interleaved
// channels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/axis.h"
#include "cpu/formats.h"
#include "cpu/pixels.h"

namespace lapcore::LAPCORE_ISA {

template <class C, int K>
struct PixelHalves {
    Pixels<C, K> even, odd;
};

template <class F, int K, class Column>
class Columns {
public:
    using S = typename F::Sample;
    using C = typename F::Sum;
    static constexpr std::int64_t V = kLanes<C>;

    LAPCORE_INLINE Columns(const Axis& axis, const Column& column) : axis_(axis), column_(column), n_(axis.n_src()) {}

    LAPCORE_INLINE Pixels<C, K> whole(std::int64_t x) const {
        Vector<C> sums[K];
        for (int k = 0; k < K; ++k)
            sums[k] = column_([=](const S* row) LAPCORE_INLINE_LAMBDA { return load_as<C>(row + K * x + k * V); });
        return separated<C, K>(sums);
    }
    // The pixels from x on as far as the row goes.
    LAPCORE_INLINE Pixels<C, K> last(std::int64_t x) const {
        Vector<C> sums[K];
        for (int k = 0; k < K; ++k) {
            const std::int64_t begin = K * x + k * V, count = std::clamp<std::int64_t>(K * n_ - begin, 0, V);
            sums[k] = column_([=](const S* row) LAPCORE_INLINE_LAMBDA { return load_first_as<C>(row + begin, count); });
        }
        return separated<C, K>(sums);
    }
    // The even and the odd ones of 2V pixels from x on, and of those as far as the row goes.
    LAPCORE_INLINE PixelHalves<C, K> whole_halves(std::int64_t x) const {
        if constexpr (K == 1 && kWidens<S, C>) {
            return split_sums([=](const S* row) LAPCORE_INLINE_LAMBDA { return load_halves<C>(row + x); });
        } else {
            const Pixels<C, K> a = whole(x), b = whole(x + V);
            return {even(a, b), odd(a, b)};
        }
    }
    LAPCORE_INLINE PixelHalves<C, K> last_halves(std::int64_t x) const {
        if constexpr (K == 1 && kWidens<S, C>) {
            const std::int64_t count = std::clamp<std::int64_t>(n_ - x, 0, 2 * V);
            return split_sums([=](const S* row) LAPCORE_INLINE_LAMBDA { return load_first_halves<C>(row + x, count); });
        } else {
            const Pixels<C, K> a = last(x), b = last(x + V);
            return {even(a, b), odd(a, b)};
        }
    }
    // What stands at position x before the row or after it.
    LAPCORE_INLINE Pixel<C, K> padding(std::int64_t x) const {
        const std::int64_t q = axis_.padding(x);
        Pixel<C, K> pixel{};
        if (q == kOutside) return pixel;
        for (int k = 0; k < K; ++k)
            pixel.channel[k] =
                static_cast<C>(column_([=](const S* row) LAPCORE_INLINE_LAMBDA { return C(row[K * q + k]); }));
        return pixel;
    }

private:
    template <class Load>
    LAPCORE_INLINE PixelHalves<C, K> split_sums(const Load& load) const {
        return {{{column_([&](const S* row) LAPCORE_INLINE_LAMBDA { return load(row).even; })}},
                {{column_([&](const S* row) LAPCORE_INLINE_LAMBDA { return load(row).odd; })}}};
    }

    const Axis& axis_;
    const Column& column_;
    std::int64_t n_;
};

// The columns of a decimating operator's five rows.
template <class S, class C>
LAPCORE_INLINE auto five_rows(const S* const* p, const Decimating<C> w) {
    const S *a = p[0], *b = p[1], *c = p[2], *d = p[3], *e = p[4];
    return [=](const auto& at) LAPCORE_INLINE_LAMBDA { return w.sum(at(a), at(b), at(c), at(d), at(e)); };
}

// The columns of an expanding operator's even row, from three rows, and those of its odd one, from two.
template <class S, class C>
LAPCORE_INLINE auto even_row(const S* a, const S* b, const S* c, const Expanding<C> w) {
    return [=](const auto& at) LAPCORE_INLINE_LAMBDA { return w.even(at(a), at(b), at(c)); };
}
template <class S, class C>
LAPCORE_INLINE auto odd_row(const S* b, const S* c, const Expanding<C> w) {
    return [=](const auto& at) LAPCORE_INLINE_LAMBDA { return w.odd(at(b), at(c)); };
}

}  // namespace lapcore::LAPCORE_ISA
