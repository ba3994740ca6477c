// The types of samples, and what sums of them are taken in: float32 for floats of 16 and 32 bits, int32 for integers.
#pragma once

#include <cstdint>
#include <type_traits>

#if defined(__CUDA_ARCH__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "common/half.h"

namespace lapcore::cuda {

template <class T>
using Sum = std::conditional_t<std::is_integral_v<T>, std::int32_t, Compute<T>>;

template <class T>
LAPCORE_HD Sum<T> loaded(T v) {
    if constexpr (std::is_integral_v<T>) {
        return v;
#if defined(__CUDA_ARCH__)
    } else if constexpr (std::is_same_v<T, Half>) {
        return __half2float(__ushort_as_half(v.bits));
#endif
    } else {
        return widen(v);
    }
}

template <class T>
LAPCORE_HD T saturated(std::int32_t v) {
    constexpr std::int32_t highest = (1 << (8 * sizeof(T) - std::is_signed_v<T>)) - 1;
    constexpr std::int32_t lowest = std::is_signed_v<T> ? -highest - 1 : 0;
    return static_cast<T>(v < lowest ? lowest : v > highest ? highest : v);
}

// Rounds to nearest even, as narrow does; the card has an instruction for it.
template <class T>
LAPCORE_HD T stored(Sum<T> v) {
    if constexpr (std::is_same_v<T, Sum<T>>) {
        return v;
    } else if constexpr (std::is_integral_v<T>) {
        return saturated<T>(v);
#if defined(__CUDA_ARCH__)
    } else if constexpr (std::is_same_v<T, Half>) {
        return {__half_as_ushort(__float2half_rn(v))};
    } else if constexpr (std::is_same_v<T, BFloat16>) {
        return {__bfloat16_as_ushort(__float2bfloat16_rn(v))};
#endif
    } else {
        T out;
        narrow(v, out);
        return out;
    }
}

}  // namespace lapcore::cuda
