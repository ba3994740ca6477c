// Forward operators on rows that fit a few vectors: no line goes through memory. Included once per instruction set.
//
// The sums are those of cpu/stencil.h, in its order; what lies before, after and beyond a sample comes by a shuffle
// whose indices hold the border rule.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/axis.h"
#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

#if defined(__AVX2__)
constexpr bool kHasNarrow = true;  // lanes in any order by one instruction
#else
constexpr bool kHasNarrow = false;
#endif

template <std::size_t bytes>
struct SignedOf;
template <>
struct SignedOf<2> {
    using type = std::int16_t;
};
template <>
struct SignedOf<4> {
    using type = std::int32_t;
};
template <>
struct SignedOf<8> {
    using type = std::int64_t;
};

// Which lane of two vectors, the first one's or the second one's, each lane of a shuffle takes.
template <class C>
struct Shuffle {
    using Index = typename SignedOf<sizeof(C)>::type;
    Vector<Index> lanes{};
    LAPCORE_INLINE Vector<C> operator()(Vector<C> a, Vector<C> b) const { return __builtin_shuffle(a, b, lanes); }
};

// Sets lane `lane` of a shuffle of vectors number `first` and `second` to lane `from` of vector `number`; false if that
// is neither.
template <class C>
inline bool set_lane(Shuffle<C>& shuffle, std::int64_t lane, std::int64_t number, std::int64_t from, std::int64_t first,
                     std::int64_t second) {
    if (number != first && number != second) return false;
    shuffle.lanes[lane] = static_cast<typename Shuffle<C>::Index>(from + (number == first ? 0 : kLanes<C>));
    return true;
}

// A row of n samples in `count` vectors; lanes beyond it are zero.
template <int count, bool full, class C>
LAPCORE_INLINE void load_vectors(const C* p, std::int64_t n, Vector<C> (&row)[count]) {
    constexpr std::int64_t V = kLanes<C>;
    for (int r = 0; r < count; ++r) {
        if constexpr (full) {
            row[r] = load(p + r * V);
        } else {
            row[r] = load_first(p + r * V, std::clamp<std::int64_t>(n - r * V, 0, V));
        }
    }
}

// The decimating operator on rows of up to 2R vectors. Even samples are the vectors 0 .. R-1, odd ones R .. 2R-1.
template <class C, int R>
class NarrowDown {
public:
    static constexpr std::int64_t V = kLanes<C>;

    // For rows of several images of the axis's length side by side, whose number of samples is then even. False where
    // they are longer or shorter, or a border's samples are in another vector.
    bool prepare(const Axis& axis, std::int64_t images = 1) {
        n_src_ = images * axis.n_src();
        n_dst_ = images * axis.n_dst();
        if (n_dst_ > R * V || n_dst_ <= (R - 1) * V || (images > 1 && axis.n_src() % 2 != 0)) return false;
        for (std::int64_t i = 0; i < n_dst_; ++i) {
            const std::int64_t r = i / V, lane = i % V, image = i / axis.n_dst(), k = i % axis.n_dst();
            const bool last = r == R - 1;
            const auto take = [&](Shuffle<C>& shuffle, std::int64_t p, std::int64_t first, std::int64_t second) {
                const std::int64_t own = axis.source(p), q = own + image * axis.n_src();
                return own != kOutside && set_lane(shuffle, lane, q / 2 / V + q % 2 * R, q / 2 % V, first, second);
            };
            const bool reached = take(even_before_[r], 2 * k - 2, r ? r - 1 : 0, r ? r : R) &&
                                 take(odd_before_[r], 2 * k - 1, r ? R + r - 1 : R, r ? R + r : 0) &&
                                 (!last || take(odd_after_, 2 * k + 1, R + r, r)) &&
                                 take(even_after_[r], 2 * k + 2, r, last ? R + r : r + 1);
            if (!reached) return false;
        }
        return true;
    }

    bool full() const { return n_src_ == 2 * R * V; }
    std::int64_t n_src() const { return n_src_; }
    std::int64_t n_dst() const { return n_dst_; }

