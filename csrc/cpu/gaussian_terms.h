// What gaussian_passes.h and gaussian_nll.h share: pieces of their formulas, how rows are gone through, and
// sums over rows. Included once per instruction set.
#pragma once

#include <cmath>
#include <vector>

#include "common/math.h"
#include "cpu/chunks.h"
#include "cpu/elements.h"
#include "cpu/gaussian.h"

namespace lapcore::LAPCORE_ISA {

// Below, V is one vector of the computation's type C or several (common/several.h).

// e^q and e^q - 1 with q held where e^q is a normal number.
template <class C, class V>
struct Root {
    V p, scale;  // e^r - 1 and 2^n of q = r + n ln 2

    LAPCORE_INLINE V exp() const { return (p + 1.0f) * scale; }
    LAPCORE_INLINE V expm1() const { return p * scale + (scale - 1.0f); }
};
template <class V>
struct Root<double, V> {
    V held;

    LAPCORE_INLINE V exp() const {
        return of_each([](double x) { return std::exp(x); });
    }
    LAPCORE_INLINE V expm1() const {
        return of_each([](double x) { return std::expm1(x); });
    }

private:
    template <class Function>
    LAPCORE_INLINE V of_each(const Function& function) const {
        V result;
        const double* const from = reinterpret_cast<const double*>(&held);
        double* const to = reinterpret_cast<double*>(&result);
#pragma GCC unroll 1
        for (std::size_t i = 0; i < sizeof(V) / sizeof(double); ++i) to[i] = function(from[i]);
        return result;
    }
};

template <class C, class V>
LAPCORE_INLINE Root<C, V> root_of(const V& q) {
    if constexpr (std::is_same_v<C, float>) {
        const auto e = exponential(clamped(q, -87.0f, 87.0f));
        return {e.p, power_of_two<V>(e.n)};
    } else {
        const V low = V{} - 708.0, high = V{} + 708.0;
        return {select(q < low, low, select(high < q, high, q))};
    }
}

// e^x - 1 of p = e^(x/4) - 1, exact to a few roundings near 0 as well: (1 + p)^4 - 1.
template <class C, class V>
LAPCORE_INLINE V expm1_of_quarter(const V& p) {
    return p * (p * (p * (p + C(4)) + C(6)) + C(4));
}

// d e^(x/2) of e^(x/4), in two steps: d may bring back into range what e^(x/2) alone would leave.
template <class V>
LAPCORE_INLINE V scaled(const V& d, const V& root) {
    return d * root * root;
}

template <class C, class V>
LAPCORE_INLINE auto is_infinite(const V& v) {
    if constexpr (std::is_same_v<C, float>) {
        return (same_bits<Integers<V>>(v) & 0x7fffffff) == 0x7f800000;
    } else {  // x86's baseline has no comparison of integers of 64 bits
        return (v == V{} + HUGE_VAL) | (v == V{} - HUGE_VAL);
    }
}

// a - b, and 0 between equal infinities.
template <class C, class V>
LAPCORE_INLINE V difference(const V& a, const V& b) {
    return select(is_infinite<C>(a) & (a == b), V{}, a - b);
}

// grad * derivative; what is not used has no gradient, even where its derivative is infinite.
template <class C, class V>
LAPCORE_INLINE V chain(const V& grad, const V& derivative) {
    return grad * select(is_infinite<C>(derivative) & (grad == C(0)), V{}, derivative);
}

// The same where all of a row is used, or none of it.
template <class C, class V>
LAPCORE_INLINE V chain_row(C grad, bool used, const V& derivative) {
    if (used) return derivative * grad;
    return select(is_infinite<C>(derivative), V{}, derivative) * grad;
}

// Calls task.tile(tile) for all tiles of a run of chunks in order, and task.chunk(number) after each chunk.
template <class Task>
void over_tiles_and_chunks(std::int64_t length, std::int64_t first_chunk, std::int64_t last_chunk, Task& task) {
    for (std::int64_t c = first_chunk; c < last_chunk; ++c) {
        over_tiles(length, c, c + 1, [&](const RowTile& tile) { task.tile(tile); });
        task.chunk(c);
    }
}

// Whether outputs of that many elements are written past the caches, where their addresses allow it.
template <class C>
bool streams(DType dtype, std::int64_t elements) {
    return in_place<C>(dtype) && elements * std::int64_t(sizeof(C)) >= std::int64_t{1} << 23;
}
template <class C, class... Others>
bool aligned(const C* first, const Others*... others) {
    return is_aligned(first) && (is_aligned(others) && ...);
}

// inf - inf is inf here: a row has no density off a point mass, however much of it there is elsewhere.
inline double combined(double a, double b) {
    const double sum = a + b;
    return std::isnan(sum) && !std::isnan(a) && !std::isnan(b) ? HUGE_VAL : sum;
}

// Half of each row's sum of its chunks, and of `each` for every element.
template <class C>
void finish_rows(const GaussianCall& call, const std::vector<double>& parts, double each, void* out) {
    const std::int64_t chunks = chunks_of(call.length);
    for (std::int64_t row = 0; row < call.rows; ++row) {
        double sum = 0;
        for (std::int64_t c = 0; c < chunks; ++c) sum = combined(sum, parts[std::size_t(row * chunks + c)]);
        static_cast<C*>(out)[row] = C((sum + each * double(call.length)) / 2);
    }
}

}  // namespace lapcore::LAPCORE_ISA
