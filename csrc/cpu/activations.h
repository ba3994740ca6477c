// What csrc/cpu/activations.cpp offers: gates and concatenated ELUs, of tiles of elements and of whole tensors.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/activation_kinds.h"
#include "common/view.h"

namespace lapcore {

// out = f(in) of n elements each: as many inputs and outputs as the function has. They may be the same memory.
template <class C>
using TileFunction = void (*)(std::int64_t n, const C* const* in, C* const* out);

template <class C>
struct TileFunctions {
    // Of each First: (a, b) -> y, and (grad, a, b) -> the gradients at a and b.
    TileFunction<C> gate[2], gate_backward[2];
    // x -> elu(x) and elu(-x), and (the gradients of both, x) -> that at x.
    TileFunction<C> concat_elu, concat_elu_backward;
};

}  // namespace lapcore

namespace lapcore::LAPCORE_ISA {

extern const TileFunctions<float> float_functions;
extern const TileFunctions<double> double_functions;

template <class C>
const TileFunctions<C>& tile_functions() {
    if constexpr (std::is_same_v<C, double>) {
        return double_functions;
    } else {
        return float_functions;
    }
}

void gated_activation(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half, const void* x,
                      void* y);
void gated_activation_backward(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half,
                               const void* grad, const void* x, void* dx);
void concat_elu(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* x, void* y);
void concat_elu_backward(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* grad,
                         const void* x, void* dx);

}  // namespace lapcore::LAPCORE_ISA
