// A draw from a categorical distribution by inversion. Included once per instruction set.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "common/math.h"
#include "cpu/elements.h"

namespace lapcore::LAPCORE_ISA {

// One of the largest logits has p = 1, be it infinite, and NaN has p = 0.
template <class V>
LAPCORE_INLINE V probability_of(V logit, V largest) {
    const V e = exp_of(logit - largest), p = select(logit == largest, V{} + 1, e);
    return select(p == p, p, V{});
}

class CategoricalDraw {
public:
    // The first k whose sum p_0 + .. + p_k, taken in this order, is above u times the whole; else the last with p > 0.
    template <class C>
    std::int64_t operator()(const C* logits, std::int64_t count, C u) {
        auto& [p, sums] = std::get<Scratch<C>>(scratch_);
        if (std::int64_t(p.size()) < count) p.resize(std::size_t(count)), sums.resize(std::size_t(count));
        weigh(logits, count, p.data());
        C sum = 0;
        for (std::int64_t k = 0; k < count; ++k) sums[std::size_t(k)] = sum += p[std::size_t(k)];
        const C bound = u * sum;
        for (std::int64_t k = 0; k < count; ++k) {
            if (sums[std::size_t(k)] > bound) return k;
        }
        std::int64_t last = count - 1;
        while (last > 0 && !(p[std::size_t(last)] > 0)) --last;
        return last;
    }

private:
    template <class C>
    struct Scratch {
        std::vector<C> p, sums;
    };

    static void weigh(const float* logits, std::int64_t count, float* p) {
        using V = Vector<float>;
        float largest = -std::numeric_limits<float>::infinity();
        for (std::int64_t k = 0; k < count; ++k) largest = logits[k] > largest ? logits[k] : largest;
        for (std::int64_t k = 0; k < count; k += kLanes<float>) {
            const std::int64_t n = std::min(kLanes<float>, count - k);
            store_first<float>(p + k, probability_of<V>(load_first(logits + k, n), V{} + largest), n);
        }
    }
    static void weigh(const double* logits, std::int64_t count, double* p) {
        double largest = -std::numeric_limits<double>::infinity();
        for (std::int64_t k = 0; k < count; ++k) largest = logits[k] > largest ? logits[k] : largest;
        for (std::int64_t k = 0; k < count; ++k) p[k] = probability_of(logits[k], largest);
    }

    std::tuple<Scratch<float>, Scratch<double>> scratch_;
};

}  // namespace lapcore::LAPCORE_ISA
