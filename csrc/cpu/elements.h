// Tiles of rows of elements: read and written in place where they are of the type of the computation, by way of a
// buffer where they are of 16 bits; and sums over rows. Included once per instruction set.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/several.h"
#include "common/view.h"
#include "cpu/chunks.h"
#include "cpu/simd.h"
#include "cpu/typed_elements.h"

namespace lapcore::LAPCORE_ISA {

template <class C>
class Input {
public:
    Input(DType dtype, const lapcore::Rows& rows) : dtype_(dtype), rows_(rows) {}

    explicit operator bool() const { return rows_.data; }

    // The elements [first, first + n) of a row; valid until the next call. Null where the tensor is not there.
    const C* tile(std::int64_t row, std::int64_t first, std::int64_t n) {
        if (!rows_.data) return nullptr;
        const std::int64_t at = row * rows_.stride + first;
        if (in_place<C>(dtype_)) return static_cast<const C*>(rows_.data) + at;
        load_elements(dtype_, rows_.data, at, 1, n, buffer_);
        return buffer_;
    }

private:
    DType dtype_;
    lapcore::Rows rows_;
    alignas(64) C buffer_[kTile];
};

template <class C>
class Output {
public:
    Output(DType dtype, const lapcore::Rows& rows) : dtype_(dtype), rows_(rows) {}

    // Where to write the elements [first, first + n) of a row, before `finish`. Null where the tensor is not there.
    C* tile(std::int64_t row, std::int64_t first, std::int64_t n) {
        if (!rows_.data) return nullptr;
        at_ = row * rows_.stride + first;
        n_ = n;
        return in_place<C>(dtype_) ? static_cast<C*>(rows_.data) + at_ : buffer_;
    }

    void finish() {
        if (rows_.data && !in_place<C>(dtype_)) store_elements(dtype_, buffer_, n_, rows_.data, at_);
    }

private:
    DType dtype_;
    lapcore::Rows rows_;
    std::int64_t at_ = 0, n_ = 0;
    alignas(64) C buffer_[kTile];
};

// How many vectors of a tile are taken at a time. Of doubles, whose functions the C library has of single numbers, 8
// numbers: their results are written one by one and read as vectors, which takes a processor long.
#if defined(__AVX512F__)
template <class C>
constexpr int kAtOnce = sizeof(C) == 8 ? 1 : 4;
#else
template <class C>
constexpr int kAtOnce = sizeof(C) == 8 ? 8 / kLanes<double> : 2;
#endif

// The place of kAtOnce vectors from element i on.
template <class C>
struct Wide {
    using V = Several<Vector<C>, kAtOnce<C>>;
    static constexpr std::int64_t kCount = kAtOnce<C> * kLanes<C>;
    std::int64_t i;
    bool streamed;

    LAPCORE_INLINE V load(const C* p) const {
        V v;
        for (int k = 0; k < kAtOnce<C>; ++k) v.part[k] = LAPCORE_ISA::load(p + i + k * kLanes<C>);
        return v;
    }
    LAPCORE_INLINE void store(C* p, const V& v) const {
        for (int k = 0; k < kAtOnce<C>; ++k) {
            if (streamed) {
                stream(p + i + k * kLanes<C>, v.part[k]);
            } else {
                LAPCORE_ISA::store(p + i + k * kLanes<C>, v.part[k]);
            }
        }
    }
};

// The place of one vector, of n elements; the others read as zeros.
template <class C>
struct Part {
    using V = Vector<C>;
    std::int64_t i, n;

    LAPCORE_INLINE V load(const C* p) const { return load_first(p + i, n); }
    LAPCORE_INLINE void store(C* p, V v) const { store_first(p + i, v, n); }
};

// The place of one number.
template <class C>
struct Single {
    using V = C;
    std::int64_t i;

    C load(const C* p) const { return p[i]; }
    void store(C* p, C value) const { p[i] = value; }
};

// Calls body(place) for the elements [first, n): a vector at a time, or a number where its functions are those of the C
// library.
template <class C, class Body>
LAPCORE_INLINE void one_by_one(std::int64_t first, std::int64_t n, const Body& body) {
    if constexpr (std::is_same_v<C, double>) {
        for (std::int64_t i = first; i < n; ++i) body(Single<C>{i});
    } else {
        for (std::int64_t i = first; i < n; i += kLanes<C>) body(Part<C>{i, std::min(kLanes<C>, n - i)});
    }
}

// Calls body(place) for n elements, several vectors at a time, which are written past the caches if `streamed`.
template <class C, class Body>
LAPCORE_INLINE void over_places(std::int64_t n, bool streamed, const Body& body) {
    std::int64_t i = 0;
    for (; i + Wide<C>::kCount <= n; i += Wide<C>::kCount) body(Wide<C>{i, streamed});
    one_by_one<C>(i, n, body);
}

// float32 numbers as the computation's.
template <class Place>
LAPCORE_INLINE auto load_noise(const Place& at, const float* p, float) {
    return at.load(p);
}
template <class Place>
LAPCORE_INLINE auto load_noise(const Place& at, const float* p, double) {
    typename Place::V v;
    double* const lanes = reinterpret_cast<double*>(&v);
    for (std::size_t i = 0; i < sizeof v / sizeof(double); ++i) lanes[i] = p[at.i + std::int64_t(i)];
    return v;
}

template <std::size_t first, std::size_t... I>
LAPCORE_INLINE Vector<double> widened(Vector<float> v, std::index_sequence<I...>) {
    const auto half = __builtin_shufflevector(v, v, (first + I)...);
#if defined(__AVX512F__)
    return Vector<double>(_mm512_maskz_cvtps_pd(0xff, __m256(half)));
#else
    return __builtin_convertvector(half, Vector<double>);
#endif
}

// A sum in double in kWays parts, element i of a tile in part i mod kWays, whatever the length of a vector: the terms'
// own roundings, and that of the result, are all that a float32 sum of less than 2^20 terms shows.
class Sum16 {
public:
    LAPCORE_INLINE void add(std::int64_t i, double term) { parts_[i / kEach % kParts][i % kEach] += term; }

    LAPCORE_INLINE void add(std::int64_t i, Vector<double> terms) { parts_[i / kEach % kParts] += terms; }

    LAPCORE_INLINE void add(std::int64_t i, Vector<float> terms) {
        constexpr auto half = std::make_index_sequence<std::size_t(kEach)>{};
        parts_[i / kEach % kParts] += widened<0>(terms, half);
        parts_[(i / kEach + 1) % kParts] += widened<std::size_t(kEach)>(terms, half);
    }

    template <class V, int K>
    LAPCORE_INLINE void add(std::int64_t i, const Several<V, K>& terms) {
        constexpr auto lanes = std::int64_t(sizeof(V) / sizeof(terms.part[0][0]));
        for (int k = 0; k < K; ++k) add(i + k * lanes, terms.part[k]);
    }

    double total() const {
        double sums[kWays];
        std::memcpy(sums, parts_, sizeof sums);
        for (std::int64_t half = kWays / 2; half > 0; half /= 2) {
            for (std::int64_t i = 0; i < half; ++i) sums[i] += sums[i + half];
        }
        return sums[0];
    }

private:
    static constexpr std::int64_t kWays = 16, kEach = kLanes<double>, kParts = kWays / kEach;
    Vector<double> parts_[kParts] = {};
};

}  // namespace lapcore::LAPCORE_ISA
