// Noise as a function of seed and position alone: Philox4x32-10, written once for CPU and CUDA.
//
// The contract, which every backend keeps:
//   key      (low, high) 32 bits of the seed, an int64 in two's complement
//   counter  (low, high) of the block number b, then (low, high) of the stream
//   element  e takes word e mod 4 of block e div 4; with one seed e counts in C order over the tensor,
//            with a seed for each row over its row
//   uniform  (word + 1/2) / 2^32 rounded once to float, and where that is 1 the largest float below: inside (0, 1)
//   normal   Box-Muller on the uniforms (a, b) of words (0, 1) and (2, 3): r cos(2 pi b), r sin(2 pi b) with
//            r = sqrt(-2 ln a), by the functions of common/math.h; within 4e-6 of its value in double
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

// Both halves of the word, and the 1/2, are exact; their sum is the one rounding, and the scale a power of two.
template <class V>
LAPCORE_MATH V uniform_of(Integers<V> word) {
    const V high = float_of<V>((word >> 16) & 0xffff), low = float_of<V>(word & 0xffff);
    const V u = (high * 0x1p16f + (low + 0.5f)) * 0x1p-32f;
    return u < 1.0f ? u : V{} + 0x1.fffffep-1f;
}

template <class V>
struct Pair {
    V first, second;
};

template <class V>
LAPCORE_MATH Pair<V> box_muller(Integers<V> word_a, Integers<V> word_b) {
    const V r = square_root(log_of_normal(uniform_of<V>(word_a)) * -2.0f);
    const CosSin<V> direction = cos_sin_of_turn(uniform_of<V>(word_b));
    return {r * direction.cos, r * direction.sin};
}

}  // namespace lapcore
