// What the samples of a row are stored as, what they are summed in, and what the bands of a pyramid are stored as; and
// vectors of samples as sums take them. Included once per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "common/view.h"
#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

template <class S, class C, class B>
struct Format {
    using Sample = S;
    using Sum = C;
    using Band = B;
};

using Float = Format<float, float, float>;  // of half precision too: their rows are converted
using Double = Format<double, double, double>;
// 255 * 16 * 16 fits 16 bits; bands, from -255 to 510, are summed modulo 2^16.
using UInt8 = Format<std::uint8_t, std::uint16_t, std::int16_t>;
using Int16 = Format<std::int16_t, std::int32_t, std::int16_t>;
using UInt16 = Format<std::uint16_t, std::int32_t, std::int16_t>;

template <class S>
constexpr DType dtype_of() {
    if constexpr (std::is_same_v<S, float>) return DType::float32;
    if constexpr (std::is_same_v<S, double>) return DType::float64;
    if constexpr (std::is_same_v<S, std::uint8_t>) return DType::uint8;
    if constexpr (std::is_same_v<S, std::int16_t>) return DType::int16;
    if constexpr (std::is_same_v<S, std::uint16_t>) return DType::uint16;
}

// Whether forward operators of a format have kernels that keep sums in registers; all others go through lines. x86
// processors without AVX2 are few, and have lines alone.
template <class F>
constexpr bool kFused =
#if defined(__x86_64__) && !defined(__AVX2__)
    false;
#else
    std::is_same_v<F, Float> || std::is_same_v<F, UInt8> || std::is_same_v<F, Int16>;
#endif

// Whether a vector of sums has half as many lanes as one of samples. Its lanes' lower and upper halves are then the
// even and the odd samples.
template <class S, class C>
constexpr bool kWidens = sizeof(C) == 2 * sizeof(S);

template <class S>
struct NarrowVectorOf {
    typedef S type __attribute__((vector_size(kVectorBytes / 2)));
};
template <class S>
using NarrowVector = typename NarrowVectorOf<S>::type;

// GCC 12 converts vectors of 64 bytes in pieces, and warns of what its header leaves undefined in unmasked
// instructions.
template <class C, class S>
LAPCORE_INLINE Vector<C> widened(NarrowVector<S> v) {
#if defined(__AVX512BW__)
    if constexpr (std::is_same_v<S, std::uint8_t>)
        return Vector<C>(_mm512_maskz_cvtepu8_epi16(__mmask32(-1), __m256i(v)));
    if constexpr (std::is_same_v<S, std::int16_t>)
        return Vector<C>(_mm512_maskz_cvtepi16_epi32(__mmask16(-1), __m256i(v)));
    if constexpr (std::is_same_v<S, std::uint16_t>)
        return Vector<C>(_mm512_maskz_cvtepu16_epi32(__mmask16(-1), __m256i(v)));
#endif
    return __builtin_convertvector(v, Vector<C>);
}
// The lower bits of each lane.
template <class O, class C>
LAPCORE_INLINE NarrowVector<O> narrowed(Vector<C> v) {
#if defined(__AVX512BW__)
    if constexpr (sizeof(C) == 2) return NarrowVector<O>(_mm512_maskz_cvtepi16_epi8(__mmask32(-1), __m512i(v)));
    if constexpr (sizeof(C) == 4) return NarrowVector<O>(_mm512_maskz_cvtepi32_epi16(__mmask16(-1), __m512i(v)));
#endif
    return __builtin_convertvector(v, NarrowVector<O>);
}

// kLanes<C> samples.
template <class C, class S>
LAPCORE_INLINE Vector<C> load_as(const S* p) {
    if constexpr (kWidens<S, C>) {
        NarrowVector<S> v;
        std::memcpy(&v, p, sizeof v);
        return widened<C, S>(v);
    } else {
        return load(p);
    }
}
template <class S, std::size_t... I>
LAPCORE_INLINE NarrowVector<S> lower_half(Vector<S> v, std::index_sequence<I...>) {
    return __builtin_shufflevector(v, v, I...);
}
// The first n of them, n of zero to kLanes<C>; the others are zero, and are not read.
template <class C, class S>
LAPCORE_INLINE Vector<C> load_first_as(const S* p, std::int64_t n) {
    if constexpr (kWidens<S, C>) {
        return widened<C, S>(lower_half<S>(load_first(p, n), Lanes<C>{}));
    } else {
        return load_first(p, n);
    }
}