    // The row of outputs whose columns add up to c.
    LAPCORE_INLINE void along(const Vector<C> (&c)[2 * R], const Weights<C>& w, Vector<C> (&out)[R]) const {
        Vector<C> even_samples[R], odd_samples[R];
        for (int r = 0; r < R; ++r) {
            even_samples[r] = even<C>(c[2 * r], c[2 * r + 1]);
            odd_samples[r] = odd<C>(c[2 * r], c[2 * r + 1]);
        }
        for (int r = 0; r < R; ++r) {
            const Vector<C> s0 = even_before_[r](even_samples[r ? r - 1 : 0], r ? even_samples[r] : odd_samples[0]);
            const Vector<C> s1 = odd_before_[r](odd_samples[r ? r - 1 : 0], r ? odd_samples[r] : even_samples[0]);
            const Vector<C> s3 = r < R - 1 ? odd_samples[r] : odd_after_(odd_samples[r], even_samples[r]);
            const Vector<C> s4 =
                even_after_[r](even_samples[r], r < R - 1 ? even_samples[r + 1 < R ? r + 1 : r] : odd_samples[r]);
            out[r] = ((s0 + s4) * w.outer + (s1 + s3) * w.inner) + even_samples[r] * w.centre;
        }
    }

    // What the columns of five rows add up to.
    template <bool full>
    LAPCORE_INLINE void columns(const C* const* p, const Weights<C>& w, Vector<C> (&out)[2 * R]) const {
        Vector<C> a[2 * R], b[2 * R], c[2 * R], d[2 * R], e[2 * R];
        load_vectors<2 * R, full>(p[0], n_src_, a);
        load_vectors<2 * R, full>(p[1], n_src_, b);
        load_vectors<2 * R, full>(p[2], n_src_, c);
        load_vectors<2 * R, full>(p[3], n_src_, d);
        load_vectors<2 * R, full>(p[4], n_src_, e);
        for (int r = 0; r < 2 * R; ++r) out[r] = ((a[r] + e[r]) * w.outer + (b[r] + d[r]) * w.inner) + c[r] * w.centre;
    }

    template <bool full, class Finish>
    LAPCORE_INLINE void put(const Vector<C> (&row)[R], const Finish& finish) const {
        for (int r = 0; r < R; ++r) {
            if (full || r < R - 1) {
                finish.vector(r * V, row[r]);
            } else {
                finish.first(r * V, row[r], n_dst_ - r * V);
            }
        }
    }

    // Rows of outputs from a window of rows, five for each and two further on for the next: begin(k) gives what
    // finishes the k-th.
    template <class Begin>
    LAPCORE_INLINE void run(const C* const* window, std::int64_t count, const Weights<C>& rows,
                            const Weights<C>& columns, const Begin& begin) const {
        full() ? run_rows<true>(window, count, rows, columns, begin)
               : run_rows<false>(window, count, rows, columns, begin);
    }

private:
    template <bool full, class Begin>
    LAPCORE_INLINE void run_rows(const C* const* p, std::int64_t count, const Weights<C> row_weights,
                                 const Weights<C> column_weights, const Begin& begin) const {
        const NarrowDown self = *this;
        for (std::int64_t k = 0; k < count; ++k, p += 2) {
            Vector<C> sums[2 * R], out[R];
            self.template columns<full>(p, row_weights, sums);
            self.along(sums, column_weights, out);
            self.template put<full>(out, begin(k));
        }
    }

    std::int64_t n_src_ = 0, n_dst_ = 0;
    Shuffle<C> even_before_[R], odd_before_[R], odd_after_, even_after_[R];
};

// The expanding operator from rows of up to R vectors.
template <class C, int R>
class NarrowUp {
public:
    static constexpr std::int64_t V = kLanes<C>;

