// What becomes of rounded sums: they are added to a base or subtracted from it where there is one, and stored.
// Included once per instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "cpu/axis.h"
#include "cpu/formats.h"

namespace lapcore::LAPCORE_ISA {

// Without a base samples come out, with one bands: base + sum or, where `flip` is set, base - sum. Sums of floats come
// negated instead, from negated weights, which is the same to the bit.
template <class F, bool kBase>
struct Finish {
    using S = typename F::Sample;
    using C = typename F::Sum;
    using Out = std::conditional_t<kBase, typename F::Band, S>;
    static constexpr std::int64_t V = kLanes<C>;

    const S* base;
    Out* out;
    C flip = 0;              // of integers: 0, or all bits
    std::int64_t ahead = 0;  // what stands so far beyond the base is fetched
    bool streamed = false;   // whole vectors go past the caches

    template <class Value>
    LAPCORE_INLINE Value value(Value base_value, Value sum) const {
        if constexpr (!kBase) return sum;
        if constexpr (std::is_integral_v<C>) sum = Value((sum ^ flip) - flip);
        return saturated(Value(base_value + sum));
    }

    LAPCORE_INLINE void one(std::int64_t i, C sum) const { out[i] = static_cast<Out>(value(base_at(i), sum)); }

    // Outputs from i on, as many as a vector has lanes, and the first n of them.
    LAPCORE_INLINE void vector(std::int64_t i, Vector<C> sum) const {
        fetch(i);
        put(i, value(base_of([&] LAPCORE_INLINE_LAMBDA { return load_as<C>(base + i); }), sum));
    }
    LAPCORE_INLINE void first(std::int64_t i, Vector<C> sum, std::int64_t n) const {
        const auto own = base_of([&] LAPCORE_INLINE_LAMBDA { return load_first_as<C>(base + i, n); });
        store_first_as<C>(out + i, value(own, sum), n);
    }

    // Twice as many, whose sums come as the even and the odd ones; and the first n of them.
    LAPCORE_INLINE void pair(std::int64_t i, const Halves<C>& sums) const {
        if constexpr (!kWidens<S, C>) {
            vector(i, interleave_first<C>(sums.even, sums.odd));
            vector(i + V, interleave_second<C>(sums.even, sums.odd));
        } else {
            fetch(i);
            Halves<C> own{};
            if constexpr (kBase) own = load_halves<C>(base + i);
            const Halves<C> values{value(own.even, sums.even), value(own.odd, sums.odd)};
            if constexpr (kWidens<Out, C>) {
                put(i, join<Out>(values));
            } else {
                put(i, interleave_first<C>(values.even, values.odd));
                put(i + V, interleave_second<C>(values.even, values.odd));
            }
        }
    }
    LAPCORE_INLINE void first_pair(std::int64_t i, const Halves<C>& sums, std::int64_t n) const {
        if constexpr (!kWidens<S, C>) {
            first(i, interleave_first<C>(sums.even, sums.odd), std::min(n, V));
            if (n > V) first(i + V, interleave_second<C>(sums.even, sums.odd), n - V);
        } else {
            Halves<C> own{};
            if constexpr (kBase) own = load_first_halves<C>(base + i, n);
            const Halves<C> values{value(own.even, sums.even), value(own.odd, sums.odd)};
            if constexpr (kWidens<Out, C>) {
                store_first(out + i, join<Out>(values), n);
            } else {
                store_first_as<C>(out + i, interleave_first<C>(values.even, values.odd), std::min(n, V));
                if (n > V) store_first_as<C>(out + i + V, interleave_second<C>(values.even, values.odd), n - V);
            }
        }
    }

private:
    template <class Value>
    static LAPCORE_INLINE Value saturated(Value v) {
        if constexpr (!kWidens<Out, C>) {
            return v;
        } else {
            constexpr C low = std::numeric_limits<Out>::min(), high = std::numeric_limits<Out>::max();
            const Value floor = v < low ? Value{} + low : v;
            return floor > high ? Value{} + high : floor;
        }
    }
    LAPCORE_INLINE C base_at(std::int64_t i) const {
        if constexpr (kBase) return base[i];
        return 0;
    }
    template <class Load>
    LAPCORE_INLINE Vector<C> base_of(const Load& load) const {
        if constexpr (kBase) return load();
        return Vector<C>{};
    }
    LAPCORE_INLINE void fetch(std::int64_t i) const {
        if constexpr (kBase) __builtin_prefetch(base + i + ahead);
    }
    template <class T>
    LAPCORE_INLINE void put(std::int64_t i, T v) const {
        if constexpr (std::is_same_v<T, Vector<C>> && kWidens<Out, C>) {
            store_as<C>(out + i, v);
        } else if (streamed) {
            stream(out + i, v);
        } else {
            std::memcpy(out + i, &v, sizeof v);
        }
    }
};

}  // namespace lapcore::LAPCORE_ISA
