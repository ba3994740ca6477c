// Operators through a line. Included once per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/finish.h"
#include "cpu/stencil.h"

namespace lapcore::LAPCORE_ISA {

// A column of any taps: those that repeat are summed up in the order of all the others.
template <class S, class C>
struct TapsColumn {
    const S* const* rows;
    const C* weights;
    int count;

    bool is(int n) const { return count == n && weights[0] == weights[n - 1]; }

    template <class At>
    auto operator()(const At& at) const {
        using Value = decltype(at(rows[0]));
        if (is(5) && weights[1] == weights[3])
            return Value(((at(rows[0]) + at(rows[4])) * weights[0] + (at(rows[1]) + at(rows[3])) * weights[1]) +
                         at(rows[2]) * weights[2]);
        if (is(3)) return Value((at(rows[0]) + at(rows[2])) * weights[0] + at(rows[1]) * weights[1]);
        if (is(2)) return Value((at(rows[0]) + at(rows[1])) * weights[0]);
        Value sum{};
        for (int k = 0; k < count; ++k) sum = Value(sum + at(rows[k]) * weights[k]);
        return sum;
    }
};

// The columns of n samples into a line; into its even and odd samples where it is to be decimated.
template <class S, class C>
void combine_rows(const TapsColumn<S, C>& column, std::int64_t n, const Line<C>& line, bool decimates) {
    constexpr std::int64_t V = kLanes<C>;
    const auto at = [&](std::int64_t x) {
        const std::int64_t count = std::clamp<std::int64_t>(n - x, 0, V);
        return column([=](const S* p) LAPCORE_INLINE_LAMBDA { return load_first_as<C>(p + x, count); });
    };
    if (!decimates) {
        for (std::int64_t x = 0; x < n; x += V) store(line.whole() + x, at(x));
        return;
    }
    for (std::int64_t x = 0; x < n; x += 2 * V) {
        const auto a = at(x), b = at(x + V);
        store(line.whole() + x / 2, even<C>(a, b));
        store(line.odd() + x / 2, odd<C>(a, b));
    }
}

// What stands before and after a line.
template <class C>
void pad_line(const Axis& axis, const Line<C>& line) {
    const std::int64_t n = axis.n_src();
    const bool halved = axis.decimates();
    C *const whole = line.whole(), *const odd = line.odd();
    const auto at = [=](std::int64_t p) -> C* {
        if (!halved) return whole + p;
        return (p % 2 != 0 ? odd : whole) + (p >> 1);
    };
    for (const std::int64_t p : {std::int64_t(-2), std::int64_t(-1), n, n + 1}) {
        const std::int64_t from = axis.padding(p);
        *at(p) = from == kOutside ? C(0) : *at(from);
    }
}

// Outputs [lo, hi) of the decimating stencil: the i-th reads samples 2i - 2 .. 2i + 2.
template <class F, bool kBase, class C>
void decimate_line(const Decimating<C> w, const C* e, const C* o, std::int64_t lo, std::int64_t hi,
                   const Finish<F, kBase>& finish) {
    constexpr std::int64_t V = kLanes<C>;
    for (std::int64_t i = lo; i < hi; i += V) {
        const Vector<C> sum =
            w.rounded_sum(load(e + i - 1), load(o + i - 1), load(e + i), load(o + i), load(e + i + 1));
        i + V <= hi ? finish.vector(i, sum) : finish.first(i, sum, hi - i);
    }
}

// Outputs [lo, hi), lo even, of the expanding stencil: 2p and 2p + 1 read samples p - 1 .. p + 1.
template <class F, bool kBase, class C>
void expand_line(const Expanding<C> w, const C* s, std::int64_t lo, std::int64_t hi, const Finish<F, kBase>& finish) {
    constexpr std::int64_t V = kLanes<C>;
    for (std::int64_t i = lo; i < hi; i += 2 * V) {
        const C* const p = s + i / 2;
        const Vector<C> b = load(p), c = load(p + 1);
        const Halves<C> sums{w.rounded_even(load(p - 1), b, c), w.rounded_odd(b, c)};
        i + 2 * V <= hi ? finish.pair(i, sums) : finish.first_pair(i, sums, hi - i);
    }
}

// The outputs at the ends of a transpose, which folds border samples back onto them: they have taps of their own.
template <class F, bool kBase, class C>
void finish_ends(const Axis& axis, int sign, const Line<C>& line, const Finish<F, kBase>& finish) {
    const auto end = [&](std::int64_t i) {
        const Taps& taps = axis.end(i);
        C sum = 0;
        for (int k = 0; k < taps.count; ++k) {
            const std::int64_t p = taps.index[k];
            const C sample = !axis.decimates() ? line.whole()[p] : (p % 2 != 0 ? line.odd() : line.whole())[p / 2];
            sum = C(sum + sample * axis.weight<C>(taps.weight[k]));
        }
        finish.one(i, std::is_floating_point_v<C> && sign < 0 ? C(-sum) : sum);
    };
    for (std::int64_t i = 0; i < axis.lo(); ++i) end(i);
    for (std::int64_t i = axis.hi(); i < axis.n_dst(); ++i) end(i);
}

}  // namespace lapcore::LAPCORE_ISA
