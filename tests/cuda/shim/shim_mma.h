// csrc/cuda/mma.h on a CPU: the lanes of a warp lay their fragments out as matrices, and each computes its sums.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/half.h"

namespace lapcore::cuda {

template <class T>
void multiply_add_16x8x16(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], float (&c)[4]) {
    ShimMatrices& m = shim_warp->matrices[shim_warp_turn];
    const unsigned g = shim_lane / 4, t = shim_lane % 4;
    for (unsigned k = 0; k < 2; ++k) {
        const auto value = [k](std::uint32_t pair) { return widen(T{static_cast<std::uint16_t>(pair >> (16 * k))}); };
        for (unsigned i = 0; i < 4; ++i) m.a[g + i % 2 * 8][2 * t + i / 2 * 8 + k] = value(a[i]);
        for (unsigned i = 0; i < 2; ++i) m.b[2 * t + i * 8 + k][g] = value(b[i]);
    }
    shim_warp->barriers.wait(shim_warp_turn);
    for (unsigned i = 0; i < 4; ++i) {
        for (unsigned k = 0; k < 16; ++k) c[i] += m.a[g + i / 2 * 8][k] * m.b[k][2 * t + i % 2];
    }
}

}  // namespace lapcore::cuda
