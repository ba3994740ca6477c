// sum_i exp(-h_i / sigma^2) over a stream of half squared distances h_i, for several sigmas at once and for each lane
// by itself, in the order of i: relative to the least h so far, which is the same for all sigmas. Included once per
// instruction set.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "common/math.h"
#include "cpu/matrix.h"

namespace lapcore::LAPCORE_ISA {

// A term further than this below the largest, in nats, is left out: 10^6 of them are less than 2e-16 of the sum.
constexpr double kReach = 50;

// Samples whose terms are added up in C, before they go to a sum in float64.
constexpr std::int64_t kGroup = 96;
static_assert(kGroup % kTileRows == 0);

template <class V>
LAPCORE_INLINE bool any(V mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask(__m512i(mask), __m512i(mask)) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8(__m256i(mask)) != 0;
#elif defined(__x86_64__)
    return _mm_movemask_epi8(__m128i(mask)) != 0;
#else
    for (std::size_t i = 0; i < sizeof(V) / sizeof(mask[0]); ++i)
        if (mask[i]) return true;
    return false;
#endif
}

// e^x for -kReach <= x <= 0; below it x is held, lest the exponent of what nobody looks at overflow.
template <class C>
LAPCORE_INLINE Vector<C> exp_in_reach(Vector<C> x) {
    if constexpr (sizeof(C) == 4) {
        return exp_within(higher_of(x, float(-kReach)));
    } else {
        for (std::int64_t i = 0; i < kLanes<C>; ++i) x[i] = std::exp(x[i]);
        return x;
    }
}

// The sigmas, the largest first.
template <class C>
class Windows {
public:
    explicit Windows(const std::vector<double>& sigmas) : order_(sigmas.size()) {
        std::iota(order_.begin(), order_.end(), std::size_t{0});
        std::sort(order_.begin(), order_.end(),
                  [&](auto a, auto b) { return sigmas[a] > sigmas[b] || (sigmas[a] == sigmas[b] && a < b); });
        for (const std::size_t s : order_) {
            sigmas_.push_back(sigmas[s]);
            precisions_.push_back(within<double>(1 / sigmas[s] / sigmas[s]));
            narrow_.push_back(C(within<C>(precisions_.back())));
            reaches_.push_back(std::min(C(kReach) / narrow_.back(), std::numeric_limits<C>::max()));
        }
    }

    std::int64_t size() const { return std::int64_t(order_.size()); }
    std::int64_t place(std::int64_t s) const { return std::int64_t(order_[std::size_t(s)]); }  // in the caller's order
    double sigma(std::int64_t s) const { return sigmas_[std::size_t(s)]; }
    double precision(std::int64_t s) const { return precisions_[std::size_t(s)]; }
    const C* narrow() const { return narrow_.data(); }
    const C* reaches() const { return reaches_.data(); }

private:
    // So that neither a zero nor an infinity makes NaN.
    template <class D>
    static double within(double precision) {
        return std::clamp<double>(precision, std::numeric_limits<D>::min(), std::numeric_limits<D>::max());
    }

    std::vector<std::size_t> order_;
    std::vector<double> sigmas_, precisions_;
    std::vector<C> narrow_, reaches_;
};

// Of some rows, padded to whole tiles: the least h of each, and for each sigma the sum of exp(-(h - least) / sigma^2).
template <class C>
struct LogSums {
    std::int64_t rows;
    std::vector<C> least;
    std::vector<double> sums;

    LogSums(std::int64_t count, std::int64_t sigmas)
        : rows(count),
          least(std::size_t(count), std::numeric_limits<C>::infinity()),
          sums(std::size_t(count * sigmas)) {}

    double* sums_of(std::int64_t s) { return sums.data() + s * rows; }

    // Adds the terms of h, (kGroup, kTileColumns), to those of the kTileColumns rows from `first` on.
    void add(const Windows<C>& windows, const C* h, std::int64_t first) {
        for (std::int64_t v = 0; v < kTileColumns<C>; v += kLanes<C>) add_vector(windows, h + v, first + v);
    }

    // The terms of other samples of the same rows.
    void merge(const Windows<C>& windows, LogSums& other) {
        for (std::int64_t i = 0; i < rows; ++i) {
            const C a = least[std::size_t(i)], b = other.least[std::size_t(i)], lower = std::min(a, b);
            for (std::int64_t s = 0; s < windows.size(); ++s) {
                double& sum = sums_of(s)[i];
                sum = sum * decay(windows.precision(s), a - lower) +
                      other.sums_of(s)[i] * decay(windows.precision(s), b - lower);
            }
            least[std::size_t(i)] = lower;
        }
    }

private:
    static double decay(double precision, C h) {
        return h <= std::numeric_limits<C>::max() ? std::exp(-precision * double(h)) : 0;
    }

    // exp(-h precision), or 0 out of reach, for NaN too.
    static LAPCORE_INLINE Vector<C> term(Vector<C> h, C precision, C reach) {
        return h <= reach ? exp_in_reach<C>(-h * precision) : Vector<C>{};
    }

    void add_vector(const Windows<C>& windows, const C* h, std::int64_t first) {
        const C *precisions = windows.narrow(), *reaches = windows.reaches();
        const Vector<C> old = load(&least[std::size_t(first)]);
        Vector<C> lower = old;
        for (std::int64_t i = 0; i < kGroup; ++i) {
            const Vector<C> next = load(h + i * kTileColumns<C>);
            lower = next < lower ? next : lower;
        }
        std::vector<C> parts(std::size_t(windows.size() * kLanes<C>));
        for (std::int64_t i = 0; i < kGroup; ++i) {
            const Vector<C> excess = load(h + i * kTileColumns<C>) - lower;
            for (std::int64_t s = 0; s < windows.size(); ++s) {
                if (!any(excess <= reaches[s])) break;  // nor is it in reach of a smaller sigma
                C* const part = &parts[std::size_t(s * kLanes<C>)];
                store(part, load(part) + term(excess, precisions[s], reaches[s]));
            }
        }
        for (std::int64_t s = 0; s < windows.size(); ++s) {
            double* const to = sums_of(s) + first;
            const Vector<C> kept = term(old - lower, precisions[s], reaches[s]);
            for (std::int64_t i = 0; i < kLanes<C>; ++i)
                to[i] = to[i] * double(kept[i]) + double(parts[std::size_t(s * kLanes<C> + i)]);
        }
        store(&least[std::size_t(first)], lower);
    }
};

}  // namespace lapcore::LAPCORE_ISA
