// The kernels of a block of rows: one pass for forward operators, two for transposes.
#include "cpu/stencil.h"

#include <algorithm>
#include <cstdint>

#include "cpu/wide.h"

namespace lapcore::LAPCORE_ISA {
namespace {

// A column of any taps: those that repeat are summed up in the order of all the others.
template <class C>
struct TapsColumn {
    const C* const* rows;
    const C* weights;
    int count;

    template <class At>
    auto operator()(const At& at) const {
        using Value = decltype(at(rows[0]));
        const auto is = [&](int n) { return count == n && weights[0] == weights[n - 1]; };
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

}  // namespace

template <class C>
void combine_taps(const Axis& axis, const ShiftedTaps& taps, const C* const* rows, std::int64_t n, C* line,
                  C* odd_line) {
    constexpr std::int64_t V = kLanes<C>;
    C w[kMaxTaps];
    for (int k = 0; k < taps.count(); ++k) w[k] = axis.weight<C>(taps.weight(k));
    const TapsColumn<C> column{rows, w, taps.count()};
    const auto at = [&](std::int64_t x) {
        const std::int64_t count = std::clamp<std::int64_t>(n - x, 0, V);
        if (count == V) return column([=](const C* p) LAPCORE_INLINE_LAMBDA { return load(p + x); });
        return column([=](const C* p) LAPCORE_INLINE_LAMBDA { return load_first(p + x, count); });
    };
    if (!odd_line) {
        for (std::int64_t x = 0; x < n; x += V) store(line + x, at(x));
        return;
    }
    for (std::int64_t x = 0; x < n; x += 2 * V) {
        const auto a = at(x), b = at(x + V);
        store(line + x / 2, even<C>(a, b));
        store(odd_line + x / 2, odd<C>(a, b));
    }
}

namespace {

// What becomes of a sum: rounding, then base + it or base - it (sign 1 and -1; 0 without a base), then the store, past
// the caches if asked. Meanwhile what stands `ahead` of the base is fetched.
template <class C, int sign>
struct Finish {
    const C* base;
    C* out;
    Rounding<C> rounding;
    std::int64_t ahead = 0;

