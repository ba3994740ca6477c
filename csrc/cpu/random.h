// What csrc/cpu/random.cpp offers, once per instruction set.
#pragma once

#include <cstdint>

#include "common/random.h"
#include "common/view.h"

namespace lapcore {

// Of elements that are drawn into memory: what the best instruction set takes at a time, and how many beyond those
// asked for may be written.
constexpr std::int64_t kNoiseTile = 1152, kNoiseBeyond = 192;

// Draws the elements from `first`, a multiple of 4, on of a seed's stream: n of them, and up to kNoiseBeyond more.
using DrawFloats = void (*)(std::uint64_t seed, std::uint64_t stream, std::int64_t first, std::int64_t n, float* out);

struct RandomKernels {
    // out: contiguous; int32 where the distribution is bits, `dtype`, a float, where not.
    void (*draw)(Distribution distribution, DType dtype, int threads, const Seeds& seeds, std::int64_t rows,
                 std::int64_t length, void* out);
    // For kernels that need noise, whatever they are compiled for.
    DrawFloats uniforms, normals;
};

}  // namespace lapcore
