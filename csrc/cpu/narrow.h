// Forward operators on rows that fit a few vectors: no line goes through memory. Included once per instruction set.
//
// The sums are those of cpu/stencil.h, in its order; what lies before, after and beyond a sample comes by a shuffle
// whose indices hold the border rule.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/axis.h"
#include "cpu/formats.h"

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
    LAPCORE_INLINE Vector<C> operator()(Vector<C> a) const { return __builtin_shuffle(a, lanes); }
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

// The decimating operator on rows of up to 2R vectors of sums. Of the samples whose numbers a shuffle takes, even ones
// are the vectors 0 .. R-1, odd ones R .. 2R-1.
template <class F, int R>
class NarrowDown {
public:
    using S = typename F::Sample;
    using C = typename F::Sum;
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

    // The row of outputs whose columns add up to c.
    LAPCORE_INLINE void along(const Halves<C> (&c)[R], const Decimating<C>& w, Vector<C> (&out)[R]) const {
        for (int r = 0; r < R; ++r) {
            const bool last = r == R - 1;
            const Vector<C> s0 = even_before_[r](c[r ? r - 1 : 0].even, r ? c[r].even : c[0].odd);
            const Vector<C> s1 = odd_before_[r](c[r ? r - 1 : 0].odd, r ? c[r].odd : c[0].even);
            const Vector<C> s3 = last ? odd_after_(c[r].odd, c[r].even) : c[r].odd;
            const Vector<C> s4 = even_after_[r](c[r].even, last ? c[r].odd : c[r + 1 < R ? r + 1 : r].even);
            out[r] = w.rounded_sum(s0, s1, c[r].even, s3, s4);
        }
    }

    // What the columns of five rows add up to.
    template <bool full>
    LAPCORE_INLINE void columns(const S* const* p, const Decimating<C>& w, Halves<C> (&out)[R]) const {
        const auto at = [=](const S* row, int r) LAPCORE_INLINE_LAMBDA {
            const std::int64_t x = 2 * r * V;
            if constexpr (full) return load_raw_halves<C>(row + x);
            return load_first_raw_halves<C>(row + x, std::clamp<std::int64_t>(n_src_ - x, 0, 2 * V));
        };
        for (int r = 0; r < R; ++r) {
            const auto a = at(p[0], r), b = at(p[1], r), c = at(p[2], r), d = at(p[3], r), e = at(p[4], r);
            const auto sum = [&](auto Halves<C>::* half)
                                 LAPCORE_INLINE_LAMBDA { return w.sum(a.*half, b.*half, c.*half, d.*half, e.*half); };
            out[r] = sorted<C, S>({sum(&Halves<C>::even), sum(&Halves<C>::odd)});
        }
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
    LAPCORE_INLINE void run(const S* const* window, std::int64_t count, const Decimating<C>& rows,
                            const Decimating<C>& columns, const Begin& begin) const {
        full() ? run_rows<true>(window, count, rows, columns, begin)
               : run_rows<false>(window, count, rows, columns, begin);
    }

private:
    template <bool full, class Begin>
    LAPCORE_INLINE void run_rows(const S* const* p, std::int64_t count, const Decimating<C> row_stencil,
                                 const Decimating<C> column_stencil, const Begin& begin) const {
        const NarrowDown self = *this;
        for (std::int64_t k = 0; k < count; ++k, p += 2) {
            Halves<C> sums[R];
            Vector<C> out[R];
            self.template columns<full>(p, row_stencil, sums);
            self.along(sums, column_stencil, out);
            self.template put<full>(out, begin(k));
        }
    }

    std::int64_t n_src_ = 0, n_dst_ = 0;
    Shuffle<C> even_before_[R], odd_before_[R], odd_after_, even_after_[R];
};

// The expanding operator from rows of up to R vectors of sums.
template <class F, int R>
class NarrowUp {
public:
    using S = typename F::Sample;
    using C = typename F::Sum;
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

    // A row of samples; beyond its end they are zero.
    template <bool full>
    LAPCORE_INLINE void load_row(const S* row, Vector<C> (&out)[R]) const {
        for (int r = 0; r < R; ++r) {
            if constexpr (full) {
                out[r] = load_as<C>(row + r * V);
            } else {
                out[r] = load_first_as<C>(row + r * V, std::clamp<std::int64_t>(n_src_ - r * V, 0, V));
            }
        }
    }

    // The row of outputs whose columns add up to b.
    template <bool full, class Finish>
    LAPCORE_INLINE void along(const Vector<C> (&b)[R], const Expanding<C>& w, const Finish& finish) const {
        for (int r = 0; r < R; ++r) {
            const Vector<C> before = r ? before_[r](b[r - 1], b[r]) : before_[r](b[r]);
            const Vector<C> after = r < R - 1 ? after_[r](b[r], b[r + 1]) : after_[r](b[r]);
            const Halves<C> sums{w.rounded_even(before, b[r], after), w.rounded_odd(b[r], after)};
            const std::int64_t i = 2 * r * V;
            if (full || r < R - 1) {
                finish.pair(i, sums);
            } else {
                finish.first_pair(i, sums, std::min(n_dst_ - i, 2 * V));
            }
        }
    }

    // Rows of outputs from a window of rows, three for each two, `first` being the first's number.
    template <class Begin>
    LAPCORE_INLINE void run(const S* const* window, std::int64_t first, std::int64_t count, const Expanding<C>& rows,
                            const Expanding<C>& columns, const Begin& begin) const {
        full() ? run_rows<true>(window, first, count, rows, columns, begin)
               : run_rows<false>(window, first, count, rows, columns, begin);
    }

private:
    template <bool full, class Begin>
    LAPCORE_INLINE void run_rows(const S* const* window, std::int64_t first, std::int64_t count,
                                 const Expanding<C> row_stencil, const Expanding<C> column_stencil,
                                 const Begin& begin) const {
        const NarrowUp self = *this;
        for (std::int64_t k = 0; k < count; ++k) {
            const S* const* p = window + ((first + k) / 2 - first / 2);
            Vector<C> a[R], b[R], c[R];
            self.template load_row<full>(p[1], b);
            self.template load_row<full>(p[2], c);
            if ((first + k) % 2 == 0) {
                self.template load_row<full>(p[0], a);
                for (int r = 0; r < R; ++r) b[r] = row_stencil.even(a[r], b[r], c[r]);
            } else {
                for (int r = 0; r < R; ++r) b[r] = row_stencil.odd(b[r], c[r]);
            }
            self.template along<full>(b, column_stencil, begin(k));
        }
    }

    std::int64_t n_src_ = 0, n_dst_ = 0;
    Shuffle<C> before_[R], after_[R];
};

// The narrow kernel that fits an axis, if there is one.
template <class F>
struct Narrow {
    int vectors = 0;
    NarrowDown<F, 1> down1;
    NarrowDown<F, 2> down2;
    NarrowUp<F, 1> up1;
    NarrowUp<F, 2> up2;

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
