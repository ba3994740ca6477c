// Draws from categorical distributions by inversion: a warp has a row. Lanes find the largest logit and the
// probabilities; these are then added up by all lanes alike, in ascending order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/categorical.h"
#include "common/logistic.h"

namespace lapcore::cuda {

constexpr int kWarpLanes = 32;
constexpr unsigned kWarpMask = 0xffffffffu;

// body(k, p_k) for every level in order.
template <class C, class Body>
__device__ void each_probability(const C* logits, std::int64_t stride, int levels, C largest, const Body& body) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
#pragma unroll 1
    for (int first = 0; first < levels; first += kWarpLanes) {
        const int count = min(levels - first, kWarpLanes);
        const C own = lane < count ? probability_of<C>(logits[(first + lane) * stride], largest) : C(0);
#pragma unroll 8
        for (int k = 0; k < count; ++k) body(first + k, __shfl_sync(kWarpMask, own, k));
    }
}

// The first k whose sum p_0 + .. + p_k is above u times the whole; where rounding leaves none, the last with p > 0.
// Called by all lanes of a warp, which all have the result.
template <class C>
__device__ int draw_level(const C* logits, std::int64_t stride, int levels, C u) {
    C largest = -kInfinity<C>;
#pragma unroll 1
    for (int k = static_cast<int>(threadIdx.x) % kWarpLanes; k < levels; k += kWarpLanes)
        largest = maximum<C>(logits[k * stride], largest);
#pragma unroll
    for (int lanes = kWarpLanes / 2; lanes > 0; lanes /= 2)
        largest = maximum(__shfl_xor_sync(kWarpMask, largest, lanes), largest);
    C whole = 0, sum = 0;
    each_probability(logits, stride, levels, largest, [&](int, C p) { whole += p; });
    const C bound = u * whole;
    int below = 0, last = 0;
    each_probability(logits, stride, levels, largest, [&](int k, C p) {
        sum += p;
        below += sum <= bound;
        last = p > 0 ? k : last;
    });
    return below == levels ? last : below;
}

}  // namespace lapcore::cuda
