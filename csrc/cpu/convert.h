// Rows of any dtype and stride to and from contiguous ones, of float for half precision. Included once per instruction
// set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/half.h"
#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

// What a row of T is converted to: half precision to float, the others stay.
template <class T>
using Sum = std::conditional_t<std::is_integral_v<T>, T, Compute<T>>;

// Reads with a constant stride, as of one channel of interleaved ones.
template <int kStride, class T>
inline void load_strided(const T* src, std::int64_t n, Sum<T>* dst) {
    std::int64_t i = 0;
    if constexpr (std::is_same_v<T, float> && kStride > 1) {
        constexpr std::int64_t V = kLanes<float>;
        // The last vectors may reach past the row, and so past the image.
        for (; i + 2 * V <= n; i += V) store(dst + i, load_every<kStride>(src + i * kStride));
    }
    for (; i < n; ++i) {
        if constexpr (std::is_integral_v<T>) {
            dst[i] = src[i * kStride];
        } else {
            dst[i] = widen(src[i * kStride]);
        }
    }
}

template <class T>
void load_row(const T* src, std::int64_t stride, std::int64_t n, Sum<T>* dst) {
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
    switch (stride) {
        case 1: return load_strided<1>(src + i, n - i, dst + i);
        case 2: return load_strided<2>(src, n, dst);
        case 3: return load_strided<3>(src, n, dst);
        case 4: return load_strided<4>(src, n, dst);
        default: break;
    }
    for (; i < n; ++i) load_strided<1>(src + i * stride, 1, dst + i);
}

// One value as it is stored: floats round to nearest even, integers saturate.
template <class C, class T>
inline void put(C v, T& out) {
    if constexpr (std::is_same_v<C, T>) {
        out = v;
    } else if constexpr (std::is_integral_v<T>) {
        out = static_cast<T>(std::clamp<int>(v, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
    } else {
        narrow(v, out);
    }
}

template <int kStride, class C, class T>
inline void store_strided(const C* src, std::int64_t n, T* dst) {
    for (std::int64_t i = 0; i < n; ++i) put(src[i], dst[i * kStride]);
}

template <class C, class T>
void store_row(const C* src, std::int64_t n, T* dst, std::int64_t stride) {
    std::int64_t i = 0;
#if defined(__F16C__)
    if constexpr (std::is_same_v<T, Half>) {
        if (stride == 1) {
            for (; i + 8 <= n; i += 8) {
                const __m256 f = _mm256_loadu_ps(src + i);
                const __m128i h = _mm256_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
                _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), h);
            }
        }
    }
#endif
    switch (stride) {
        case 1: return store_strided<1>(src + i, n - i, dst + i);
        case 2: return store_strided<2>(src, n, dst);
        case 3: return store_strided<3>(src, n, dst);
        case 4: return store_strided<4>(src, n, dst);
        default: break;
    }
    for (; i < n; ++i) put(src[i], dst[i * stride]);
}

}  // namespace lapcore::LAPCORE_ISA
