// Vectors of the instruction set a file is built for, over GCC's and Clang's vector extensions. Included once per
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "common/intrinsics.h"

// The pieces of an inner loop: inlined, or vectors go through memory.
#define LAPCORE_INLINE inline __attribute__((always_inline))
#define LAPCORE_INLINE_LAMBDA __attribute__((always_inline))

namespace lapcore::LAPCORE_ISA {

#if defined(__AVX512F__)
constexpr std::size_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr std::size_t kVectorBytes = 32;
#else
constexpr std::size_t kVectorBytes = 16;
#endif

template <class C>
struct VectorOf {
    typedef C type __attribute__((vector_size(kVectorBytes)));
};
template <class C>
using Vector = typename VectorOf<C>::type;
template <class C>
constexpr std::int64_t kLanes = kVectorBytes / sizeof(C);

template <class C>
LAPCORE_INLINE Vector<C> load(const C* p) {
    Vector<C> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class C>
LAPCORE_INLINE void store(C* p, Vector<C> v) {
    std::memcpy(p, &v, sizeof v);
}

// The first n lanes; the others are zero, and are not read. Without masked instructions a part of a vector takes a
// call: inlined, that would be most of a kernel's code.
#if defined(__AVX512BW__)
template <class C>
LAPCORE_INLINE Vector<C> load_first(const C* p, std::int64_t n) {
    const std::uint64_t mask = _bzhi_u64(~std::uint64_t{0}, std::uint64_t(n));
    if constexpr (sizeof(C) == 1) {
        return Vector<C>(_mm512_maskz_loadu_epi8(__mmask64(mask), p));
    } else if constexpr (sizeof(C) == 2) {
        return Vector<C>(_mm512_maskz_loadu_epi16(__mmask32(mask), p));
    } else if constexpr (sizeof(C) == 4) {
        return Vector<C>(_mm512_maskz_loadu_epi32(__mmask16(mask), p));
    } else {
        return Vector<C>(_mm512_maskz_loadu_epi64(__mmask8(mask), p));
    }
}
template <class C>
LAPCORE_INLINE void store_first(C* p, Vector<C> v, std::int64_t n) {
    const std::uint64_t mask = _bzhi_u64(~std::uint64_t{0}, std::uint64_t(n));
    if constexpr (sizeof(C) == 1) {
        _mm512_mask_storeu_epi8(p, __mmask64(mask), __m512i(v));
    } else if constexpr (sizeof(C) == 2) {
        _mm512_mask_storeu_epi16(p, __mmask32(mask), __m512i(v));
    } else if constexpr (sizeof(C) == 4) {
        _mm512_mask_storeu_epi32(p, __mmask16(mask), __m512i(v));
    } else {
        _mm512_mask_storeu_epi64(p, __mmask8(mask), __m512i(v));
    }
}
#else
template <class C>
__attribute__((noinline)) Vector<C> load_part(const C* p, std::int64_t n) {
    Vector<C> v{};
    std::memcpy(&v, p, std::size_t(n) * sizeof(C));
    return v;
}
template <class C>
__attribute__((noinline)) void store_part(C* p, Vector<C> v, std::int64_t n) {
    std::memcpy(p, &v, std::size_t(n) * sizeof(C));
}
template <class C>
LAPCORE_INLINE Vector<C> load_first(const C* p, std::int64_t n) {
    return n == kLanes<C> ? load(p) : n == 0 ? Vector<C>{} : load_part(p, n);
}
template <class C>
LAPCORE_INLINE void store_first(C* p, Vector<C> v, std::int64_t n) {
    n == kLanes<C> ? store(p, v) : store_part(p, v, n);
}
#endif

// A store past the caches, to an address aligned to kVectorBytes: memory is not read before it is overwritten.
template <class V>
LAPCORE_INLINE void stream(void* p, V v) {
#if defined(__AVX512F__)
    _mm512_stream_si512(static_cast<__m512i*>(p), __m512i(v));
#elif defined(__AVX2__)
    _mm256_stream_si256(static_cast<__m256i*>(p), __m256i(v));
#elif defined(__x86_64__)
    _mm_stream_si128(static_cast<__m128i*>(p), __m128i(v));
#else
    std::memcpy(p, &v, sizeof v);
#endif
}

// Makes streamed stores visible to the threads that wait for this one.
LAPCORE_INLINE void stream_fence() {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

template <class C>
LAPCORE_INLINE bool is_aligned(const C* p) {
    return reinterpret_cast<std::uintptr_t>(p) % kVectorBytes == 0;
}

template <class V, std::size_t... I>
LAPCORE_INLINE V even_lanes(V a, V b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, (2 * I)...);
}
template <class V, std::size_t... I>
LAPCORE_INLINE V odd_lanes(V a, V b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, (2 * I + 1)...);
}
template <std::size_t first, class V, std::size_t... I>
LAPCORE_INLINE V interleaved_lanes(V a, V b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, (first + I / 2 + (I % 2) * sizeof...(I))...);
}

