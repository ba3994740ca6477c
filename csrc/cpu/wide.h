// Forward operators along rows of any length, in one pass: the columns' sums of a vector of pixels are taken, and what
// stands before and after each comes from the vectors beside it, so that no line goes through memory. A row is of
// pixels of K interleaved channels. Included once per instruction set.
//
// `column(at)` adds up a column, at(row) reading one row's sample or vector. The border rule's pixels are few and are
// added up one by one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/axis.h"
#include "cpu/pixels.h"

namespace lapcore::LAPCORE_ISA {

template <class C, int K, class Column>
class Columns {
public:
    static constexpr std::int64_t V = kLanes<C>;

    Columns(const Axis& axis, const Column& column) : axis_(axis), column_(column), n_(axis.n_src()) {}

    LAPCORE_INLINE Pixels<C, K> whole(std::int64_t x) const {
        Vector<C> sums[K];
        for (int k = 0; k < K; ++k)
            sums[k] = column_([=](const C* row) LAPCORE_INLINE_LAMBDA { return load(row + K * x + k * V); });
        return separated<C, K>(sums);
    }
    // The pixels from x on as far as the row goes.
    LAPCORE_INLINE Pixels<C, K> last(std::int64_t x) const {
        Vector<C> sums[K];
        for (int k = 0; k < K; ++k) {
            const std::int64_t begin = K * x + k * V, count = std::clamp<std::int64_t>(K * n_ - begin, 0, V);
            sums[k] = column_([=](const C* row) LAPCORE_INLINE_LAMBDA { return load_first(row + begin, count); });
        }
        return separated<C, K>(sums);
    }
    // What stands at position x before the row or after it.
    LAPCORE_INLINE Pixel<C, K> padding(std::int64_t x) const {
        const std::int64_t q = axis_.padding(x);
        Pixel<C, K> pixel{};
        if (q == kOutside) return pixel;
        for (int k = 0; k < K; ++k)
            pixel.channel[k] =
                static_cast<C>(column_([=](const C* row) LAPCORE_INLINE_LAMBDA { return row[K * q + k]; }));
        return pixel;
    }

private:
    const Axis& axis_;
    const Column& column_;
    std::int64_t n_;
};

// A decimating operator's row, vector after vector: output i is of pixels 2i - 2 .. 2i + 2.
template <class C, int K, class Column>
class Decimated {
public:
    static constexpr std::int64_t V = kLanes<C>;

    LAPCORE_INLINE Decimated(const Axis& axis, const Weights<C>& weights, const Column& column)
        : w_(weights), columns_(axis, column), n_(axis.n_src()), m_(axis.n_dst()), after_(columns_.padding(2 * m_)) {
        before_ = {splat(columns_.padding(-2)), splat(columns_.padding(-1))};
        now_ = 2 * V <= n_ ? whole(0) : last(0);
    }

    // Whether the vector of outputs from i on, the next one, and all that it reads is whole.
    LAPCORE_INLINE bool is_whole(std::int64_t i) const { return 2 * i + 4 * V <= n_; }

    LAPCORE_INLINE Pixels<C, K> next_whole(std::int64_t i) { return step(whole(i + V)); }
    LAPCORE_INLINE Pixels<C, K> next(std::int64_t i) {
        return step(i + V < m_ ? last(i + V) : Halves{splat(after_), {}});
    }

private:
    struct Halves {
        Pixels<C, K> even, odd;
    };

    LAPCORE_INLINE Halves whole(std::int64_t i) const {
        const Pixels<C, K> a = columns_.whole(2 * i), b = columns_.whole(2 * i + V);
        return {even(a, b), odd(a, b)};
    }
    LAPCORE_INLINE Halves last(std::int64_t i) const {
        const Pixels<C, K> a = columns_.last(2 * i), b = columns_.last(2 * i + V);
        Halves halves{even(a, b), odd(a, b)};
        if (m_ - i < V) set(halves.even, m_ - i, after_);
        if (n_ % 2 != 0 && m_ - i <= V) set(halves.odd, m_ - 1 - i, columns_.padding(n_));
        return halves;
    }
    LAPCORE_INLINE Pixels<C, K> step(const Halves& next) {
        const Pixels<C, K> sum = ((one_before(before_.even, now_.even) + one_after(now_.even, next.even)) * w_.outer +
                                  (one_before(before_.odd, now_.odd) + now_.odd) * w_.inner) +
                                 now_.even * w_.centre;
        before_ = now_;
        now_ = next;
        return sum;
    }

