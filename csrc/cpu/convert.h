// Rows of any dtype and stride to and from rows of the type that is computed in. Included once per instruction set.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace lapcore::LAPCORE_ISA {

struct Half {
    std::uint16_t bits;
};
struct BFloat16 {
    std::uint16_t bits;
};

// 16-bit floats are computed in float32 and rounded once, to nearest even.
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

inline float as_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline std::uint32_t as_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float widen(float v) { return v; }
inline double widen(double v) { return v; }
inline float widen(BFloat16 v) { return as_float(std::uint32_t(v.bits) << 16); }
inline float widen(Half v) {
    const std::uint32_t sign = std::uint32_t(v.bits & 0x8000u) << 16;
    const std::uint32_t magnitude = std::uint32_t(v.bits & 0x7fffu) << 13;
    if ((v.bits & 0x7c00u) == 0x7c00u) return as_float(sign | magnitude | 0x7f800000u);
    // 2^112 moves the exponent bias from 15 to 127, subnormals included.
    return as_float(sign | as_bits(as_float(magnitude) * as_float(0x77800000u)));
}

inline void narrow(float v, float& out) { out = v; }
inline void narrow(double v, double& out) { out = v; }
inline void narrow(float v, BFloat16& out) {
    const std::uint32_t u = as_bits(v);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    out.bits = std::uint16_t(nan ? 0x7fc0u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
inline void narrow(float v, Half& out) {
    const std::uint32_t u = as_bits(v), sign = (u >> 16) & 0x8000u;
    std::uint32_t m = u & 0x7fffffffu;
    if (m > 0x7f800000u) {
        m = 0x7e00u;
    } else if (m >= 0x477ff000u) {
        m = 0x7c00u;
    } else if (m < 0x38800000u) {
        // Adding 1/2 leaves a subnormal half, rounded to even, in the low bits of the sum.
        m = as_bits(as_float(m) + 0.5f) - as_bits(0.5f);
    } else {
        m = (m + 0xfffu + ((m >> 13) & 1u) - 0x38000000u) >> 13;
    }
    out.bits = std::uint16_t(sign | m);
}

template <class T>
void load_row(const T* src, std::int64_t stride, std::int64_t n, Compute<T>* dst) {
    std::int64_t i = 0;
#if defined(__F16C__)
    if constexpr (std::is_same_v<T, Half>) {
        if (stride == 1) {
            for (; i + 8 <= n; i += 8) {
                const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i));
                _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(h));
            }
        }
    }
#endif
    for (; i < n; ++i) dst[i] = widen(src[i * stride]);
}

template <class T>
void store_row(const Compute<T>* src, std::int64_t n, T* dst) {
    std::int64_t i = 0;
#if defined(__F16C__)
    if constexpr (std::is_same_v<T, Half>) {
        for (; i + 8 <= n; i += 8) {
            const __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), h);
        }
    }
#endif
    for (; i < n; ++i) narrow(src[i], dst[i]);
}

}  // namespace lapcore::LAPCORE_ISA
