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
#include "cpu/convert.h"
#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

template <class C>
bool in_place(DType dtype) {
    return dtype == (std::is_same_v<C, double> ? DType::float64 : DType::float32);
}

template <class C>
class Input {
public:
    Input(DType dtype, const lapcore::Rows& rows) : dtype_(dtype), rows_(rows) {}

    explicit operator bool() const { return rows_.data; }

    // The elements [first, first + n) of a row; valid until the next call. Null where the tensor is not there.
    const C* tile(std::int64_t row, std::int64_t first, std::int64_t n) {
        if (!rows_.data) return nullptr;
        const char* at = static_cast<const char*>(rows_.data) + (row * rows_.stride + first) * bytes_of(dtype_);
        if (in_place<C>(dtype_)) return reinterpret_cast<const C*>(at);
        if constexpr (std::is_same_v<C, float>) {
            if (dtype_ == DType::float16) {
                load_row(reinterpret_cast<const Half*>(at), 1, n, buffer_);
            } else {
                load_row(reinterpret_cast<const BFloat16*>(at), 1, n, buffer_);
            }
        }
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
        at_ = static_cast<char*>(rows_.data) + (row * rows_.stride + first) * bytes_of(dtype_);
        n_ = n;
        return in_place<C>(dtype_) ? reinterpret_cast<C*>(at_) : buffer_;
    }

    void finish() {
        if (!rows_.data || in_place<C>(dtype_)) return;
        if constexpr (std::is_same_v<C, float>) {
            if (dtype_ == DType::float16) {
                store_row(buffer_, n_, reinterpret_cast<Half*>(at_), 1);
            } else {
                store_row(buffer_, n_, reinterpret_cast<BFloat16*>(at_), 1);
            }
        }
    }

private:
    DType dtype_;
    lapcore::Rows rows_;
    char* at_ = nullptr;
    std::int64_t n_ = 0;
    alignas(64) C buffer_[kTile];
};

// How many vectors of a tile are taken at a time.
#if defined(__AVX512F__)
template <class C>
constexpr int kAtOnce = std::is_same_v<C, float> ? 4 : 1;
#else
template <class C>
constexpr int kAtOnce = std::is_same_v<C, float> ? 2 : 1;
#endif

// Their place.
template <class C>
struct Wide {
    using V = Several<Vector<C>, kAtOnce<C>>;
    std::int64_t i;
    bool streamed;

    static constexpr std::int64_t count() { return kAtOnce<C> * kLanes<C>; }
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

// One vector, of n elements; the others read as zeros.
template <class C>
struct Part {
    using V = Vector<C>;
    std::int64_t i, n;

    std::int64_t count() const { return n; }
    LAPCORE_INLINE V load(const C* p) const { return load_first(p + i, n); }
    LAPCORE_INLINE void store(C* p, V v) const { store_first(p + i, v, n); }
};

template <class C, class Body>
LAPCORE_INLINE void over_vectors(std::int64_t n, bool streamed, const Body& body) {
    constexpr std::int64_t width = kAtOnce<C> * kLanes<C>;
    std::int64_t i = 0;
    for (; i + width <= n; i += width) body(Wide<C>{i, streamed});
    for (; i < n; i += kLanes<C>) body(Part<C>{i, std::min(kLanes<C>, n - i)});
}

// float32 numbers as the computation's.
template <class Place>
LAPCORE_INLINE auto load_floats(const Place& at, const float* p, float) {
    return at.load(p);
}
template <class Place>
LAPCORE_INLINE auto load_floats(const Place& at, const float* p, double) {
    typename Place::V v{};
    double* const lanes = reinterpret_cast<double*>(&v);
    for (std::int64_t i = 0; i < at.count(); ++i) lanes[i] = p[at.i + i];
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
template <class C>
class Sum16 {
public:
    LAPCORE_INLINE void add(std::int64_t i, Vector<C> terms) {
        if constexpr (std::is_same_v<C, double>) {
            parts_[i / kEach % kParts] += terms;
        } else {
            constexpr auto half = std::make_index_sequence<std::size_t(kEach)>{};
            parts_[i / kEach % kParts] += widened<0>(terms, half);
            parts_[(i / kEach + 1) % kParts] += widened<std::size_t(kEach)>(terms, half);
        }
    }

    template <int K>
    LAPCORE_INLINE void add(std::int64_t i, const Several<Vector<C>, K>& terms) {
        for (int k = 0; k < K; ++k) add(i + k * kLanes<C>, terms.part[k]);
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
