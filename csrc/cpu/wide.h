// Forward operators along rows of any length, in one pass: the columns' sums of a vector of pixels are taken, and what
// stands before and after each comes from the vectors beside it, so that no line goes through memory. Included once per
// instruction set.
#pragma once

#include <cstdint>

#include "cpu/columns.h"
#include "cpu/finish.h"

namespace lapcore::LAPCORE_ISA {

// A decimating operator's row, vector after vector: output i is of pixels 2i - 2 .. 2i + 2.
template <class F, int K, class Column>
class Decimated {
public:
    using C = typename F::Sum;
    static constexpr std::int64_t V = kLanes<C>;

    LAPCORE_INLINE Decimated(const Axis& axis, const Decimating<C>& stencil, const Column& column)
        : stencil_(stencil),
          columns_(axis, column),
          n_(axis.n_src()),
          m_(axis.n_dst()),
          after_(columns_.padding(2 * m_)) {
        before_ = {splat(columns_.padding(-2)), splat(columns_.padding(-1))};
        now_ = 2 * V <= n_ ? columns_.whole_halves(0) : last(0);
    }

    // Whether the vector of outputs from i on, the next one, and all that it reads is whole.
    LAPCORE_INLINE bool is_whole(std::int64_t i) const { return 2 * i + 4 * V <= n_; }

    LAPCORE_INLINE Pixels<C, K> next_whole(std::int64_t i) { return step(columns_.whole_halves(2 * (i + V))); }
    LAPCORE_INLINE Pixels<C, K> next(std::int64_t i) {
        return step(i + V < m_ ? last(i + V) : PixelHalves<C, K>{splat(after_), {}});
    }

private:
    LAPCORE_INLINE PixelHalves<C, K> last(std::int64_t i) const {
        PixelHalves<C, K> halves = columns_.last_halves(2 * i);
        if (m_ - i < V) set(halves.even, m_ - i, after_);
        if (n_ % 2 != 0 && m_ - i <= V) set(halves.odd, m_ - 1 - i, columns_.padding(n_));
        return halves;
    }
    LAPCORE_INLINE Pixels<C, K> step(const PixelHalves<C, K>& next) {
        const Pixels<C, K> a = one_before(before_.even, now_.even), b = one_before(before_.odd, now_.odd);
        const Pixels<C, K> e = one_after(now_.even, next.even), c = now_.even, d = now_.odd;
        before_ = now_;
        now_ = next;
        return each_channel<C, K>([&](int k) LAPCORE_INLINE_LAMBDA {
            return stencil_.rounded_sum(a.channel[k], b.channel[k], c.channel[k], d.channel[k], e.channel[k]);
        });
    }

    Decimating<C> stencil_;
    Columns<F, K, Column> columns_;
    std::int64_t n_, m_;
    Pixel<C, K> after_;
    PixelHalves<C, K> before_, now_;
};

// An expanding operator's row, two vectors of outputs for each of pixels: 2p and 2p + 1 are of pixels p - 1 .. p + 1.
template <class C, int K>
class Expanded {
public:
    LAPCORE_INLINE Expanded(const Expanding<C>& stencil, const Pixel<C, K>& before, const Pixels<C, K>& first)
        : stencil_(stencil), before_(splat(before)), now_(first) {}