    bool prepare(const Axis& axis, std::int64_t images = 1) {
        n_src_ = images * axis.n_src();
        n_dst_ = images * axis.n_dst();
        if (n_src_ > R * V || n_src_ <= (R - 1) * V || (images > 1 && axis.n_dst() % 2 != 0)) return false;
        for (std::int64_t p = 0; p < n_src_; ++p) {
            const std::int64_t r = p / V, lane = p % V, image = p / axis.n_src(), k = p % axis.n_src();
            if (axis.source(k - 1) == kOutside || axis.source(k + 1) == kOutside) return false;
            const std::int64_t before = axis.source(k - 1) + image * axis.n_src();
            const std::int64_t after = axis.source(k + 1) + image * axis.n_src();
            if (!set_lane(before_[r], lane, before / V, before % V, r ? r - 1 : 0, r) ||
                !set_lane(after_[r], lane, after / V, after % V, r, r < R - 1 ? r + 1 : r))
                return false;
        }
        return true;
    }

    bool full() const { return n_src_ == R * V && n_dst_ == 2 * n_src_; }
    std::int64_t n_src() const { return n_src_; }

    // The row of outputs whose columns add up to b.
    template <bool full, class Finish>
    LAPCORE_INLINE void along(const Vector<C> (&b)[R], const Weights<C>& w, const Finish& finish) const {
        for (int r = 0; r < R; ++r) {
            const Vector<C> before = before_[r](b[r ? r - 1 : 0], b[r]);
            const Vector<C> after = after_[r](b[r], b[r < R - 1 ? r + 1 : r]);
            const auto [one, two] =
                interleave<C>((before + after) * w.outer + b[r] * w.inner, (b[r] + after) * w.centre);
            const std::int64_t i = 2 * r * V;
            if (full || r < R - 1) {
                finish.vector(i, one);
                finish.vector(i + V, two);
            } else {
                finish.first(i, one, std::min<std::int64_t>(n_dst_ - i, V));
                if (n_dst_ - i > V) finish.first(i + V, two, n_dst_ - i - V);
            }
        }
    }

    // Rows of outputs from a window of rows, three for each two, `first` being the first's number.
    template <class Begin>
    LAPCORE_INLINE void run(const C* const* window, std::int64_t first, std::int64_t count, const Weights<C>& rows,
                            const Weights<C>& columns, const Begin& begin) const {
        full() ? run_rows<true>(window, first, count, rows, columns, begin)
               : run_rows<false>(window, first, count, rows, columns, begin);
    }

private:
    template <bool full, class Begin>
    LAPCORE_INLINE void run_rows(const C* const* window, std::int64_t first, std::int64_t count,
                                 const Weights<C> row_weights, const Weights<C> column_weights,
                                 const Begin& begin) const {
        const NarrowUp self = *this;
        for (std::int64_t k = 0; k < count; ++k) {
            const C* const* p = window + ((first + k) / 2 - first / 2);
            Vector<C> a[R], b[R], c[R];
            load_vectors<R, full>(p[1], n_src_, b);
            load_vectors<R, full>(p[2], n_src_, c);
            if ((first + k) % 2 == 0) {
                load_vectors<R, full>(p[0], n_src_, a);
                for (int r = 0; r < R; ++r) b[r] = (a[r] + c[r]) * row_weights.outer + b[r] * row_weights.inner;
            } else {
                for (int r = 0; r < R; ++r) b[r] = (b[r] + c[r]) * row_weights.centre;
            }
            self.template along<full>(b, column_weights, begin(k));
        }
    }

    std::int64_t n_src_ = 0, n_dst_ = 0;
    Shuffle<C> before_[R], after_[R];
};

// The narrow kernel that fits an axis, if there is one.
template <class C>
struct Narrow {
    int vectors = 0;
    NarrowDown<C, 1> down1;
    NarrowDown<C, 2> down2;
    NarrowUp<C, 1> up1;
    NarrowUp<C, 2> up2;

    Narrow() = default;
    explicit Narrow(const Axis& axis) {
        if (!kHasNarrow || !axis.forward()) return;
        if (axis.decimates()) {
            vectors = down1.prepare(axis) ? 1 : down2.prepare(axis) ? 2 : 0;
        } else {
            vectors = up1.prepare(axis) ? 1 : up2.prepare(axis) ? 2 : 0;
        }
    }
};

}  // namespace lapcore::LAPCORE_ISA
