#include "cpu/typed_elements.h"

#include "common/half.h"
#include "cpu/convert.h"

namespace lapcore::LAPCORE_ISA {
namespace {

// run(elements), of their type.
template <class C, class Run>
void with_elements(DType dtype, void* data, const Run& run) {
    if constexpr (std::is_same_v<C, double>) {
        run(static_cast<double*>(data));
    } else if (dtype == DType::float16) {
        run(static_cast<Half*>(data));
    } else if (dtype == DType::bfloat16) {
        run(static_cast<BFloat16*>(data));
    } else {
        run(static_cast<float*>(data));
    }
}

}  // namespace

void load_halves(const void* data, std::int64_t first, std::int64_t stride, std::int64_t n, float* to) {
    load_row(static_cast<const Half*>(data) + first, stride, n, to);
}
void load_bfloats(const void* data, std::int64_t first, std::int64_t stride, std::int64_t n, float* to) {
    load_row(static_cast<const BFloat16*>(data) + first, stride, n, to);
}
void load_floats(const void* data, std::int64_t first, std::int64_t stride, std::int64_t n, float* to) {
    load_row(static_cast<const float*>(data) + first, stride, n, to);
}
void load_doubles(const void* data, std::int64_t first, std::int64_t stride, std::int64_t n, double* to) {
    load_row(static_cast<const double*>(data) + first, stride, n, to);
}

template <class C>
void gather_elements(DType dtype, const void* data, std::int64_t first, std::int64_t stride, const std::int64_t* places,
                     std::int64_t n, C* to) {
    with_elements<C>(dtype, const_cast<void*>(data), [&](const auto* elements) {
        for (std::int64_t i = 0; i < n; ++i) to[i] = widen(elements[first + stride * places[i]]);
    });
}

template <class C>
void store_elements(DType dtype, const C* from, std::int64_t n, void* data, std::int64_t first) {
    with_elements<C>(dtype, data, [&](auto* elements) { store_row(from, n, elements + first, 1); });
}

template <class C>
void scatter_elements(DType dtype, const C* from, std::int64_t stride, std::int64_t n, void* data, std::int64_t first) {
    with_elements<C>(dtype, data, [&](auto* elements) {
        for (std::int64_t i = 0; i < n; ++i) narrow(from[i], elements[first + stride * i]);
    });
}

#define LAPCORE_ELEMENTS(C)                                                                                          \
    template void gather_elements(DType, const void*, std::int64_t, std::int64_t, const std::int64_t*, std::int64_t, \
                                  C*);                                                                               \
    template void store_elements(DType, const C*, std::int64_t, void*, std::int64_t);                                \
    template void scatter_elements(DType, const C*, std::int64_t, std::int64_t, void*, std::int64_t);
LAPCORE_ELEMENTS(float)
LAPCORE_ELEMENTS(double)
#undef LAPCORE_ELEMENTS

}  // namespace lapcore::LAPCORE_ISA
