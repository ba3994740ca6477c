// What masked_conv.cpp, masked_conv_weight.cpp and activations.cpp share. Included once per instruction set.
#pragma once

#include <vector>

#include "common/floats.h"
#include "cpu/elements.h"
#include "cpu/masked_conv.h"
#include "cpu/patches.h"

namespace lapcore::LAPCORE_ISA {

void masked_conv_backward_weight(const MaskedConvCall& call, const View& grad, const View& x, const View& d_weight);
void gated_activation(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half, const void* x,
                      void* y);
void gated_activation_backward(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half,
                               const void* grad, const void* x, void* dx);
void concat_elu(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* x, void* y);
void concat_elu_backward(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* grad,
                         const void* x, void* dx);

// The taps that are live for any of the weights (O, C, kh, kw).
inline Chain chain_of(const LiveTaps& live, const View& weight) {
    return {live.whole + !live.centre.empty(), weight.shape[1], weight.height(), weight.width()};
}

// One number, for functions that the C++ library has of numbers only.
template <class C>
struct Single {
    std::int64_t i;
    C load(const C* p) const { return p[i]; }
    void store(C* p, C value) const { p[i] = value; }
};

// Calls body(place) for n elements, of float32 several vectors at a time.
template <class C, class Body>
LAPCORE_INLINE void over_places(std::int64_t n, const Body& body) {
    if constexpr (std::is_same_v<C, float>) {
        over_vectors<C>(n, false, body);
    } else {
        for (std::int64_t i = 0; i < n; ++i) body(Single<C>{i});
    }
}

}  // namespace lapcore::LAPCORE_ISA
