// The AVX-512 instructions that csrc/ asks for by name, lane by lane: included before everything else, it lets those
// kernels run on processors that have AVX2 only. One that is missing here does not compile.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace shim {

constexpr unsigned kBytes = 64;
template <class T>
using Lanes __attribute__((vector_size(kBytes))) = T;

// Of each lane what make(lane) gives.
template <class T, class Make>
Lanes<T> each(const Make& make) {
    Lanes<T> v;
    for (unsigned i = 0; i < kBytes / sizeof(T); ++i) v[i] = make(i);
    return v;
}

template <class Mask>
bool has(Mask mask, unsigned lane) {
    return mask >> lane & 1;
}

template <class T, class V>
V fmadd(V a, V b, V c) {
    return V(each<T>([&](unsigned i) { return std::fma(Lanes<T>(a)[i], Lanes<T>(b)[i], Lanes<T>(c)[i]); }));
}
template <class T, class V, class Mask>
V mask_mov(V otherwise, Mask mask, V a) {
    return V(each<T>([&](unsigned i) { return has(mask, i) ? Lanes<T>(a)[i] : Lanes<T>(otherwise)[i]; }));
}
template <class T, class V, class Mask>
V mask_load(V otherwise, Mask mask, const void* p) {
    return V(each<T>([&](unsigned i) { return has(mask, i) ? static_cast<const T*>(p)[i] : Lanes<T>(otherwise)[i]; }));
}
template <class T, class Mask>
void mask_store(void* p, Mask mask, __m512i v) {
    for (unsigned i = 0; i < kBytes / sizeof(T); ++i) {
        if (has(mask, i)) static_cast<T*>(p)[i] = Lanes<T>(v)[i];
    }
}
// Where one is NaN, and of two zeros, b.
inline __m512 minimum(__mmask16 mask, __m512 a, __m512 b) {
    return each<float>([&](unsigned i) { return !has(mask, i) ? 0 : a[i] < b[i] ? a[i] : b[i]; });
}
inline __m512 maximum(__mmask16 mask, __m512 a, __m512 b) {
    return each<float>([&](unsigned i) { return !has(mask, i) ? 0 : a[i] > b[i] ? a[i] : b[i]; });
}
inline __m512d to_double(__mmask8 mask, __m256 a) {
    return each<double>([&](unsigned i) { return has(mask, i) ? double(a[i]) : 0; });
}
inline __m512i multiply(__mmask8 mask, __m512i a, __m512i b) {
    using V = Lanes<std::uint64_t>;
    return __m512i(each<std::uint64_t>([&](unsigned i) {
        return has(mask, i) ? (V(a)[i] & 0xffffffffu) * (V(b)[i] & 0xffffffffu) : std::uint64_t{0};
    }));
}
inline __m512i shuffle(__mmask16 mask, __m512i a, int control) {
    return __m512i(each<std::uint32_t>([&](unsigned i) {
        const unsigned from = i / 4 * 4 + (control >> i % 4 * 2 & 3);
        return has(mask, i) ? Lanes<std::uint32_t>(a)[from] : 0u;
    }));
}
inline __mmask16 test(__m512i a, __m512i b) {
    unsigned mask = 0;
    for (unsigned i = 0; i < 16; ++i)
        mask |= unsigned((Lanes<std::uint32_t>(a)[i] & Lanes<std::uint32_t>(b)[i]) != 0) << i;
    return __mmask16(mask);
}
inline void stream(void* p, __m512i v) { std::memcpy(p, &v, kBytes); }
template <class To, class From, class Mask>
__m512i widen(Mask mask, __m256i a) {
    From lanes[sizeof a / sizeof(From)];
    std::memcpy(lanes, &a, sizeof a);
    return __m512i(each<To>([&](unsigned i) { return has(mask, i) ? To(lanes[i]) : To{}; }));
}
template <class To, class From, class Mask>
__m256i narrow(Mask mask, __m512i a) {
    To lanes[kBytes / sizeof(From)];
    for (unsigned i = 0; i < kBytes / sizeof(From); ++i) lanes[i] = has(mask, i) ? To(Lanes<From>(a)[i]) : To{};
    __m256i v;
    std::memcpy(&v, lanes, sizeof v);
    return v;
}

}  // namespace shim

#define _mm512_fmadd_ps shim::fmadd<float, __m512>
#define _mm512_fmadd_pd shim::fmadd<double, __m512d>
#define _mm512_mask_mov_ps shim::mask_mov<float, __m512>
#define _mm512_mask_mov_pd shim::mask_mov<double, __m512d>
#define _mm512_mask_loadu_ps shim::mask_load<float, __m512>
#define _mm512_mask_loadu_pd shim::mask_load<double, __m512d>
#define _mm512_maskz_loadu_epi8(mask, p) shim::mask_load<std::uint8_t>(__m512i{}, mask, p)
#define _mm512_maskz_loadu_epi16(mask, p) shim::mask_load<std::uint16_t>(__m512i{}, mask, p)
#define _mm512_maskz_loadu_epi32(mask, p) shim::mask_load<std::uint32_t>(__m512i{}, mask, p)
#define _mm512_maskz_loadu_epi64(mask, p) shim::mask_load<std::uint64_t>(__m512i{}, mask, p)
#define _mm512_mask_storeu_epi8 shim::mask_store<std::uint8_t>
#define _mm512_mask_storeu_epi16 shim::mask_store<std::uint16_t>
#define _mm512_mask_storeu_epi32 shim::mask_store<std::uint32_t>
#define _mm512_mask_storeu_epi64 shim::mask_store<std::uint64_t>
#define _mm512_maskz_min_ps shim::minimum
#define _mm512_maskz_max_ps shim::maximum
#define _mm512_maskz_cvtps_pd shim::to_double
#define _mm512_maskz_mul_epu32 shim::multiply
#define _mm512_mul_epu32(a, b) shim::multiply(0xff, a, b)
#define _mm512_maskz_shuffle_epi32(mask, a, control) shim::shuffle(mask, a, int(control))
#define _mm512_set1_epi64(x) __m512i(shim::Lanes<long long>{} + (long long)(x))
#define _mm512_test_epi32_mask shim::test
#define _mm512_stream_si512 shim::stream
#define _mm512_maskz_cvtepu8_epi16 shim::widen<std::uint16_t, std::uint8_t>
#define _mm512_maskz_cvtepi16_epi32 shim::widen<std::int32_t, std::int16_t>
#define _mm512_maskz_cvtepu16_epi32 shim::widen<std::uint32_t, std::uint16_t>
#define _mm512_maskz_cvtepi16_epi8 shim::narrow<std::uint8_t, std::uint16_t>
#define _mm512_maskz_cvtepi32_epi16 shim::narrow<std::uint16_t, std::uint32_t>

#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512CD__ 1
#define __AVX512DQ__ 1
#define __AVX512VL__ 1
