// Elements of a dtype that is known at run time, as numbers of the type C that a kernel computes in: double for
// float64, float for the others.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/view.h"

namespace lapcore::LAPCORE_ISA {

// run(C{}) for the type that a kernel computes in.
template <class Run>
auto with_computed(DType dtype, const Run& run) {
    return dtype == DType::float64 ? run(double{}) : run(float{});
}

// Whether elements need no conversion.
template <class C>
constexpr bool in_place(DType dtype) {
    return dtype == (std::is_same_v<C, double> ? DType::float64 : DType::float32);
}

// These are in typed_elements.cpp.

// The elements first, first + stride, .., n of them.
void load_halves(const void* data, std::int64_t first, std::int64_t stride, std::int64_t n, float* to);
void load_bfloats(const void* data, std::int64_t first, std::int64_t stride, std::int64_t n, float* to);
void load_floats(const void* data, std::int64_t first, std::int64_t stride, std::int64_t n, float* to);
void load_doubles(const void* data, std::int64_t first, std::int64_t stride, std::int64_t n, double* to);

inline void load_elements(DType dtype, const void* data, std::int64_t first, std::int64_t stride, std::int64_t n,
                          float* to) {
    if (dtype == DType::float32) return load_floats(data, first, stride, n, to);
    (dtype == DType::float16 ? load_halves : load_bfloats)(data, first, stride, n, to);
}
inline void load_elements(DType, const void* data, std::int64_t first, std::int64_t stride, std::int64_t n,
                          double* to) {
    load_doubles(data, first, stride, n, to);
}

// The elements first + stride * places[i].
template <class C>
void gather_elements(DType dtype, const void* data, std::int64_t first, std::int64_t stride, const std::int64_t* places,
                     std::int64_t n, C* to);

// n elements side by side, from `first` on.
template <class C>
void store_elements(DType dtype, const C* from, std::int64_t n, void* data, std::int64_t first);

// The elements first + stride * i.
template <class C>
void scatter_elements(DType dtype, const C* from, std::int64_t stride, std::int64_t n, void* data, std::int64_t first);

}  // namespace lapcore::LAPCORE_ISA
