// Noise as a function of seed and position alone: Philox4x32-10, written once for CPU and CUDA.
//
// The contract, which every backend keeps:
//   key      (low, high) 32 bits of the seed, an int64 in two's complement
//   counter  (low, high) of the block number b, then (low, high) of the stream
//   element  e takes word e mod 4 of block e div 4; with one seed e counts in C order over the tensor,
//            with a seed for each row over its row
//   uniform  (word + 1/2) / 2^32 rounded once to float, and where that is 1 the largest float below: inside (0, 1)
//   normal   Box-Muller on the uniforms (a, b) of words (0, 1) and (2, 3): r cos(2 pi b), r sin(2 pi b) with
//            r = sqrt(-2 ln a), within 4e-6 of its value in double; never build it with fast-math
// Words and uniforms are the same to the bit everywhere. Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as
// easy as 1, 2, 3", SC 2011; the constants are Random123's.
//
// `static`: each instruction set compiles its own copy, lest the linker hand AVX-512 code to the baseline.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/hd.h"

namespace lapcore {

struct Words {
    std::uint32_t w[4];
};

struct Pair {
    float first, second;
};

// The four words of block `block` of a seed's stream.
LAPCORE_HD static inline Words philox4x32_10(std::uint64_t seed, std::uint64_t block, std::uint64_t stream) {
    std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    std::uint32_t c0 = static_cast<std::uint32_t>(block), c1 = static_cast<std::uint32_t>(block >> 32);
    std::uint32_t c2 = static_cast<std::uint32_t>(stream), c3 = static_cast<std::uint32_t>(stream >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0, p1 = std::uint64_t{0xCD9E8D57u} * c2;
        c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c1 = static_cast<std::uint32_t>(p1);
        c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c3 = static_cast<std::uint32_t>(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// 2 word + 1 is exact in 64 bits, its conversion is the one rounding, and the scale is a power of two.
LAPCORE_HD static inline float uniform_of(std::uint32_t word) {
    const float u = static_cast<float>(2 * static_cast<std::int64_t>(word) + 1) * 0x1p-33f;
    return u < 1.0f ? u : 0x1.fffffep-1f;
}

// The angle is 2 pi (b - round(b)): the difference is exact, and |angle| <= pi halves what the float product loses.
LAPCORE_HD static inline Pair box_muller(std::uint32_t word_a, std::uint32_t word_b) {
    const float a = uniform_of(word_a), b = uniform_of(word_b);
    const float r = sqrtf(-2.0f * logf(a));
    const float turn = b - rintf(b);
#if defined(__CUDA_ARCH__)
    float s, c;
    sincospif(2.0f * turn, &s, &c);
    return {r * c, r * s};
#else
    const float angle = 6.28318530717958647692f * turn;
    return {r * cosf(angle), r * sinf(angle)};
#endif
}

}  // namespace lapcore