// The lower bits of kLanes<C> sums.
template <class C, class O>
LAPCORE_INLINE void store_as(O* p, Vector<C> v) {
    if constexpr (kWidens<O, C>) {
        const NarrowVector<O> low = narrowed<O, C>(v);
        std::memcpy(p, &low, sizeof low);
    } else {
        std::memcpy(p, &v, sizeof v);
    }
}
template <class O, std::size_t... I>
LAPCORE_INLINE Vector<O> as_whole(NarrowVector<O> v, std::index_sequence<I...>) {
    return __builtin_shufflevector(v, v, I...);
}
template <class C, class O>
LAPCORE_INLINE void store_first_as(O* p, Vector<C> v, std::int64_t n) {
    if constexpr (kWidens<O, C>) {
        store_first(p, as_whole<O>(narrowed<O, C>(v), Lanes<O>{}), n);
    } else {
        store_first(reinterpret_cast<C*>(p), v, n);
    }
}

// The even and the odd ones of 2 kLanes<C> samples or sums.
template <class C>
struct Halves {
    Vector<C> even, odd;
};

template <class C, class S>
LAPCORE_INLINE Halves<C> split(Vector<S> v) {
    static_assert(kWidens<S, C>);
    constexpr int kBits = 8 * sizeof(S);
    if constexpr (std::is_signed_v<S>) {
        const auto lanes = Vector<C>(v);
        return {(lanes << kBits) >> kBits, lanes >> kBits};
    } else {
        const auto lanes = Vector<std::make_unsigned_t<C>>(v);
        return {Vector<C>(lanes & ((1u << kBits) - 1)), Vector<C>(lanes >> kBits)};
    }
}
template <class O, class C>
LAPCORE_INLINE Vector<O> join(const Halves<C>& halves) {
    static_assert(kWidens<O, C>);
    constexpr int kBits = 8 * sizeof(O);
    return Vector<O>((halves.even & C((1u << kBits) - 1)) | (halves.odd << kBits));
}

template <class C, class S>
LAPCORE_INLINE Halves<C> load_halves(const S* p) {
    if constexpr (kWidens<S, C>) {
        return split<C, S>(load(p));
    } else {
        const Vector<C> a = load(p), b = load(p + kLanes<C>);
        return {even<C>(a, b), odd<C>(a, b)};
    }
}
template <class C, class S>
LAPCORE_INLINE Halves<C> load_first_halves(const S* p, std::int64_t n) {
    if constexpr (kWidens<S, C>) {
        return split<C, S>(load_first(p, n));
    } else {
        constexpr std::int64_t V = kLanes<C>;
        const Vector<C> a = load_first(p, std::min(n, V)), b = load_first(p + V, std::max<std::int64_t>(n - V, 0));
        return {even<C>(a, b), odd<C>(a, b)};
    }
}

// The same before they are told apart, where that may wait until after sums: two vectors side by side, to be sorted().
template <class C, class S>
LAPCORE_INLINE Halves<C> load_raw_halves(const S* p) {
    if constexpr (kWidens<S, C>) return load_halves<C>(p);
    return {load_as<C>(p), load_as<C>(p + kLanes<C>)};
}
template <class C, class S>
LAPCORE_INLINE Halves<C> load_first_raw_halves(const S* p, std::int64_t n) {
    constexpr std::int64_t V = kLanes<C>;
    if constexpr (kWidens<S, C>) return load_first_halves<C>(p, n);
    return {load_first_as<C>(p, std::min(n, V)), load_first_as<C>(p + V, std::max<std::int64_t>(n - V, 0))};
}
template <class C, class S>
LAPCORE_INLINE Halves<C> sorted(const Halves<C>& raw) {
    if constexpr (kWidens<S, C>) return raw;
    return {even<C>(raw.even, raw.odd), odd<C>(raw.even, raw.odd)};
}

}  // namespace lapcore::LAPCORE_ISA
