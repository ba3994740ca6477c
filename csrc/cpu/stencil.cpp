// The two passes over a block of rows, and the one pass of narrow rows.
#include "cpu/stencil.h"

#include <algorithm>
#include <cstdint>

namespace lapcore::LAPCORE_ISA {
namespace {

// How many lanes of the last one or two vectors of a row of n are in use.
template <class C>
struct Tail {
    static constexpr std::int64_t V = kLanes<C>;
    std::int64_t begin, first, second;
    explicit Tail(std::int64_t n)
        : begin(n / (2 * V) * (2 * V)), first(std::min(n - begin, V)), second(n - begin - first) {}
};

// Lines of a decimating operator, from the rows p[0] .. p[2 count + 2] of its window: five for each line, two further
// on for the next.
template <class C>
LAPCORE_INLINE void combine_five(const C* const* p, std::int64_t count, std::int64_t n, const Weights<C>& weights,
                                 const Lines<C>& lines) {
    constexpr std::int64_t V = kLanes<C>;
    const Weights<C> w = weights;
    const Tail<C> tail(n);
    for (std::int64_t r = 0; r < count; ++r, p += 2) {
        const C *a = p[0], *b = p[1], *c = p[2], *d = p[3], *e = p[4];
        C *const even_line = lines.even(r), *const odd_line = lines.odd(r);
        const auto sum = [=](const auto& at) LAPCORE_INLINE_LAMBDA {
            return ((at(a) + at(e)) * w.outer + (at(b) + at(d)) * w.inner) + at(c) * w.centre;
        };
        const auto put = [=](std::int64_t x, Vector<C> first, Vector<C> second) LAPCORE_INLINE_LAMBDA {
            store(even_line + x / 2, even<C>(first, second));
            store(odd_line + x / 2, odd<C>(first, second));
        };
        for (std::int64_t x = 0; x < tail.begin; x += 2 * V)
            put(x, sum([=](const C* q) LAPCORE_INLINE_LAMBDA { return load(q + x); }),
                sum([=](const C* q) LAPCORE_INLINE_LAMBDA { return load(q + x + V); }));
        if (tail.first == 0) continue;
        const std::int64_t x = tail.begin;
        const auto first = sum([=](const C* q) LAPCORE_INLINE_LAMBDA { return load_first(q + x, tail.first); });
        const auto second =
            tail.second ? sum([=](const C* q) LAPCORE_INLINE_LAMBDA { return load_first(q + x + V, tail.second); })
                        : Vector<C>{};
        put(x, first, second);
    }
}

// One line of sum(at), n samples.
template <class C, class Sum>
LAPCORE_INLINE void combine_line(std::int64_t n, C* line, const Sum& sum) {
    constexpr std::int64_t V = kLanes<C>;
    std::int64_t x = 0;
    for (; x + V <= n; x += V) store(line + x, sum([=](const C* q) LAPCORE_INLINE_LAMBDA { return load(q + x); }));
    if (x < n) store(line + x, sum([=](const C* q) LAPCORE_INLINE_LAMBDA { return load_first(q + x, n - x); }));
}

// Lines of the expanding operator for outputs first .. first + count - 1, p[0] being the row before that of the first.
template <class C>
LAPCORE_INLINE void combine_pairs(const C* const* p, std::int64_t first, std::int64_t count, std::int64_t n,
                                  const Weights<C>& weights, const Lines<C>& lines) {
    const Weights<C> w = weights;
    for (std::int64_t r = 0; r < count; ++r) {
        const C* const* q = p + ((first + r) / 2 - first / 2);
        const C *a = q[0], *b = q[1], *c = q[2];
        if ((first + r) % 2 == 0) {
            combine_line<C>(n, lines.whole(r), [=](const auto& at) LAPCORE_INLINE_LAMBDA {
                return (at(a) + at(c)) * w.outer + at(b) * w.inner;
            });
        } else {
            combine_line<C>(n, lines.whole(r),
                            [=](const auto& at) LAPCORE_INLINE_LAMBDA { return (at(b) + at(c)) * w.centre; });
        }
    }
}

// Calls body(sum) where sum(at) adds up the rows r[k], of which at(r[k]) reads a vector.
template <class C, class Body>
LAPCORE_INLINE void by_pattern(int count, const C* const* r, const C* w, const Body& body) {
    if (count == 5 && w[0] == w[4] && w[1] == w[3]) {
        const C *a = r[0], *b = r[1], *c = r[2], *d = r[3], *e = r[4];
        const C outer = w[0], inner = w[1], centre = w[2];
        body([=](const auto& at) LAPCORE_INLINE_LAMBDA {
            return ((at(a) + at(e)) * outer + (at(b) + at(d)) * inner) + at(c) * centre;
        });
    } else if (count == 3 && w[0] == w[2]) {
        const C *a = r[0], *b = r[1], *c = r[2];
        const C outer = w[0], centre = w[1];
        body([=](const auto& at) LAPCORE_INLINE_LAMBDA { return (at(a) + at(c)) * outer + at(b) * centre; });
    } else if (count == 2 && w[0] == w[1]) {
        const C *a = r[0], *b = r[1];
        const C weight = w[0];
        body([=](const auto& at) LAPCORE_INLINE_LAMBDA { return (at(a) + at(b)) * weight; });
    } else {
        body([=](const auto& at) {
            Vector<C> sum{};
            for (int k = 0; k < count; ++k) sum = sum + at(r[k]) * w[k];
            return sum;
        });
    }
}

}  // namespace

template <class C>
void combine_taps(const Axis& axis, const ShiftedTaps& taps, const C* const* rows, std::int64_t n, C* line,
                  C* odd_line) {
    constexpr std::int64_t V = kLanes<C>;
    C w[kMaxTaps];
    for (int k = 0; k < taps.count(); ++k) w[k] = axis.weight<C>(taps.weight(k));
    by_pattern<C>(taps.count(), rows, w, [&](const auto& sum) {
        const auto at = [&](std::int64_t x) {
            const std::int64_t count = std::clamp<std::int64_t>(n - x, 0, V);
            if (count == V) return sum([=](const C* p) LAPCORE_INLINE_LAMBDA { return load(p + x); });
            return sum([=](const C* p) LAPCORE_INLINE_LAMBDA { return load_first(p + x, count); });
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
    });
}

template <class C>
void combine_window(const Operator<C>& op, std::int64_t first, const Block<C>& block, const Lines<C>& lines) {
    const Weights<C> weights = op.rows.template weights<C>();
    if (op.columns.decimates()) {
        combine_five(block.source, block.count, op.columns.n_src(), weights, lines);
    } else {
        combine_pairs(block.source, first, block.count, op.columns.n_src(), weights, lines);
    }
}

namespace {

// What becomes of a sum: rounding, then base + it or base - it (sign 1 and -1; 0 without a base), then the store, past
// the caches if asked.
template <class C, int sign>
struct Finish {
    const C* base;
    C* out;
    Rounding<C> rounding;
    bool streamed;

    template <class V>
    LAPCORE_INLINE V operator()(V base_value, V sum) const {
        const V value = rounding(sum);
        return sign == 0 ? value : sign > 0 ? V(base_value + value) : V(base_value - value);
    }
    LAPCORE_INLINE void one(std::int64_t i, C sum) const { out[i] = (*this)(sign ? base[i] : C(0), sum); }
    LAPCORE_INLINE void vector(std::int64_t i, Vector<C> sum) const {
        store(out + i, (*this)(sign ? load(base + i) : Vector<C>{}, sum));
    }
    LAPCORE_INLINE void vector_past_caches(std::int64_t i, Vector<C> sum) const {
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
    struct Pairs {
        Vector<C> first, second;
    };
    const auto pairs = [=](std::int64_t p) LAPCORE_INLINE_LAMBDA -> Pairs {
        const auto b = load(s + p), c = load(s + p + 1);
        const Vector<C> even_sums = (load(s + p - 1) + c) * w.outer + b * w.inner;
        const Vector<C> odd_sums = (b + c) * w.centre;
        return {interleave_first<C>(even_sums, odd_sums), interleave_second<C>(even_sums, odd_sums)};
    };
    std::int64_t i = lo;
    if (finish.streamed && is_aligned(finish.out + lo)) {
        for (; i + 2 * V <= hi; i += 2 * V) {
            const auto [a, b] = pairs(i / 2);
            finish.vector_past_caches(i, a);
            finish.vector_past_caches(i + V, b);
        }
    } else {
        for (; i + 2 * V <= hi; i += 2 * V) {
            const auto [a, b] = pairs(i / 2);
            finish.vector(i, a);
            finish.vector(i + V, b);
        }
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

// Where in a line the samples before and after it are, and those that stand there.
template <class C>
struct Padding {
    std::int64_t to[2 * Axis::kPad], from[2 * Axis::kPad];

    Padding(const Axis& axis, const Lines<C>& lines) {
        const auto place = [&](std::int64_t p) {
            return axis.decimates() ? (p >> 1) + (p % 2 != 0 ? lines.half() : 0) : p;
        };
        int k = 0;
        axis.pad([&](std::int64_t p, std::int64_t q) {
            to[k] = place(p);
            from[k++] = q == kOutside ? Lines<C>::kZero : place(q);
        });
    }
    void operator()(C* line) const {
        for (int k = 0; k < 2 * Axis::kPad; ++k) line[to[k]] = line[from[k]];
    }
};

// One line into one row of outputs. Forward operators continue the line by the border rule and are one stencil
// throughout; transposes fold border samples back onto the ends, which have taps of their own.
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

}  // namespace

template <int sign, class C>
void finish_lines(const Axis& columns, const Block<C>& block, const Lines<C>& lines, bool streamed) {
    const Rounding<C> rounding = columns.rounding<C>();
    const Weights<C> weights = columns.weights<C>();
    // All lines before the first is read again: a load that overlaps a recent, smaller store waits for it.
    if (columns.forward()) {
        const Padding<C> pad(columns, lines);
        for (std::int64_t r = 0; r < block.count; ++r) pad(lines.whole(r));
    }
    for (std::int64_t r = 0; r < block.count; ++r) {
        C *const line = lines.whole(r), *const odd_line = lines.odd(r);
        const Finish<C, sign> finish{block.base[r], block.out[r], rounding, streamed};
        if (!columns.forward()) {
            along_line(columns, line, odd_line, finish);
        } else if (columns.decimates()) {
            decimate(weights, line, odd_line, 0, columns.n_dst(), finish);
        } else {
            expand(weights, line, 0, columns.n_dst(), finish);
        }
    }
}

template <int sign, class C>
void run_narrow(const Operator<C>& op, std::int64_t first, const Block<C>& block) {
    if constexpr (kHasNarrow) {
        const Weights<C> rows = op.rows.template weights<C>(), columns = op.columns.template weights<C>();
        const Rounding<C> rounding = op.columns.template rounding<C>();
        const auto finish = [&](std::int64_t r) LAPCORE_INLINE_LAMBDA {
            return Finish<C, sign>{block.base[r], block.out[r], rounding, false};
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

#define LAPCORE_FOR_SIGN(C, sign)                                                             \
    template void finish_lines<sign, C>(const Axis&, const Block<C>&, const Lines<C>&, bool); \
    template void run_narrow<sign, C>(const Operator<C>&, std::int64_t, const Block<C>&);
#define LAPCORE_FOR(C)                                                                                     \
    template void combine_window<C>(const Operator<C>&, std::int64_t, const Block<C>&, const Lines<C>&);   \
    template void combine_taps<C>(const Axis&, const ShiftedTaps&, const C* const*, std::int64_t, C*, C*); \
    LAPCORE_FOR_SIGN(C, 0)                                                                                 \
    LAPCORE_FOR_SIGN(C, 1)                                                                                 \
    LAPCORE_FOR_SIGN(C, -1)

LAPCORE_FOR(float)
LAPCORE_FOR(double)
LAPCORE_FOR(std::uint16_t)
LAPCORE_FOR(std::int32_t)

}  // namespace lapcore::LAPCORE_ISA
