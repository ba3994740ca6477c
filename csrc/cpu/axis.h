// A 1-D operator over one axis of an image. Included once per instruction set.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

#include "common/taps.h"

namespace lapcore::LAPCORE_ISA {

// The repeating stencils, of samples that stand beside each other. `rounded_` ones are those along the second axis.
// Integers are summed with whole weights, those of forward operators, in which order does not matter, and rounded once,
// after both axes.
template <class C, bool kWhole = std::is_integral_v<C>>
struct Decimating {
    C outer, inner, centre;
    template <class V>
    V sum(V a, V b, V c, V d, V e) const {
        return ((a + e) * outer + (b + d) * inner) + c * centre;
    }
    template <class V>
    V rounded_sum(V a, V b, V c, V d, V e) const {
        return sum(a, b, c, d, e);
    }
};
template <class C>
struct Decimating<C, true> {
    template <class V>
    V sum(V a, V b, V c, V d, V e) const {
        return V((a + e) + (b + c + d) * C(4) + c * C(2));
    }
    template <class V>
    V rounded_sum(V a, V b, V c, V d, V e) const {
        return V(V(sum(a, b, c, d, e) + C(128)) >> 8);
    }
};

// The even output is of three samples, the odd one of the last two.
template <class C, bool kWhole = std::is_integral_v<C>>
struct Expanding {
    C outer, inner, centre;
    template <class V>
    V even(V a, V b, V c) const {
        return (a + c) * outer + b * inner;
    }
    template <class V>
    V odd(V b, V c) const {
        return (b + c) * centre;
    }
    template <class V>
    V rounded_even(V a, V b, V c) const {
        return even(a, b, c);
    }
    template <class V>
    V rounded_odd(V b, V c) const {
        return odd(b, c);
    }
};
template <class C>
struct Expanding<C, true> {
    template <class V>
    V even(V a, V b, V c) const {
        return V((a + b) + (b + c) + b * C(4));
    }
    template <class V>
    V odd(V b, V c) const {
        return V((b + c) * C(4));
    }
    template <class V>
    V rounded_even(V a, V b, V c) const {
        return V(V(even(a, b, c) + C(32)) >> 6);
    }
    template <class V>
    V rounded_odd(V b, V c) const {
        return V(V(b + c + C(8)) >> 4);
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

    Axis(Op op, std::int64_t n_src, std::int64_t n_dst, Border border);

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

    // The axis's stencil, or the negated one.
    template <class C>
    Decimating<C> decimating(int sign = 1) const {
        if constexpr (std::is_integral_v<C>) {
            return {};
        } else {
            const C unit = C(sign < 0 ? -1 : 1) / C(scale());
            return {unit, 4 * unit, 6 * unit};
        }
    }
    template <class C>
    Expanding<C> expanding(int sign = 1) const {
        if constexpr (std::is_integral_v<C>) {
            return {};
        } else {
            const C unit = C(sign < 0 ? -1 : 1) / C(scale());
            return {unit, 6 * unit, 4 * unit};
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
