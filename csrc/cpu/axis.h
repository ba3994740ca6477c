// A 1-D operator over one axis of an image. Included once per instruction set.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

#include "common/taps.h"

namespace lapcore::LAPCORE_ISA {

// The distinct weights of a repeating stencil: outer, inner and centre of a decimating one; of an expanding one, outer
// and centre of the even outputs, and that of the odd ones.
template <class C>
struct Weights {
    C outer, inner, centre;
};

// Integers are summed with integer weights and rounded once, after both axes.
template <class C>
struct Rounding {
    C half = 0;
    int shift = 0;
    template <class V>
    V operator()(V sum) const {
        if constexpr (std::is_integral_v<C>) {
            return V((sum + half) >> shift);
        } else {
            return sum;
        }
    }
};

// Taps that stand further along the line.
struct ShiftedTaps {
    const Taps* taps;
    std::int64_t shift;
    int count() const { return taps->count; }
    std::int64_t index(int k) const { return taps->index[k] + shift; }
    double weight(int k) const { return taps->weight[k]; }
};

// Away from the ends the taps repeat, so only those of the ends are kept.
class Axis {
public:
    static constexpr std::int64_t kPad = 2;
    static constexpr std::int64_t kLongestEnd = 4;

    Axis(Op op, std::int64_t n_src, std::int64_t n_dst, Border border)
        : op_(op), border_(border), n_src_(n_src), n_dst_(n_dst) {
        // Interior outputs read their whole stencil inside the line, and no folded border sample lands on them.
        if (decimates()) {
            lo_ = 2;
            hi_ = std::min(n_dst - 2, (n_src - 3) / 2 + 1);
        } else {
            lo_ = kLongestEnd;
            hi_ = std::min(n_dst - kLongestEnd, 2 * n_src - 2);
        }
        if (hi_ <= lo_) lo_ = hi_ = std::min<std::int64_t>(lo_, n_dst);
        for (std::int64_t i = 0; i < lo_; ++i) ends_[i] = taps_of(op, i, n_src, n_dst, border);
        for (std::int64_t i = hi_; i < n_dst; ++i) ends_[i - (hi_ - lo_)] = taps_of(op, i, n_src, n_dst, border);
        for (int p = 0; p < 2 && lo_ + p < hi_; ++p) phase_[p] = taps_of(op, lo_ + p, n_src, n_dst, border);
        for (std::int64_t p = 0; p < 2 * kPad; ++p) {
            const std::int64_t beyond = p < kPad ? p - kPad : n_src + p - kPad;
            pad_[p] = source(beyond);
        }
    }

    bool decimates() const { return op_ == Op::down || op_ == Op::up_adjoint; }
    bool forward() const { return op_ == Op::down || op_ == Op::up; }
    std::int64_t lo() const { return lo_; }
    std::int64_t hi() const { return hi_; }
    std::int64_t n_src() const { return n_src_; }
    std::int64_t n_dst() const { return n_dst_; }

    // A weight as sums of type C take it.
    template <class C>
    C weight(double w) const {
        return static_cast<C>(std::is_integral_v<C> ? w * scale() : w);
    }

    template <class C>
    Weights<C> weights() const {
        const double unit = scale() == 16 ? 1.0 / 16 : 1.0 / 8;
        if (decimates()) return {weight<C>(unit), weight<C>(4 * unit), weight<C>(6 * unit)};
        return {weight<C>(unit), weight<C>(6 * unit), weight<C>(4 * unit)};
    }

    template <class C>
    Rounding<C> rounding() const {
        if constexpr (std::is_integral_v<C>) {
            return op_ == Op::down ? Rounding<C>{128, 8} : Rounding<C>{32, 6};
        } else {
            return {};
        }
    }

    const Taps& end(std::int64_t i) const { return ends_[i < lo_ ? i : i - (hi_ - lo_)]; }

    ShiftedTaps operator()(std::int64_t i) const {
        if (i < lo_ || i >= hi_) return {&end(i), 0};
        const std::int64_t step = i - lo_;
        if (decimates()) return {&phase_[0], 2 * step};
        return {&phase_[step & 1], step / 2};
    }

    // The sample that stands at position p of the line, near it or beyond; kOutside for a zero. Of forward operators.
    std::int64_t source(std::int64_t p) const {
        if (p >= 0 && p < n_src_) return p;
        return op_ == Op::up ? up_index(p, n_src_, border_) : border_index(p, n_src_, border_);
    }

    // The same for the kPad positions before the line and those after it, looked up.
    std::int64_t padding(std::int64_t p) const { return pad_[p < 0 ? p + kPad : p - n_src_ + kPad]; }

private:
    int scale() const { return op_ == Op::down || op_ == Op::down_adjoint ? 16 : 8; }

    Op op_;
    Border border_;
    std::int64_t n_src_, n_dst_, lo_, hi_;
    std::int64_t pad_[2 * kPad];
    Taps phase_[2];
    std::array<Taps, 2 * kLongestEnd> ends_;
};

}  // namespace lapcore::LAPCORE_ISA
