// Tensor cores: a warp's product of 16 x 16 values of 16 bits with 16 x 8 of them, added to 16 x 8 sums in float32.
// With g = lane / 4 and t = lane % 4, a lane has
//   of a (rows, depth): (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), each with the next along the depth,
//   of b (depth, columns): (2t, g), (2t + 8, g), each with the next along the depth,
//   of c (rows, columns): (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
// (PTX ISA, matrix fragments of mma.m16n8k16 with floating-point type).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "common/half.h"

#if !defined(__CUDACC__)
#include <shim_mma.h>
#endif

namespace lapcore::cuda {

#if defined(__CUDACC__)
template <class T>
__device__ void multiply_add_16x8x16(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], float (&c)[4]) {
    if constexpr (std::is_same_v<T, Half>) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
}
#endif

}  // namespace lapcore::cuda
