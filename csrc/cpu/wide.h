// Forward operators along rows of any length, in one pass: the columns' sums of a vector of samples are taken, and what
// stands before and after each sample comes from the vectors beside it, so that no line goes through memory. Included
// once per instruction set.
//
// `column(at)` adds up a column, at(row) reading one row's sample or vector. The border rule's samples are few and are
// added up one by one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/axis.h"
#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

template <class C>
LAPCORE_INLINE Vector<C> splat(C value) {
    return Vector<C>{} + value;
}

template <class C, class Column>
class Columns {
public:
    Columns(const Axis& axis, const Column& column) : axis_(axis), column_(column), n_(axis.n_src()) {}

    LAPCORE_INLINE Vector<C> vector(std::int64_t x) const {
        return column_([=](const C* row) LAPCORE_INLINE_LAMBDA { return load(row + x); });
    }
    // The samples from x on as far as the row goes.
    LAPCORE_INLINE Vector<C> last(std::int64_t x) const {
        const std::int64_t count = std::clamp<std::int64_t>(n_ - x, 0, kLanes<C>);
        return column_([=](const C* row) LAPCORE_INLINE_LAMBDA { return load_first(row + x, count); });
    }
    // What stands at position x before the row or after it.
    LAPCORE_INLINE C padding(std::int64_t x) const {
        const std::int64_t q = axis_.padding(x);
        if (q == kOutside) return 0;
        return static_cast<C>(column_([=](const C* row) LAPCORE_INLINE_LAMBDA { return row[q]; }));
    }

private:
    const Axis& axis_;
    const Column& column_;
    std::int64_t n_;
};

// A decimating operator's row, vector after vector: output i is of samples 2i - 2 .. 2i + 2.
template <class C, class Column>
class Decimated {
public:
    static constexpr std::int64_t V = kLanes<C>;

    LAPCORE_INLINE Decimated(const Axis& axis, const Weights<C>& weights, const Column& column)
        : w_(weights), columns_(axis, column), n_(axis.n_src()), m_(axis.n_dst()), after_(columns_.padding(2 * m_)) {
        before_ = {splat<C>(columns_.padding(-2)), splat<C>(columns_.padding(-1))};
        now_ = 2 * V <= n_ ? whole(0) : last(0);
    }

    // Whether the vector of outputs from i on, the next one, and all that it reads is whole.
    LAPCORE_INLINE bool is_whole(std::int64_t i) const { return 2 * i + 4 * V <= n_; }

    LAPCORE_INLINE Vector<C> next_whole(std::int64_t i) { return step(whole(i + V)); }
    LAPCORE_INLINE Vector<C> next(std::int64_t i) {
        return step(i + V < m_ ? last(i + V) : Samples{splat<C>(after_), {}});
    }

private:
    struct Samples {
        Vector<C> even, odd;
    };

    LAPCORE_INLINE Samples whole(std::int64_t i) const {
        const Vector<C> a = columns_.vector(2 * i), b = columns_.vector(2 * i + V);
        return {even<C>(a, b), odd<C>(a, b)};
    }
    LAPCORE_INLINE Samples last(std::int64_t i) const {
        const Vector<C> a = columns_.last(2 * i), b = columns_.last(2 * i + V);
        Samples samples{even<C>(a, b), odd<C>(a, b)};
        if (m_ - i < V) samples.even[m_ - i] = after_;
        if (n_ % 2 != 0 && m_ - i <= V) samples.odd[m_ - 1 - i] = columns_.padding(n_);
        return samples;
    }
    LAPCORE_INLINE Vector<C> step(const Samples& next) {
        const Vector<C> sum =
            ((one_before<C>(before_.even, now_.even) + one_after<C>(now_.even, next.even)) * w_.outer +
             (one_before<C>(before_.odd, now_.odd) + now_.odd) * w_.inner) +
            now_.even * w_.centre;
        before_ = now_;
        now_ = next;
        return sum;
    }

    Weights<C> w_;
    Columns<C, Column> columns_;
    std::int64_t n_, m_;
    C after_;
    Samples before_, now_;
};

// An expanding operator's row, two vectors of outputs for each of samples: 2p and 2p + 1 are of samples p - 1 .. p + 1.
template <class C>
class Expanded {
public:
    LAPCORE_INLINE Expanded(const Weights<C>& weights, C before, Vector<C> first)
        : w_(weights), before_(splat<C>(before)), now_(first) {}

    // The outputs of the samples before `next`.
    LAPCORE_INLINE TwoVectors<C> step(Vector<C> next) {
        const Vector<C> following = one_after<C>(now_, next);
        const Vector<C> even_sums = (one_before<C>(before_, now_) + following) * w_.outer + now_ * w_.inner;
        const Vector<C> odd_sums = (now_ + following) * w_.centre;
        before_ = now_;
        now_ = next;
        return interleave<C>(even_sums, odd_sums);
    }

private:
    Weights<C> w_;
    Vector<C> before_, now_;
};

