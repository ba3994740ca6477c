// Elementary functions in float32 out of IEEE additions and multiplications, each rounded by itself: the same bits on
// every CPU and GPU, as long as nothing is contracted (-ffp-contract=off, -fmad=false).
//
// V is float, a vector of floats (GCC's vector extension, cpu/simd.h), or several of these (several.h). double, where
// speed does not count, goes to the C++ library. Polynomials are minimax fits with coefficients rounded to float32 one
// after the other.
//
// `static`: each instruction set compiles its own copy, lest the linker hand AVX-512 code to the baseline.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "common/intrinsics.h"
#include "common/several.h"

namespace lapcore {

// The signed integers of V's width: a comparison of vectors has them.
template <class V>
struct IntegersOf {
    using type = decltype(V{} < V{});
};
template <>
struct IntegersOf<float> {
    using type = std::int32_t;
};
template <class V>
using Integers = typename IntegersOf<V>::type;

// Whether V is a vector of float32.
template <class V, class = void>
constexpr bool kFloats = false;
template <class V>
constexpr bool kFloats<V, std::enable_if_t<std::is_same_v<std::decay_t<decltype(V{}[0])>, float>>> = true;

template <class To, class From>
LAPCORE_MATH To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    if constexpr (kSeveral<From>) {
        using Part = std::decay_t<decltype(std::declval<To>().part[0])>;
        return each([](const auto& x) __attribute__((always_inline)) { return same_bits<Part>(x); }, from);
    } else {
        To to;
        std::memcpy(&to, &from, sizeof to);
        return to;
    }
}

// 1.5 * 2^23: a sum with it is rounded to an integer, which is then found in its low bits.
constexpr float kRounder = 0x1.8p23f;
constexpr std::int32_t kRounderBits = 0x4b400000;

// n, |n| <= 2^24.
template <class V>
LAPCORE_MATH V float_of(Integers<V> n) {
    if constexpr (std::is_same_v<V, float>) {
        return static_cast<float>(n);
    } else if constexpr (kSeveral<V>) {
        using Part = std::decay_t<decltype(std::declval<V>().part[0])>;
        return each([](const auto& x) __attribute__((always_inline)) { return float_of<Part>(x); }, n);
    } else {
        return __builtin_convertvector(n, V);
    }
}

template <class V>
LAPCORE_MATH V square_root(V x) {
    if constexpr (std::is_same_v<V, float>) {
        return sqrtf(x);
    } else if constexpr (kSeveral<V>) {
        return each([](const auto& part) __attribute__((always_inline)) { return square_root(part); }, x);
    } else {
        for (std::size_t i = 0; i < sizeof(V) / sizeof(float); ++i) x[i] = sqrtf(x[i]);
        return x;
    }
}

// a < b ? a : b and a > b ? a : b: where one is NaN, b. GCC does not see the instruction in a vector's comparison.
template <class V>
LAPCORE_MATH V minimum(V a, V b) {
    if constexpr (kSeveral<V>) {
        return each([](const auto& x, const auto& y) __attribute__((always_inline)) { return minimum(x, y); }, a, b);
    }
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && kFloats<V>) return V(_mm512_maskz_min_ps(0xffff, __m512(a), __m512(b)));
#elif defined(__AVX__)
    if constexpr (sizeof(V) == 32 && kFloats<V>) return V(_mm256_min_ps(__m256(a), __m256(b)));
#elif defined(__SSE__)
    if constexpr (sizeof(V) == 16 && kFloats<V>) return V(_mm_min_ps(__m128(a), __m128(b)));
#endif
    return select(a < b, a, b);
}
template <class V>
LAPCORE_MATH V maximum(V a, V b) {
    if constexpr (kSeveral<V>) {
        return each([](const auto& x, const auto& y) __attribute__((always_inline)) { return maximum(x, y); }, a, b);
    }
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && kFloats<V>) return V(_mm512_maskz_max_ps(0xffff, __m512(a), __m512(b)));
#elif defined(__AVX__)
    if constexpr (sizeof(V) == 32 && kFloats<V>) return V(_mm256_max_ps(__m256(a), __m256(b)));
#elif defined(__SSE__)
    if constexpr (sizeof(V) == 16 && kFloats<V>) return V(_mm_max_ps(__m128(a), __m128(b)));
#endif
    return select(b < a, a, b);
}

// x held at a limit; NaN stays.
template <class V>
LAPCORE_MATH V lower_of(V x, float limit) {
    return minimum(V{} + limit, x);
}
template <class V>
LAPCORE_MATH V higher_of(V x, float limit) {
    return maximum(V{} + limit, x);
}

template <class V>
LAPCORE_MATH V clamped(V x, float low, float high) {
    return lower_of(higher_of(x, low), high);
}

