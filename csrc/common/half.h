// 16-bit floats as bits, computed in float32 and rounded once, to nearest even. Plain arithmetic, so that a CPU and a
// GPU agree to the bit. Internal linkage: every instruction set keeps its own copies.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/hd.h"

namespace lapcore {

struct Half {
    std::uint16_t bits;
};
struct BFloat16 {
    std::uint16_t bits;
};

template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

LAPCORE_HD static inline float as_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

LAPCORE_HD static inline std::uint32_t as_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

LAPCORE_HD static inline float widen(float v) { return v; }
LAPCORE_HD static inline double widen(double v) { return v; }
LAPCORE_HD static inline float widen(BFloat16 v) { return as_float(std::uint32_t(v.bits) << 16); }
LAPCORE_HD static inline float widen(Half v) {
    const std::uint32_t sign = std::uint32_t(v.bits & 0x8000u) << 16;
    const std::uint32_t magnitude = std::uint32_t(v.bits & 0x7fffu) << 13;
    if ((v.bits & 0x7c00u) == 0x7c00u) return as_float(sign | magnitude | 0x7f800000u);
    // 2^112 moves the exponent bias from 15 to 127, subnormals included.
    return as_float(sign | as_bits(as_float(magnitude) * as_float(0x77800000u)));
}

LAPCORE_HD static inline void narrow(float v, float& out) { out = v; }
LAPCORE_HD static inline void narrow(double v, double& out) { out = v; }
LAPCORE_HD static inline void narrow(float v, BFloat16& out) {
    const std::uint32_t u = as_bits(v);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    out.bits = std::uint16_t(nan ? 0x7fc0u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
LAPCORE_HD static inline void narrow(float v, Half& out) {
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

}  // namespace lapcore