    // The even and the odd outputs of the pixels before `next`.
    LAPCORE_INLINE PixelHalves<C, K> step(const Pixels<C, K>& next) {
        const Pixels<C, K> a = one_before(before_, now_), b = now_, c = one_after(now_, next);
        before_ = now_;
        now_ = next;
        return {each_channel<C, K>([&](int k) LAPCORE_INLINE_LAMBDA {
                    return stencil_.rounded_even(a.channel[k], b.channel[k], c.channel[k]);
                }),
                each_channel<C, K>(
                    [&](int k) LAPCORE_INLINE_LAMBDA { return stencil_.rounded_odd(b.channel[k], c.channel[k]); })};
    }

private:
    Expanding<C> stencil_;
    Pixels<C, K> before_, now_;
};

// A whole vector of outputs from i on, and as much of one as there is in a row of n.
template <class C, int K, class Finish>
LAPCORE_INLINE void put_whole(const Finish& finish, std::int64_t i, const Pixels<C, K>& out) {
    join(out, [&](std::int64_t m, Vector<C> v) LAPCORE_INLINE_LAMBDA { finish.vector(K * i + m * kLanes<C>, v); });
}
template <class C, int K, class Finish>
LAPCORE_INLINE void put_last(const Finish& finish, std::int64_t i, std::int64_t n, const Pixels<C, K>& out) {
    join(out, [&](std::int64_t m, Vector<C> v) LAPCORE_INLINE_LAMBDA {
        const std::int64_t begin = K * i + m * kLanes<C>;
        if (begin < K * n) finish.first(begin, v, std::min(K * n - begin, kLanes<C>));
    });
}

// The same of two vectors of outputs, which come as the even and the odd ones.
template <class C, int K>
struct TwoPixels {
    Pixels<C, K> first, second;
};
template <class C, int K>
LAPCORE_INLINE TwoPixels<C, K> interleave(const PixelHalves<C, K>& halves) {
    return {each_channel<C, K>([&](int k) LAPCORE_INLINE_LAMBDA {
                return interleave_first<C>(halves.even.channel[k], halves.odd.channel[k]);
            }),
            each_channel<C, K>([&](int k) LAPCORE_INLINE_LAMBDA {
                return interleave_second<C>(halves.even.channel[k], halves.odd.channel[k]);
            })};
}
template <class C, int K, class Finish>
LAPCORE_INLINE void put_whole(const Finish& finish, std::int64_t i, const PixelHalves<C, K>& out) {
    if constexpr (K == 1) {
        finish.pair(i, {out.even.channel[0], out.odd.channel[0]});
    } else {
        const TwoPixels<C, K> pixels = interleave(out);
        put_whole(finish, i, pixels.first);
        put_whole(finish, i + kLanes<C>, pixels.second);
    }
}
template <class C, int K, class Finish>
LAPCORE_INLINE void put_last(const Finish& finish, std::int64_t i, std::int64_t n, const PixelHalves<C, K>& out) {
    if constexpr (K == 1) {
        if (i < n) finish.first_pair(i, {out.even.channel[0], out.odd.channel[0]}, std::min(n - i, 2 * kLanes<C>));
    } else {
        const TwoPixels<C, K> pixels = interleave(out);
        put_last(finish, i, n, pixels.first);
        put_last(finish, i + kLanes<C>, n, pixels.second);
    }
}

template <class F, int K, class Column>
LAPCORE_INLINE void decimate_row(const Axis& axis, const Decimating<typename F::Sum> stencil, const Column& column,
                                 const Finish<F, false>& finish) {
    constexpr std::int64_t V = kLanes<typename F::Sum>;
    const std::int64_t m = axis.n_dst();
    Decimated<F, K, Column> row(axis, stencil, column);
    std::int64_t i = 0;
    for (; row.is_whole(i); i += V) put_whole(finish, i, row.next_whole(i));
    for (; i < m; i += V) put_last(finish, i, m, row.next(i));
}

// The rows 2y and 2y + 1 of an expanding operator, from rows y - 1, y and y + 1.
template <class F, int K, bool kBase>
LAPCORE_INLINE void expand_rows(const Axis& axis, const Expanding<typename F::Sum> rows,
                                const Expanding<typename F::Sum> columns, const typename F::Sample* const* p,
                                const Finish<F, kBase>& even_finish, const Finish<F, kBase>& odd_finish) {
    using C = typename F::Sum;
    constexpr std::int64_t V = kLanes<C>;
    const auto even_column = even_row(p[0], p[1], p[2], rows);
    const auto odd_column = odd_row(p[1], p[2], rows);
    const Columns<F, K, decltype(even_column)> even_columns(axis, even_column);
    const Columns<F, K, decltype(odd_column)> odd_columns(axis, odd_column);
    const std::int64_t n = axis.n_src(), m = axis.n_dst();
    const Pixel<C, K> even_after = even_columns.padding(n), odd_after = odd_columns.padding(n);
    const auto last = [&](const auto& of, const Pixel<C, K>& after, std::int64_t x)
                          LAPCORE_INLINE_LAMBDA -> Pixels<C, K> {
        if (x >= n) return splat(after);
        Pixels<C, K> pixels = of.last(x);
        if (n - x < V) set(pixels, n - x, after);
        return pixels;
    };
    Expanded<C, K> even_out(columns, even_columns.padding(-1), last(even_columns, even_after, 0));
    Expanded<C, K> odd_out(columns, odd_columns.padding(-1), last(odd_columns, odd_after, 0));
    std::int64_t x = 0;
    for (; x + 2 * V <= n; x += V) {
        __builtin_prefetch(p[2] + K * (x + n));  // of contiguous rows, the one that the next two outputs read
        const Pixels<C, K> even_next = even_columns.whole(x + V), odd_next = odd_columns.whole(x + V);
        put_whole(even_finish, 2 * x, even_out.step(even_next));
        put_whole(odd_finish, 2 * x, odd_out.step(odd_next));
    }
    for (; x < n; x += V) {
        put_last(even_finish, 2 * x, m, even_out.step(last(even_columns, even_after, x + V)));
        put_last(odd_finish, 2 * x, m, odd_out.step(last(odd_columns, odd_after, x + V)));
    }
}

// A row of the low-pass and, a vector of it behind, the two rows that lie between it and the row before: `finish` takes
// those of the low-pass, even_finish and odd_finish those of up(low-pass). a and b are the low-pass's rows before and
// `out` its own, in which all that the border rule reads must lie within a vector of either end.
template <class F, class Column>
LAPCORE_INLINE void level_row(const Axis& down, const Axis& up, const Column& column,
                              const Expanding<typename F::Sum>& w, const typename F::Sample* a,
                              const typename F::Sample* b, const Finish<F, false>& finish,
                              const Finish<F, true>& even_finish, const Finish<F, true>& odd_finish,
                              const Expanding<typename F::Sum>& columns) {
    using C = typename F::Sum;
    constexpr std::int64_t V = kLanes<C>;
    typename F::Sample* const out = finish.out;
    const auto even_column = even_row<typename F::Sample, C>(a, b, out, w);
    const auto odd_column = odd_row<typename F::Sample, C>(b, out, w);
    const Columns<F, 1, decltype(even_column)> even_columns(up, even_column);
    const Columns<F, 1, decltype(odd_column)> odd_columns(up, odd_column);
    const std::int64_t m = down.n_dst(), n = up.n_dst();

    Decimated<F, 1, Column> low(down, down.decimating<C>(), column);
    const auto put_low = [&](std::int64_t i) LAPCORE_INLINE_LAMBDA {
        if (low.is_whole(i)) {
            put_whole(finish, i, low.next_whole(i));
        } else {
            put_last(finish, i, m, low.next(i));
        }
    };
    // What the columns of the low-pass add up to, with what stands after the row.
    const auto last = [&](const auto& of, std::int64_t i) LAPCORE_INLINE_LAMBDA -> Pixels<C, 1> {
        Pixels<C, 1> samples = of.last(i);
        if (m - i < V) set(samples, m - i, of.padding(m));
        return samples;
    };
    put_low(0);
    Expanded<C, 1> even_out(columns, even_columns.padding(-1), last(even_columns, 0));
    Expanded<C, 1> odd_out(columns, odd_columns.padding(-1), last(odd_columns, 0));
    std::int64_t i = V;
    for (; low.is_whole(i) && i + V <= m; i += V) {
        const Vector<C> own = finish.value(Vector<C>{}, low.next_whole(i).channel[0]);
        store_as<C>(out + i, own);
        const Vector<C> above = load_as<C>(a + i), before = load_as<C>(b + i);  // a is `out` where a border mirrors it
        put_whole(even_finish, 2 * (i - V), even_out.step(Pixels<C, 1>{{w.even(above, before, own)}}));
        put_whole(odd_finish, 2 * (i - V), odd_out.step(Pixels<C, 1>{{w.odd(before, own)}}));
    }
    for (; i < m; i += V) {
        put_low(i);
        put_whole(even_finish, 2 * (i - V), even_out.step(last(even_columns, i)));
        put_whole(odd_finish, 2 * (i - V), odd_out.step(last(odd_columns, i)));
    }
    put_last(even_finish, 2 * (i - V), n, even_out.step(splat(even_columns.padding(m))));
    put_last(odd_finish, 2 * (i - V), n, odd_out.step(splat(odd_columns.padding(m))));
}

}  // namespace lapcore::LAPCORE_ISA
