// Philox noise (common/philox.h) as many blocks at a time as a vector has lanes. Included once per instruction set.
#pragma once

#include <cstdint>

#include "common/philox.h"
#include "cpu/random.h"
#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

// Vectors beside each other: as many as there are registers for.
#if defined(__AVX512F__)
constexpr int kBeside = 3;
#else
constexpr int kBeside = 1;
#endif

using Floats = Vector<float>;
using Words32 = Vector<std::int32_t>;
using Words64 = Vector<std::uint64_t>;

// The products of the lower halves of the lanes.
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

// The upper halves of the lanes, in the lower ones.
LAPCORE_INLINE Words64 upper(Words64 a) {
#if defined(__AVX512F__)
    return Words64(_mm512_maskz_shuffle_epi32(0xffff, __m512i(a), _MM_PERM_DDBB));
#elif defined(__AVX2__)
    return Words64(_mm256_shuffle_epi32(__m256i(a), 0xf5));
#elif defined(__x86_64__)
    return Words64(_mm_shuffle_epi32(__m128i(a), 0xf5));
#else
    return a >> 32;
#endif
}

// The round keys of a seed.
struct Keys {
    std::uint64_t k0[kRounds], k1[kRounds];

    explicit Keys(std::uint64_t seed) {
        std::uint32_t low = std::uint32_t(seed), high = std::uint32_t(seed >> 32);
        for (int round = 0; round < kRounds; ++round, low += kWeyl0, high += kWeyl1) {
            k0[round] = low;
            k1[round] = high;
        }
    }
};

// Words in the lower halves of 64-bit lanes; what the upper ones hold is of no consequence. For each vector of blocks
// one of its even and one of its odd ones.
using Halves = Several<Words64, 2 * kBeside>;

struct State {
    Halves c0, c1, c2, c3;

    LAPCORE_INLINE void round(std::uint64_t k0, std::uint64_t k1) {
        const auto multiply = [](std::uint32_t m) {
            return [m](Words64 v) LAPCORE_INLINE_LAMBDA { return multiply_low(v, m); };
        };
        const auto high = [](Words64 v) LAPCORE_INLINE_LAMBDA { return upper(v); };
        const Halves p0 = each(multiply(kMultiplier0), c0), p1 = each(multiply(kMultiplier1), c2);
        c0 = each(high, p1) ^ c1 ^ k0;
        c1 = p1;
        c2 = each(high, p0) ^ c3 ^ k1;
        c3 = p0;
    }
};

// Word k of kBeside vectors of blocks, which follow one another.
struct BlockWords {
    Several<Words32, kBeside> word[4];
};

LAPCORE_INLINE Several<Words32, kBeside> woven(const Halves& halves) {
    Several<Words32, kBeside> words;
    for (int i = 0; i < kBeside; ++i) {
        words.part[i] = Words32((halves.part[2 * i] & 0xffffffffu) | (halves.part[2 * i + 1] << 32));
    }
    return words;
}

LAPCORE_INLINE BlockWords words_of(const Keys& keys, std::uint64_t stream, std::uint64_t first_block) {
    constexpr std::uint64_t lanes = kLanes<std::uint64_t>;
    Words64 even{};
    for (std::uint64_t i = 0; i < lanes; ++i) even[i] = first_block + 2 * i;
    Halves block;
    for (int i = 0; i < 2 * kBeside; ++i) block.part[i] = even + (i / 2 * 2 * lanes + i % 2);
    const Halves low = Halves{} + (stream & 0xffffffffu), high = Halves{} + (stream >> 32);
    State state{block, block >> 32, low, high};
    for (int round = 0; round < kRounds; ++round) state.round(keys.k0[round], keys.k1[round]);
    return {{woven(state.c0), woven(state.c1), woven(state.c2), woven(state.c3)}};
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

template <class C>
using Beside = Several<Vector<C>, kBeside>;

template <class C>
LAPCORE_INLINE void store_by_block(C* out, const Beside<C>& a, const Beside<C>& b, const Beside<C>& c,
                                   const Beside<C>& d) {
    for (int i = 0; i < kBeside; ++i) {
        store_by_block<C>(out + 4 * kLanes<C> * i, a.part[i], b.part[i], c.part[i], d.part[i]);
    }
}

// What is made of the words: each stores kStep elements.
constexpr std::int64_t kStep = 4 * kLanes<float> * kBeside;

struct Bits {
    using type = std::int32_t;
    LAPCORE_INLINE static void draw(std::int32_t* out, const BlockWords& w) {
        store_by_block<std::int32_t>(out, w.word[0], w.word[1], w.word[2], w.word[3]);
    }
};

struct Uniform {
    using type = float;
    LAPCORE_INLINE static void draw(float* out, const BlockWords& w) {
        using V = Beside<float>;
        store_by_block<float>(out, uniform_of<V>(w.word[0]), uniform_of<V>(w.word[1]), uniform_of<V>(w.word[2]),
                              uniform_of<V>(w.word[3]));
    }
};

struct Normal {
    using type = float;
    // Both pairs of words beside each other.
    LAPCORE_INLINE static void draw(float* out, const BlockWords& w) {
        using V = Several<Floats, 2 * kBeside>;
        Integers<V> a, b;
        for (int i = 0; i < kBeside; ++i) {
            a.part[2 * i] = w.word[0].part[i];
            a.part[2 * i + 1] = w.word[2].part[i];
            b.part[2 * i] = w.word[1].part[i];
            b.part[2 * i + 1] = w.word[3].part[i];
        }
        const Pair<V> normals = box_muller<V>(a, b);
        for (int i = 0; i < kBeside; ++i) {
            store_by_block<float>(out + 4 * kLanes<float> * i, normals.first.part[2 * i], normals.second.part[2 * i],
                                  normals.first.part[2 * i + 1], normals.second.part[2 * i + 1]);
        }
    }
};

static_assert(kNoiseTile % kStep == 0 && kStep <= kNoiseBeyond);

// The elements from `first`, a multiple of 4, on: n of them, and what is left of a step.
template <class Kind>
void draw_elements(std::uint64_t seed, std::uint64_t stream, std::int64_t first, std::int64_t n,
                   typename Kind::type* out) {
    const Keys keys(seed);
    for (std::int64_t i = 0; i < n; i += kStep) {
        Kind::draw(out + i, words_of(keys, stream, std::uint64_t(first + i) / 4));
    }
}

}  // namespace lapcore::LAPCORE_ISA