// Two whole vectors of outputs from i on, and as much of them as there is in a row of n.
template <bool streamed, class C, class Finish>
LAPCORE_INLINE void put_whole(const Finish& finish, std::int64_t i, const TwoVectors<C>& out) {
    if constexpr (streamed) {
        finish.vector_past_caches(i, out.first);
        finish.vector_past_caches(i + kLanes<C>, out.second);
    } else {
        finish.vector(i, out.first);
        finish.vector(i + kLanes<C>, out.second);
    }
}
template <class C, class Finish>
LAPCORE_INLINE void put_last(const Finish& finish, std::int64_t i, std::int64_t n, const TwoVectors<C>& out) {
    constexpr std::int64_t V = kLanes<C>;
    finish.first(i, out.first, std::min(n - i, V));
    if (n - i > V) finish.first(i + V, out.second, std::min(n - i - V, V));
}

template <class C, class Column, class Finish>
LAPCORE_INLINE void decimate_row(const Axis& axis, const Weights<C> weights, const Column& column,
                                 const Finish& finish) {
    constexpr std::int64_t V = kLanes<C>;
    const std::int64_t m = axis.n_dst();
    Decimated<C, Column> row(axis, weights, column);
    std::int64_t i = 0;
    for (; row.is_whole(i); i += V) finish.vector(i, row.next_whole(i));
    for (; i < m; i += V) finish.first(i, row.next(i), std::min(m - i, V));
}

template <bool streamed, class C, class Column, class Finish>
LAPCORE_INLINE void expand_row(const Axis& axis, const Weights<C> weights, const Column& column, const Finish& finish) {
    constexpr std::int64_t V = kLanes<C>;
    const Columns<C, Column> columns(axis, column);
    const std::int64_t n = axis.n_src(), m = axis.n_dst();
    const C after = columns.padding(n);
    const auto last = [&](std::int64_t p) LAPCORE_INLINE_LAMBDA -> Vector<C> {
        Vector<C> samples = columns.last(p);
        if (n - p < V) samples[n - p] = after;
        return samples;
    };
    Expanded<C> row(weights, columns.padding(-1), V <= n ? columns.vector(0) : last(0));
    std::int64_t p = 0;
    for (; p + 2 * V <= n; p += V) put_whole<streamed>(finish, 2 * p, row.step(columns.vector(p + V)));
    for (; p < n; p += V) put_last(finish, 2 * p, m, row.step(p + V < n ? last(p + V) : splat<C>(after)));
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
    const Columns<C, decltype(even_column)> even_columns(up, even_column);
    const Columns<C, decltype(odd_column)> odd_columns(up, odd_column);
    const std::int64_t m = down.n_dst(), n = up.n_dst();

    Decimated<C, Column> low(down, down.weights<C>(), column);
    const auto put_low = [&](std::int64_t i) LAPCORE_INLINE_LAMBDA {
        if (low.is_whole(i)) {
            finish.vector(i, low.next_whole(i));
        } else {
            finish.first(i, low.next(i), std::min(m - i, V));
        }
    };
    // What the columns of the low-pass add up to, with what stands after the row.
    const auto last = [&](const auto& columns, std::int64_t i) LAPCORE_INLINE_LAMBDA -> Vector<C> {
        Vector<C> samples = columns.last(i);
        if (m - i < V) samples[m - i] = columns.padding(m);
        return samples;
    };
    put_low(0);
    Expanded<C> even_row(w, even_columns.padding(-1), m < V ? last(even_columns, 0) : even_columns.vector(0));
    Expanded<C> odd_row(w, odd_columns.padding(-1), m < V ? last(odd_columns, 0) : odd_columns.vector(0));
    std::int64_t i = V;
    for (; low.is_whole(i) && i + V <= m; i += V) {
        const Vector<C> own = finish(Vector<C>{}, low.next_whole(i)), before = load(b + i);
        store(out + i, own);
        const Vector<C> ev = (load(a + i) + own) * w.outer + before * w.inner;
        const Vector<C> ov = (before + own) * w.centre;
        put_whole<streamed>(even_finish, 2 * (i - V), even_row.step(ev));
        put_whole<streamed>(odd_finish, 2 * (i - V), odd_row.step(ov));
    }
    for (; i < m; i += V) {
        put_low(i);
        put_whole<streamed>(even_finish, 2 * (i - V), even_row.step(last(even_columns, i)));
        put_whole<streamed>(odd_finish, 2 * (i - V), odd_row.step(last(odd_columns, i)));
    }
    put_last(even_finish, 2 * (i - V), n, even_row.step(splat<C>(even_columns.padding(m))));
    put_last(odd_finish, 2 * (i - V), n, odd_row.step(splat<C>(odd_columns.padding(m))));
}

}  // namespace lapcore::LAPCORE_ISA
