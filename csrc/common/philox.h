// Noise as a function of seed and position alone: Philox4x32-10, written once for CPU and CUDA.
//
// The contract, which every backend keeps:
//   key      (low, high) 32 bits of the seed, an int64 in two's complement
//   counter  (low, high) of the block number b, then (low, high) of the stream
//   element  e takes word e mod 4 of block e div 4; with one seed e counts in C order over the tensor,
//            with a seed for each row over its row
//   uniform  (word + 1/2) / 2^32 rounded once to float, and where that is 1 the largest float below: inside (0, 1)
//   normal   Box-Muller on the uniforms (a, b) of words (0, 1) and (2, 3): r cos(2 pi b), r sin(2 pi b) with
//            r = sqrt(-2 ln a), in float32 operation by operation as below; within 4e-6 of its value in double
// Words, uniforms and normals are the same to the bit everywhere. Salmon, Moraes, Dror & Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011; the constants are Random123's.
//
// `static`: each instruction set compiles its own copy, lest the linker hand AVX-512 code to the baseline.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/hd.h"
#include "common/math.h"

namespace lapcore {

constexpr std::uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
constexpr int kRounds = 10;

struct Words {
    std::uint32_t w[4];
};

// The four words of block `block` of a seed's stream.
LAPCORE_HD static inline Words philox4x32_10(std::uint64_t seed, std::uint64_t block, std::uint64_t stream) {
    std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    std::uint32_t c0 = static_cast<std::uint32_t>(block), c1 = static_cast<std::uint32_t>(block >> 32);
    std::uint32_t c2 = static_cast<std::uint32_t>(stream), c3 = static_cast<std::uint32_t>(stream >> 32);
    for (int round = 0; round < kRounds; ++round) {
        const std::uint64_t p0 = std::uint64_t{kMultiplier0} * c0, p1 = std::uint64_t{kMultiplier1} * c2;
        c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c1 = static_cast<std::uint32_t>(p1);
        c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c3 = static_cast<std::uint32_t>(p0);
        k0 += kWeyl0;
        k1 += kWeyl1;
    }
    return {{c0, c1, c2, c3}};
}

// 2^32 u: the word and 1/2 rounded once. Its upper half beside 2^39, and its lower half with the 1/2 beside 2^22, are
// exact, and so is the difference from what they stand beside.
template <class V>
LAPCORE_MATH V scaled_uniform_of(Integers<V> word) {
    const V high = same_bits<V>(((word >> 16) & 0xffff) | 0x53000000);
    const V low = same_bits<V>(((word & 0xffff) * 2) | 0x4a800001);
    return lower_of((high - (0x1p39f + 0x1p22f)) + low, 0x1.fffffep31f);
}

template <class V>
LAPCORE_MATH V uniform_of(Integers<V> word) {
    return scaled_uniform_of<V>(word) * 0x1p-32f;
}

template <class V>
struct Pair {
    V first, second;
};

// -2 ln a of 2^32 a: a = m 2^e with m in [sqrt(1/2), sqrt(2)), ln a = e ln 2 + ln(1 + f), f = m - 1.
template <class V>
LAPCORE_MATH V square_radius_of(V scaled) {
    constexpr std::int32_t root = 0x3f3504f3;  // sqrt(1/2)
    const Integers<V> bits = same_bits<Integers<V>>(scaled) - (root + (32 << 23));
    const V e = float_of<V>(bits >> 23), f = same_bits<V>((bits & 0x7fffff) + root) - 1.0f;
    V p = f * -0x1.f4c17ap-3f + 0x1.80b7f8p-2f;
    p = p * f + -0x1.a2d848p-2f;
    p = p * f + 0x1.fde13ap-2f;
    p = p * f + -0x1.552896p-1f;
    p = p * f + 0x1.0001d8p0f;
    p = p * f + -0x1.00000ep1f;
    return p * f + e * -0x1.62e43p0f;
}

// -x where bit 1 of n is set, x where not.
template <class V>
LAPCORE_MATH V negated_by_bit_1(V x, Integers<V> n) {
    if constexpr (std::is_same_v<V, float>) {
        return n & 2 ? -x : x;
    } else {
        return same_bits<V>(same_bits<Integers<V>>(x) ^ ((n << 30) & INT32_MIN));
    }
}

// cos(pi t / 2) and sin(pi t / 2) for 0 <= t <= 4: t = q + y with |y| <= 1/2, which is exact.
template <class V>
LAPCORE_MATH Pair<V> cos_sin_of_quarters(V t) {
    const V rounded = t + kRounder, y = t - (rounded - kRounder), s = y * y;
    V sin = s * -0x1.2f7c3ep-8f + 0x1.466be6p-4f;
    sin = sin * s + -0x1.4abbeep-1f;
    sin = (sin * s + 0x1.921fb6p0f) * y;
    V cos = s * -0x1.4eb114p-6f + 0x1.03b18ep-2f;
    cos = cos * s + -0x1.3bd3a2p0f;
    cos = cos * s + 1.0f;
    const auto quarter = same_bits<Integers<V>>(rounded);
    const auto odd = (quarter & 1) != 0;
    const V first = select(odd, sin, cos), second = select(odd, cos, sin);
    // Negative in the quarters 1 and 2, and 2 and 3.
    return {negated_by_bit_1(first, quarter + 1), negated_by_bit_1(second, quarter)};
}

template <class V>
LAPCORE_MATH Pair<V> box_muller(Integers<V> word_a, Integers<V> word_b) {
    const V r = square_root(square_radius_of(scaled_uniform_of<V>(word_a)));
    const Pair<V> direction = cos_sin_of_quarters(scaled_uniform_of<V>(word_b) * 0x1p-30f);
    return {r * direction.first, r * direction.second};
}

}  // namespace lapcore