template <std::size_t first, class V, std::size_t... I>
LAPCORE_INLINE V lanes_from(V a, V b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, (first + I)...);
}

template <class C>
using Lanes = std::make_index_sequence<std::size_t(kLanes<C>)>;

// The lanes 0, 2, 4, .. and 1, 3, 5, .. of a followed by b.
template <class C>
LAPCORE_INLINE Vector<C> even(Vector<C> a, Vector<C> b) {
    return even_lanes(a, b, Lanes<C>{});
}
template <class C>
LAPCORE_INLINE Vector<C> odd(Vector<C> a, Vector<C> b) {
    return odd_lanes(a, b, Lanes<C>{});
}

// For each lane of a line's vector what stands before it, and after it.
template <class C>
LAPCORE_INLINE Vector<C> one_before(Vector<C> previous, Vector<C> v) {
    return lanes_from<std::size_t(kLanes<C>) - 1>(previous, v, Lanes<C>{});
}
template <class C>
LAPCORE_INLINE Vector<C> one_after(Vector<C> v, Vector<C> next) {
    return lanes_from<1>(v, next, Lanes<C>{});
}

template <class C>
struct TwoVectors {
    Vector<C> first, second;
};

// a0 b0 a1 b1 .., the first half of it and the second.
template <class C>
LAPCORE_INLINE Vector<C> interleave_first(Vector<C> a, Vector<C> b) {
    return interleaved_lanes<0>(a, b, Lanes<C>{});
}
template <class C>
LAPCORE_INLINE Vector<C> interleave_second(Vector<C> a, Vector<C> b) {
    return interleaved_lanes<std::size_t(kLanes<C>) / 2>(a, b, Lanes<C>{});
}

template <class C>
LAPCORE_INLINE TwoVectors<C> interleave(Vector<C> a, Vector<C> b) {
    return {interleave_first<C>(a, b), interleave_second<C>(a, b)};
}

// `sofar` with the lanes i whose sample stride * i lies in the m-th of the vectors that hold it, `next`, taken from
// there.
template <int stride, std::size_t m, class V, std::size_t... I>
LAPCORE_INLINE V picked_lanes(V sofar, V next, std::index_sequence<I...>) {
    constexpr std::size_t n = sizeof...(I);
    return __builtin_shufflevector(sofar, next, (stride * I / n == m ? n + stride * I % n : I)...);
}
template <int stride, class C, std::size_t... M>
LAPCORE_INLINE Vector<C> load_every(const C* p, std::index_sequence<M...>) {
    Vector<C> v{};
    ((v = picked_lanes<stride, M>(v, load(p + M * kLanes<C>), Lanes<C>{})), ...);
    return v;
}

// The samples p[0], p[stride], p[2 stride], ..; all of stride vectors is read.
template <int stride, class C>
LAPCORE_INLINE Vector<C> load_every(const C* p) {
    return load_every<stride>(p, std::make_index_sequence<stride>{});
}

}  // namespace lapcore::LAPCORE_ISA
