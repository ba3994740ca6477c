// Rows of any dtype and stride to and from rows of the type that is computed in. Included once per instruction set.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/half.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace lapcore::LAPCORE_ISA {

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
