// A vector of samples of each of K interleaved channels, and the arithmetic of cpu/simd.h on all of them. Included once
// per instruction set.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

template <class C, int K>
struct Pixels {
    Vector<C> channel[K];
};

// What `make` gives for the channels 0 .. K - 1.
template <class C, int K, class Make>
LAPCORE_INLINE Pixels<C, K> each_channel(const Make& make) {
    Pixels<C, K> made;
    for (int k = 0; k < K; ++k) made.channel[k] = make(k);
    return made;
}

template <class C, int K>
LAPCORE_INLINE Pixels<C, K> operator+(const Pixels<C, K>& a, const Pixels<C, K>& b) {
    return each_channel<C, K>([&](int k) LAPCORE_INLINE_LAMBDA { return a.channel[k] + b.channel[k]; });
}
template <class C, int K>
LAPCORE_INLINE Pixels<C, K> operator*(const Pixels<C, K>& a, C weight) {
    return each_channel<C, K>([&](int k) LAPCORE_INLINE_LAMBDA { return a.channel[k] * weight; });
}
template <class C, int K>
LAPCORE_INLINE Pixels<C, K> even(const Pixels<C, K>& a, const Pixels<C, K>& b) {
    return each_channel<C, K>([&](int k) LAPCORE_INLINE_LAMBDA { return even<C>(a.channel[k], b.channel[k]); });
}
template <class C, int K>
LAPCORE_INLINE Pixels<C, K> odd(const Pixels<C, K>& a, const Pixels<C, K>& b) {
    return each_channel<C, K>([&](int k) LAPCORE_INLINE_LAMBDA { return odd<C>(a.channel[k], b.channel[k]); });
}
template <class C, int K>
LAPCORE_INLINE Pixels<C, K> one_before(const Pixels<C, K>& previous, const Pixels<C, K>& now) {
    return each_channel<C, K>([&](int k)
                                  LAPCORE_INLINE_LAMBDA { return one_before<C>(previous.channel[k], now.channel[k]); });
}
template <class C, int K>
LAPCORE_INLINE Pixels<C, K> one_after(const Pixels<C, K>& now, const Pixels<C, K>& next) {
    return each_channel<C, K>([&](int k)
                                  LAPCORE_INLINE_LAMBDA { return one_after<C>(now.channel[k], next.channel[k]); });
}

// One pixel.
template <class C, int K>
struct Pixel {
    C channel[K];
};
template <class C, int K>
LAPCORE_INLINE Pixels<C, K> splat(const Pixel<C, K>& pixel) {
    return each_channel<C, K>([&](int k) LAPCORE_INLINE_LAMBDA { return Vector<C>{} + pixel.channel[k]; });
}
template <class C, int K>
LAPCORE_INLINE void set(Pixels<C, K>& pixels, std::int64_t lane, const Pixel<C, K>& pixel) {
    for (int k = 0; k < K; ++k) pixels.channel[k][lane] = pixel.channel[k];
}

// Sample s of K vectors side by side is lane s / K of channel s % K.
template <int K, int k, std::size_t m, class V, std::size_t... I>
LAPCORE_INLINE V separated_lanes(V sofar, V next, std::index_sequence<I...>) {
    constexpr std::size_t n = sizeof...(I);
    return __builtin_shufflevector(sofar, next, ((K * I + k) / n == m ? n + (K * I + k) % n : I)...);
}
template <int K, std::size_t m, int k, class V, std::size_t... I>
LAPCORE_INLINE V joined_lanes(V sofar, V channel, std::index_sequence<I...>) {
    constexpr std::size_t n = sizeof...(I);
    return __builtin_shufflevector(sofar, channel, ((m * n + I) % K == k ? n + (m * n + I) / K : I)...);
}

template <class C, int K, int k, std::size_t... M>
LAPCORE_INLINE Vector<C> separated(const Vector<C> (&side_by_side)[K], std::index_sequence<M...>) {
    Vector<C> v = side_by_side[0];
    ((v = separated_lanes<K, k, M>(v, side_by_side[M], Lanes<C>{})), ...);
    return v;
}
template <class C, int K, int... k>
LAPCORE_INLINE Pixels<C, K> separated(const Vector<C> (&side_by_side)[K], std::integer_sequence<int, k...>) {
    return {{separated<C, K, k>(side_by_side, std::make_index_sequence<K>{})...}};
}
template <class C, int K>
LAPCORE_INLINE Pixels<C, K> separated(const Vector<C> (&side_by_side)[K]) {
    if constexpr (K == 1) {
        return {{side_by_side[0]}};
    } else {
        return separated<C, K>(side_by_side, std::make_integer_sequence<int, K>{});
    }
}

template <std::size_t m, class C, int K, int... k>
LAPCORE_INLINE Vector<C> joined(const Pixels<C, K>& pixels, std::integer_sequence<int, k...>) {
    Vector<C> v = pixels.channel[0];
    if constexpr (K > 1) ((v = joined_lanes<K, m, k>(v, pixels.channel[k], Lanes<C>{})), ...);
    return v;
}
// Calls put(m, vector) for the K vectors that the pixels are side by side.
template <class C, int K, class Put, std::size_t... M>
LAPCORE_INLINE void join(const Pixels<C, K>& pixels, const Put& put, std::index_sequence<M...>) {
    (put(std::int64_t(M), joined<M>(pixels, std::make_integer_sequence<int, K>{})), ...);
}
template <class C, int K, class Put>
LAPCORE_INLINE void join(const Pixels<C, K>& pixels, const Put& put) {
    join(pixels, put, std::make_index_sequence<K>{});
}

}  // namespace lapcore::LAPCORE_ISA
