// Philox noise (common/philox.h) as many blocks at a time as a vector has lanes. Included once per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/philox.h"
#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

using Floats = Vector<float>;
using Words32 = Vector<std::int32_t>;
using Words64 = Vector<std::uint64_t>;

// The products of the lower halves of the lanes; what the upper ones hold is of no consequence.
LAPCORE_INLINE Words64 multiply_low(Words64 a, std::uint32_t b) {
#if defined(__AVX512F__)
    // With a mask of all lanes: GCC 12 takes what _mm512_mul_epu32 is made of for uninitialised.
    return Words64(_mm512_maskz_mul_epu32(0xff, __m512i(a), _mm512_set1_epi64(b)));
#elif defined(__AVX2__)
    return Words64(_mm256_mul_epu32(__m256i(a), _mm256_set1_epi64x(b)));
#elif defined(__x86_64__)
    return Words64(_mm_mul_epu32(__m128i(a), _mm_set1_epi64x(b)));
#else
    return (a & 0xffffffffu) * b;
#endif
}

// Words in the lower halves of 64-bit lanes.
struct State {
    Words64 c0, c1, c2, c3;

    LAPCORE_INLINE void round(std::uint32_t k0, std::uint32_t k1) {
        const Words64 p0 = multiply_low(c0, kMultiplier0), p1 = multiply_low(c2, kMultiplier1);
        c0 = (p1 >> 32) ^ c1 ^ k0;
        c1 = p1;
        c2 = (p0 >> 32) ^ c3 ^ k1;
        c3 = p0;
    }
};

// Word k of kLanes<float> blocks one after the other.
struct BlockWords {
    Words32 word[4];
};

LAPCORE_INLINE Words32 woven(Words64 even, Words64 odd) { return Words32((even & 0xffffffffu) | (odd << 32)); }

LAPCORE_INLINE BlockWords words_of(std::uint64_t seed, std::uint64_t stream, std::uint64_t first_block) {
    Words64 block{};
    for (std::uint64_t i = 0; i < std::uint64_t(kLanes<std::uint64_t>); ++i) block[i] = first_block + 2 * i;
    const Words64 low = Words64{} + (stream & 0xffffffffu), high = Words64{} + (stream >> 32);
    State even{block, block >> 32, low, high}, odd{block + 1, (block + 1) >> 32, low, high};
    std::uint32_t k0 = std::uint32_t(seed), k1 = std::uint32_t(seed >> 32);
    for (int round = 0; round < kRounds; ++round) {
        even.round(k0, k1);
        odd.round(k0, k1);
        k0 += kWeyl0;
        k1 += kWeyl1;
    }
    return {{woven(even.c0, odd.c0), woven(even.c1, odd.c1), woven(even.c2, odd.c2), woven(even.c3, odd.c3)}};
}

// a0 b0 c0 d0 a1 b1 ..: what belongs to a block side by side.
template <class C>
LAPCORE_INLINE void store_by_block(C* out, Vector<C> a, Vector<C> b, Vector<C> c, Vector<C> d) {
    constexpr std::int64_t V = kLanes<C>;
    const TwoVectors<C> ac = interleave<C>(a, c), bd = interleave<C>(b, d);
    const TwoVectors<C> front = interleave<C>(ac.first, bd.first), back = interleave<C>(ac.second, bd.second);
    store(out, front.first);
    store(out + V, front.second);
    store(out + 2 * V, back.first);
    store(out + 3 * V, back.second);
}

// What is made of the words: each stores 4 kLanes<float> elements.
struct Bits {
    using type = std::int32_t;
    LAPCORE_INLINE static void draw(std::int32_t* out, const BlockWords& w) {
        store_by_block(out, w.word[0], w.word[1], w.word[2], w.word[3]);
    }
};

struct Uniform {
    using type = float;
    LAPCORE_INLINE static void draw(float* out, const BlockWords& w) {
        store_by_block(out, uniform_of<Floats>(w.word[0]), uniform_of<Floats>(w.word[1]), uniform_of<Floats>(w.word[2]),
                       uniform_of<Floats>(w.word[3]));
    }
};

struct Normal {
    using type = float;
    LAPCORE_INLINE static void draw(float* out, const BlockWords& w) {
        const auto a = box_muller<Floats>(w.word[0], w.word[1]), b = box_muller<Floats>(w.word[2], w.word[3]);
        store_by_block(out, a.first, a.second, b.first, b.second);
    }
};

constexpr std::int64_t kNoiseTile = 1024;

// The noise of one stream, a tile of it at hand.
template <class Kind>
class Noise {
public:
    using C = typename Kind::type;

    // Elements before `end` may be asked for.
    Noise(std::uint64_t seed, std::uint64_t stream, std::int64_t end) : seed_(seed), stream_(stream), end_(end) {}

    // The elements [first, first + n), n <= kNoiseTile; valid until the next call.
    const C* at(std::int64_t first, std::int64_t n) {
        if (first < begin_ || first + n > filled_) fill(first);
        return tile_ + (first - begin_);
    }

private:
    static constexpr std::int64_t kStep = 4 * kLanes<float>;

    void fill(std::int64_t first) {
        begin_ = first / 4 * 4;
        const std::int64_t count = std::min(end_ - begin_, kNoiseTile + 4);
        for (std::int64_t i = 0; i < count; i += kStep) {
            Kind::draw(tile_ + i, words_of(seed_, stream_, std::uint64_t(begin_ + i) / 4));
        }
        filled_ = begin_ + count;
    }

    std::uint64_t seed_, stream_;
    std::int64_t end_, begin_ = 0, filled_ = 0;
    alignas(64) C tile_[kNoiseTile + kStep];
};

}  // namespace lapcore::LAPCORE_ISA