    template <class V>
    LAPCORE_INLINE V operator()(V base_value, V sum) const {
        const V value = rounding(sum);
        return sign == 0 ? value : sign > 0 ? V(base_value + value) : V(base_value - value);
    }
    LAPCORE_INLINE void one(std::int64_t i, C sum) const { out[i] = (*this)(sign ? base[i] : C(0), sum); }
    LAPCORE_INLINE void fetch(std::int64_t i) const {
        if (sign != 0) __builtin_prefetch(base + i + ahead);
    }
    LAPCORE_INLINE void vector(std::int64_t i, Vector<C> sum) const {
        fetch(i);
        store(out + i, (*this)(sign ? load(base + i) : Vector<C>{}, sum));
    }
    LAPCORE_INLINE void vector_past_caches(std::int64_t i, Vector<C> sum) const {
        fetch(i);
        stream(out + i, (*this)(sign ? load(base + i) : Vector<C>{}, sum));
    }
    LAPCORE_INLINE void first(std::int64_t i, Vector<C> sum, std::int64_t n) const {
        store_first(out + i, (*this)(sign ? load_first(base + i, n) : Vector<C>{}, sum), n);
    }
};

// Outputs [lo, hi) of the decimating stencil: the i-th reads samples 2i - 2 .. 2i + 2.
template <class C, int sign>
LAPCORE_INLINE void decimate(const Weights<C> w, const C* e, const C* o, std::int64_t lo, std::int64_t hi,
                             const Finish<C, sign> finish) {
    constexpr std::int64_t V = kLanes<C>;
    const auto sum = [=](std::int64_t i) LAPCORE_INLINE_LAMBDA {
        return ((load(e + i - 1) + load(e + i + 1)) * w.outer + (load(o + i - 1) + load(o + i)) * w.inner) +
               load(e + i) * w.centre;
    };
    std::int64_t i = lo;
    for (; i + V <= hi; i += V) finish.vector(i, sum(i));
    if (i < hi) finish.first(i, sum(i), hi - i);
}

// Outputs [lo, hi), lo even, of the expanding stencil: 2p and 2p + 1 read samples p - 1 .. p + 1.
template <class C, int sign>
LAPCORE_INLINE void expand(const Weights<C> w, const C* s, std::int64_t lo, std::int64_t hi,
                           const Finish<C, sign> finish) {
    constexpr std::int64_t V = kLanes<C>;
    const auto pairs = [=](std::int64_t p) LAPCORE_INLINE_LAMBDA -> TwoVectors<C> {
        const auto b = load(s + p), c = load(s + p + 1);
        const Vector<C> even_sums = (load(s + p - 1) + c) * w.outer + b * w.inner;
        const Vector<C> odd_sums = (b + c) * w.centre;
        return interleave<C>(even_sums, odd_sums);
    };
    std::int64_t i = lo;
    for (; i + 2 * V <= hi; i += 2 * V) {
        const auto [a, b] = pairs(i / 2);
        finish.vector(i, a);
        finish.vector(i + V, b);
    }
    if (i == hi) return;
    const auto [a, b] = pairs(i / 2);
    if (hi - i >= V) {
        finish.vector(i, a);
        if (hi - i > V) finish.first(i + V, b, hi - i - V);
    } else {
        finish.first(i, a, hi - i);
    }
}

// One line into one row of outputs of a transpose, which folds border samples back onto the ends: those have taps of
// their own.
template <class C, int sign>
inline void along_line(const Axis& axis, C* line, C* odd_line, const Finish<C, sign>& finish) {
    const bool decimating = axis.decimates();
    const auto end = [&](std::int64_t i) {
        const Taps& taps = axis.end(i);
        C sum = 0;
        for (int k = 0; k < taps.count; ++k) {
            const std::int64_t p = taps.index[k];
            const C sample = !decimating ? line[p] : (p % 2 != 0 ? odd_line : line)[p / 2];
            sum = C(sum + sample * axis.weight<C>(taps.weight[k]));
        }
        finish.one(i, sum);
    };
    for (std::int64_t i = 0; i < axis.lo(); ++i) end(i);
    for (std::int64_t i = axis.hi(); i < axis.n_dst(); ++i) end(i);
    if (decimating) {
        decimate(axis.weights<C>(), line, odd_line, axis.lo(), axis.hi(), finish);
    } else {
        expand(axis.weights<C>(), line, axis.lo(), axis.hi(), finish);
    }
}

// The columns of a decimating operator's five rows.
template <class C>
LAPCORE_INLINE auto five_rows(const C* const* p, const Weights<C> w) {
    const C *a = p[0], *b = p[1], *c = p[2], *d = p[3], *e = p[4];
    return [=](const auto& at) LAPCORE_INLINE_LAMBDA {
        return ((at(a) + at(e)) * w.outer + (at(b) + at(d)) * w.inner) + at(c) * w.centre;
    };
}

// One row of a forward operator whose columns are added up by `column`.
template <class C, int sign, class Column>
LAPCORE_INLINE void run_down(const Operator<C>& op, const Column& column, const Finish<C, sign>& finish) {
    const Weights<C> weights = op.columns.template weights<C>();
    if constexpr (sign == 0) {
        if (op.channels == 3) return decimate_row<C, 3>(op.columns, weights, column, finish);
        if (op.channels == 4) return decimate_row<C, 4>(op.columns, weights, column, finish);
    }
    decimate_row<C, 1>(op.columns, weights, column, finish);
}
template <bool streamed, class C, int sign, class Column>
LAPCORE_INLINE void run_up(const Operator<C>& op, const Column& column, const Finish<C, sign>& finish) {
    const Weights<C> weights = op.columns.template weights<C>();
    if constexpr (sign == 0) {
        if (op.channels == 3) return expand_row<streamed, C, 3>(op.columns, weights, column, finish);
        if (op.channels == 4) return expand_row<streamed, C, 4>(op.columns, weights, column, finish);
    }
    expand_row<streamed, C, 1>(op.columns, weights, column, finish);
}

}  // namespace

template <int sign, class C>
void finish_lines(const Axis& columns, const Block<C>& block, const Lines<C>& lines) {
    const Rounding<C> rounding = columns.rounding<C>();
    for (std::int64_t r = 0; r < block.count; ++r)
        along_line(columns, lines.whole(r), lines.odd(r), Finish<C, sign>{block.base[r], block.out[r], rounding});
}

template <int sign, class C>
void run_window(const Operator<C>& op, std::int64_t first, const Block<C>& block, bool streamed, std::int64_t ahead) {
    const Weights<C> w = op.rows.template weights<C>();
    const Rounding<C> rounding = op.columns.template rounding<C>();
    for (std::int64_t r = 0; r < block.count; ++r) {
        const Finish<C, sign> finish{block.base[r], block.out[r], rounding, ahead};
        if (op.rows.decimates()) {
            run_down(op, five_rows(block.source + 2 * r, w), finish);
            continue;
        }
        const C* const* p = block.source + ((first + r) / 2 - first / 2);
        const C *a = p[0], *b = p[1], *c = p[2];
        const auto even_column = [=](const auto& at)
                                     LAPCORE_INLINE_LAMBDA { return (at(a) + at(c)) * w.outer + at(b) * w.inner; };
        const auto odd_column = [=](const auto& at) LAPCORE_INLINE_LAMBDA { return (at(b) + at(c)) * w.centre; };
        const bool past_caches = streamed && is_aligned(finish.out);
        if ((first + r) % 2 == 0) {
            past_caches ? run_up<true>(op, even_column, finish) : run_up<false>(op, even_column, finish);
        } else {
            past_caches ? run_up<true>(op, odd_column, finish) : run_up<false>(op, odd_column, finish);
        }
    }
}

template <class C>
void run_level(const Operator<C>& down, const Operator<C>& up, const LevelRows<C>& rows, bool streamed,
               std::int64_t ahead) {
    const Weights<C> w = down.rows.template weights<C>();
    const auto column = five_rows(rows.source, w);
    const Finish<C, 0> low{nullptr, rows.out, down.columns.template rounding<C>()};
    const Rounding<C> rounding = up.columns.template rounding<C>();
    const Finish<C, -1> even_band{rows.source[0], rows.band[0], rounding, ahead};
    const Finish<C, -1> odd_band{rows.source[1], rows.band[1], rounding, ahead};
    if (streamed && is_aligned(rows.band[0]) && is_aligned(rows.band[1])) {
        level_row<true>(down.columns, up.columns, column, rows.low[0], rows.low[1], rows.out, low, even_band, odd_band);
    } else {
        level_row<false>(down.columns, up.columns, column, rows.low[0], rows.low[1], rows.out, low, even_band,
                         odd_band);
    }
}

template <int sign, class C>
void run_taps(const Operator<C>& op, const ShiftedTaps& taps, const C* const* rows, const C* base, C* out) {
    C w[kMaxTaps];
    for (int k = 0; k < taps.count(); ++k) w[k] = op.rows.template weight<C>(taps.weight(k));
    const Finish<C, sign> finish{base, out, op.columns.template rounding<C>()};
    const TapsColumn<C> column{rows, w, taps.count()};
    op.columns.decimates() ? run_down(op, column, finish) : run_up<false>(op, column, finish);
}

template <int sign, class C>
void run_narrow(const Operator<C>& op, std::int64_t first, const Block<C>& block) {
    if constexpr (kHasNarrow) {
        const Weights<C> rows = op.rows.template weights<C>(), columns = op.columns.template weights<C>();
        const Rounding<C> rounding = op.columns.template rounding<C>();
        const auto finish = [&](std::int64_t r) LAPCORE_INLINE_LAMBDA {
            return Finish<C, sign>{block.base[r], block.out[r], rounding};
        };
        const bool one = op.narrow.vectors == 1;
        if (op.columns.decimates()) {
            one ? op.narrow.down1.run(block.source, block.count, rows, columns, finish)
                : op.narrow.down2.run(block.source, block.count, rows, columns, finish);
        } else {
            one ? op.narrow.up1.run(block.source, first, block.count, rows, columns, finish)
                : op.narrow.up2.run(block.source, first, block.count, rows, columns, finish);
        }
    }
}

#define LAPCORE_FOR_SIGN(C, sign)                                                                             \
    template void finish_lines<sign, C>(const Axis&, const Block<C>&, const Lines<C>&);                       \
    template void run_window<sign, C>(const Operator<C>&, std::int64_t, const Block<C>&, bool, std::int64_t); \
    template void run_taps<sign, C>(const Operator<C>&, const ShiftedTaps&, const C* const*, const C*, C*);   \
    template void run_narrow<sign, C>(const Operator<C>&, std::int64_t, const Block<C>&);
#define LAPCORE_FOR(C)                                                                                           \
    template void run_level<C>(const Operator<C>&, const Operator<C>&, const LevelRows<C>&, bool, std::int64_t); \
    template void combine_taps<C>(const Axis&, const ShiftedTaps&, const C* const*, std::int64_t, C*, C*);       \
    LAPCORE_FOR_SIGN(C, 0)                                                                                       \
    LAPCORE_FOR_SIGN(C, 1)                                                                                       \
    LAPCORE_FOR_SIGN(C, -1)

LAPCORE_FOR(float)
LAPCORE_FOR(double)
LAPCORE_FOR(std::uint16_t)
LAPCORE_FOR(std::int32_t)

}  // namespace lapcore::LAPCORE_ISA