    Weights<C> w_;
    Columns<C, K, Column> columns_;
    std::int64_t n_, m_;
    Pixel<C, K> after_;
    Halves before_, now_;
};

template <class C, int K>
struct TwoPixels {
    Pixels<C, K> first, second;
};

// An expanding operator's row, two vectors of outputs for each of pixels: 2p and 2p + 1 are of pixels p - 1 .. p + 1.
template <class C, int K>
class Expanded {
public:
    LAPCORE_INLINE Expanded(const Weights<C>& weights, const Pixel<C, K>& before, const Pixels<C, K>& first)
        : w_(weights), before_(splat(before)), now_(first) {}

    // The outputs of the pixels before `next`.
    LAPCORE_INLINE TwoPixels<C, K> step(const Pixels<C, K>& next) {
        const Pixels<C, K> following = one_after(now_, next);
        const Pixels<C, K> even_sums = (one_before(before_, now_) + following) * w_.outer + now_ * w_.inner;
        const Pixels<C, K> odd_sums = (now_ + following) * w_.centre;
        before_ = now_;
        now_ = next;
        TwoPixels<C, K> out;
        for (int k = 0; k < K; ++k) {
            out.first.channel[k] = interleave_first<C>(even_sums.channel[k], odd_sums.channel[k]);
            out.second.channel[k] = interleave_second<C>(even_sums.channel[k], odd_sums.channel[k]);
        }
        return out;
    }

private:
    Weights<C> w_;
    Pixels<C, K> before_, now_;
};

// A whole vector of outputs from i on, and as much of one as there is in a row of n.
template <bool streamed, class C, int K, class Finish>
LAPCORE_INLINE void put_whole(const Finish& finish, std::int64_t i, const Pixels<C, K>& out) {
    join(out, [&](std::int64_t m, Vector<C> v) LAPCORE_INLINE_LAMBDA {
        if constexpr (streamed) {
            finish.vector_past_caches(K * i + m * kLanes<C>, v);
        } else {
            finish.vector(K * i + m * kLanes<C>, v);
        }
    });
}
template <class C, int K, class Finish>
LAPCORE_INLINE void put_last(const Finish& finish, std::int64_t i, std::int64_t n, const Pixels<C, K>& out) {
    join(out, [&](std::int64_t m, Vector<C> v) LAPCORE_INLINE_LAMBDA {
        const std::int64_t begin = K * i + m * kLanes<C>;
        if (begin < K * n) finish.first(begin, v, std::min(K * n - begin, kLanes<C>));
    });
}
template <bool streamed, class C, int K, class Finish>
LAPCORE_INLINE void put_whole(const Finish& finish, std::int64_t i, const TwoPixels<C, K>& out) {
    put_whole<streamed>(finish, i, out.first);
    put_whole<streamed>(finish, i + kLanes<C>, out.second);
}
template <class C, int K, class Finish>
LAPCORE_INLINE void put_last(const Finish& finish, std::int64_t i, std::int64_t n, const TwoPixels<C, K>& out) {
    put_last(finish, i, n, out.first);
    put_last(finish, i + kLanes<C>, n, out.second);
}

template <class C, int K, class Column, class Finish>
LAPCORE_INLINE void decimate_row(const Axis& axis, const Weights<C> weights, const Column& column,
                                 const Finish& finish) {
    constexpr std::int64_t V = kLanes<C>;
    const std::int64_t m = axis.n_dst();
    Decimated<C, K, Column> row(axis, weights, column);
    std::int64_t i = 0;
    for (; row.is_whole(i); i += V) put_whole<false>(finish, i, row.next_whole(i));
    for (; i < m; i += V) put_last(finish, i, m, row.next(i));
}

template <bool streamed, class C, int K, class Column, class Finish>
LAPCORE_INLINE void expand_row(const Axis& axis, const Weights<C> weights, const Column& column, const Finish& finish) {
    constexpr std::int64_t V = kLanes<C>;
    const Columns<C, K, Column> columns(axis, column);
    const std::int64_t n = axis.n_src(), m = axis.n_dst();
    const Pixel<C, K> after = columns.padding(n);
    const auto last = [&](std::int64_t p) LAPCORE_INLINE_LAMBDA -> Pixels<C, K> {
        Pixels<C, K> pixels = columns.last(p);
        if (n - p < V) set(pixels, n - p, after);
        return pixels;
    };
    Expanded<C, K> row(weights, columns.padding(-1), V <= n ? columns.whole(0) : last(0));
    std::int64_t p = 0;
    for (; p + 2 * V <= n; p += V) put_whole<streamed>(finish, 2 * p, row.step(columns.whole(p + V)));
    for (; p < n; p += V) put_last(finish, 2 * p, m, row.step(p + V < n ? last(p + V) : splat(after)));
}

// A row of the low-pass and, a vector of it behind, the two rows that lie between it and the row before: `finish` takes
// those of the low-pass, even_finish and odd_finish those of up(low-pass). a and b are the low-pass's rows before and
// `out` its own, in which all that the border rule reads must lie within a vector of either end.
template <bool streamed, class C, class Column, class Finish, class BandFinish>
LAPCORE_INLINE void level_row(const Axis& down, const Axis& up, const Column& column, const C* a, const C* b, C* out,
                              const Finish& finish, const BandFinish& even_finish, const BandFinish& odd_finish) {
    constexpr std::int64_t V = kLanes<C>;
    const Weights<C> w = up.weights<C>();
    const auto even_column = [=](const auto& at)
                                 LAPCORE_INLINE_LAMBDA { return (at(a) + at(out)) * w.outer + at(b) * w.inner; };
    const auto odd_column = [=](const auto& at) LAPCORE_INLINE_LAMBDA { return (at(b) + at(out)) * w.centre; };
    const Columns<C, 1, decltype(even_column)> even_columns(up, even_column);
    const Columns<C, 1, decltype(odd_column)> odd_columns(up, odd_column);
    const std::int64_t m = down.n_dst(), n = up.n_dst();

    Decimated<C, 1, Column> low(down, down.weights<C>(), column);
    const auto put_low = [&](std::int64_t i) LAPCORE_INLINE_LAMBDA {
        if (low.is_whole(i)) {
            put_whole<false>(finish, i, low.next_whole(i));
        } else {
            put_last(finish, i, m, low.next(i));
        }
    };
    // What the columns of the low-pass add up to, with what stands after the row.
    const auto last = [&](const auto& columns, std::int64_t i) LAPCORE_INLINE_LAMBDA -> Pixels<C, 1> {
        Pixels<C, 1> samples = columns.last(i);
        if (m - i < V) set(samples, m - i, columns.padding(m));
        return samples;
    };
    put_low(0);
    Expanded<C, 1> even_row(w, even_columns.padding(-1), m < V ? last(even_columns, 0) : even_columns.whole(0));
    Expanded<C, 1> odd_row(w, odd_columns.padding(-1), m < V ? last(odd_columns, 0) : odd_columns.whole(0));
    std::int64_t i = V;
    for (; low.is_whole(i) && i + V <= m; i += V) {
        const Vector<C> own = finish(Vector<C>{}, low.next_whole(i).channel[0]), before = load(b + i);
        store(out + i, own);
        const Pixels<C, 1> even_sums{{(load(a + i) + own) * w.outer + before * w.inner}};
        const Pixels<C, 1> odd_sums{{(before + own) * w.centre}};
        put_whole<streamed>(even_finish, 2 * (i - V), even_row.step(even_sums));
        put_whole<streamed>(odd_finish, 2 * (i - V), odd_row.step(odd_sums));
    }
    for (; i < m; i += V) {
        put_low(i);
        put_whole<streamed>(even_finish, 2 * (i - V), even_row.step(last(even_columns, i)));
        put_whole<streamed>(odd_finish, 2 * (i - V), odd_row.step(last(odd_columns, i)));
    }
    put_last(even_finish, 2 * (i - V), n, even_row.step(splat(even_columns.padding(m))));
    put_last(odd_finish, 2 * (i - V), n, odd_row.step(splat(odd_columns.padding(m))));
}

}  // namespace lapcore::LAPCORE_ISA