// e^r = 1 + p with r = x - n ln 2, |r| <= ln 2 / 2.
template <class V>
struct Exponential {
    V p;
    Integers<V> n;
};

template <class V>
LAPCORE_MATH Exponential<V> exponential(V x) {
    const V rounded = x * 0x1.715476p0f + kRounder, n = rounded - kRounder;
    const V r = x - n * 0x1.63p-1f - n * -0x1.bd0106p-13f;
    V q = r * 0x1.6d5694p-10f + 0x1.1227aap-7f;
    q = q * r + 0x1.5554ep-5f;
    q = q * r + 0x1.5554bp-3f;
    q = q * r + 0.5f;
    return {q * r * r + r, same_bits<Integers<V>>(rounded) - kRounderBits};
}

// 2^n, -127 < n < 128.
template <class V>
LAPCORE_MATH V power_of_two(Integers<V> n) {
    if constexpr (std::is_same_v<V, float>) {
        return same_bits<float>(static_cast<std::uint32_t>(n + 127) << 23);  // of NaN, n is anything
    } else {
        return same_bits<V>((n + 127) << 23);
    }
}

// e^x for |x| <= 87, where it is a normal number.
template <class V>
LAPCORE_MATH V exp_within(V x) {
    const Exponential<V> e = exponential(x);
    return (e.p + 1.0f) * power_of_two<V>(e.n);
}

// e^x - 1 for |x| <= 87.
template <class V>
LAPCORE_MATH V expm1_within(V x) {
    const Exponential<V> e = exponential(x);
    const V scale = power_of_two<V>(e.n);
    return e.p * scale + (scale - 1.0f);
}

// e^x, subnormal results and infinity included; 2^n in two steps.
template <class V>
LAPCORE_MATH V exp_of(V x) {
    const Exponential<V> e = exponential(clamped(x, -104.0f, 89.0f));
    const Integers<V> half = e.n >> 1;
    return (e.p + 1.0f) * power_of_two<V>(half) * power_of_two<V>(e.n - half);
}

template <class V>
LAPCORE_MATH V expm1_of(V x) {
    const Exponential<V> e = exponential(clamped(x, -87.0f, 89.0f));
    const V half = power_of_two<V>(e.n - 1);  // 2^128 is beyond the numbers
    return (e.p * half + (half - 0.5f)) * 2.0f;
}

// ln x for a positive normal number: x = m 2^e with m in [sqrt(1/2), sqrt(2)), ln x = e ln 2 + ln(1 + f), f = m - 1.
template <class V>
LAPCORE_MATH V log_of_normal(V x) {
    const auto bits = same_bits<Integers<V>>(x);
    const Integers<V> exponent = (bits - 0x3f3504f3) >> 23;
    const V e = float_of<V>(exponent);
    const V f = same_bits<V>(bits - exponent * (1 << 23)) - 1.0f;
    V p = f * -0x1.420384p-4f + 0x1.07d7b8p-3f;
    p = p * f + -0x1.0cdf2cp-3f;
    p = p * f + 0x1.226d02p-3f;
    p = p * f + -0x1.54789p-3f;
    p = p * f + 0x1.99a5aap-3f;
    p = p * f + -0x1.00022p-2f;
    p = p * f + 0x1.55554ap-2f;
    const V square = f * f;
    const V tail = p * f * square - square * 0.5f + e * -0x1.bd0106p-13f;
    return tail + f + e * 0x1.63p-1f;
}

// ln x for any x: -inf at 0, NaN below.
template <class V>
LAPCORE_MATH V log_of(V x) {
    const V infinity = V{} + HUGE_VALF, nan = infinity - infinity;
    const auto subnormal = x < 0x1p-126f;
    V y = log_of_normal(subnormal ? x * 0x1p23f : x);
    y = subnormal ? y - 0x1.fe2804p3f : y;  // 23 ln 2
    y = x < HUGE_VALF ? y : x;              // infinity and NaN stay
    y = x > 0.0f ? y : x;                   // NaN stays
    y = x < 0.0f ? nan : y;
    return x == 0.0f ? -infinity : y;
}

// ln(1 + x) for x >= 0: the rounding of 1 + x is made good to first order.
template <class V>
LAPCORE_MATH V log1p_of(V x) {
    const V sum = x + 1.0f;
    const V y = log_of_normal(sum) - ((sum - 1.0f) - x) / sum;
    return x < HUGE_VALF ? y : x;
}

LAPCORE_MATH double exp_of(double x) { return exp(x); }
LAPCORE_MATH double expm1_of(double x) { return expm1(x); }
LAPCORE_MATH double log_of(double x) { return log(x); }
LAPCORE_MATH double log1p_of(double x) { return log1p(x); }

}  // namespace lapcore
