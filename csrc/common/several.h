// Several vectors as one number: each operation is done on all of them before the next, so that their chains of
// operations run beside each other. A processor looks ahead too few instructions to find the next vector by itself.
#pragma once

#include <type_traits>

#include "common/hd.h"

#define LAPCORE_MATH LAPCORE_HD static inline __attribute__((always_inline))

namespace lapcore {

template <class V>
constexpr bool kSeveral = false;

// condition ? a : b, of numbers and vectors.
template <class M, class V>
LAPCORE_MATH V select(const M& condition, const V& a, const V& b) {
    return condition ? a : b;
}

#if !defined(__CUDACC__)

template <class V, int K>
struct Several {
    V part[K];
};

template <class V, int K>
constexpr bool kSeveral<Several<V, K>> = true;

// function(a.part[i], b.part[i], ..) of every i.
template <class Function, class V, int K, class... Others>
LAPCORE_MATH auto each(const Function& function, const Several<V, K>& a, const Others&... others) {
    Several<decltype(function(a.part[0], others.part[0]...)), K> result;
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) result.part[i] = function(a.part[i], others.part[i]...);
    return result;
}

#define LAPCORE_EACH(op)                                                                                 \
    template <class V, int K>                                                                            \
    LAPCORE_MATH auto operator op(const Several<V, K>& a, const Several<V, K>& b) {                      \
        return each([](const V& x, const V& y) __attribute__((always_inline)) { return x op y; }, a, b); \
    }                                                                                                    \
    template <class V, int K, class S, class = std::enable_if_t<std::is_arithmetic_v<S>>>                \
    LAPCORE_MATH auto operator op(const Several<V, K>& a, S b) {                                         \
        return each([b](const V& x) __attribute__((always_inline)) { return x op b; }, a);               \
    }                                                                                                    \
    template <class V, int K, class S, class = std::enable_if_t<std::is_arithmetic_v<S>>>                \
    LAPCORE_MATH auto operator op(S a, const Several<V, K>& b) {                                         \
        return each([a](const V& y) __attribute__((always_inline)) { return a op y; }, b);               \
    }
LAPCORE_EACH(+)
LAPCORE_EACH(-)
LAPCORE_EACH(*)
LAPCORE_EACH(/)
LAPCORE_EACH(&)
LAPCORE_EACH(|)
LAPCORE_EACH(^)
LAPCORE_EACH(<<)
LAPCORE_EACH(>>)
LAPCORE_EACH(<)
LAPCORE_EACH(==)
LAPCORE_EACH(!=)
#undef LAPCORE_EACH

template <class V, int K>
LAPCORE_MATH Several<V, K> operator-(const Several<V, K>& a) {
    return each([](const V& x) __attribute__((always_inline)) { return -x; }, a);
}

template <class M, class V, int K>
LAPCORE_MATH Several<V, K> select(const Several<M, K>& condition, const Several<V, K>& a, const Several<V, K>& b) {
    return each([](const M& c, const V& x, const V& y) __attribute__((always_inline)) { return c ? x : y; }, condition,
                a, b);
}

#endif

}  // namespace lapcore
