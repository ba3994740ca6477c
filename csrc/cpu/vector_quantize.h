// What csrc/cpu/vector_quantize.cpp offers, once per instruction set.
#pragma once

#include <cstdint>

#include "common/view.h"

namespace lapcore {

struct VectorQuantizeKernels {
    // The nearest of the codes (K, D) to each row of z (N, D): its index to `indices` (N), itself to `quantized` (N,
    // D), contiguous. Rows are contiguous, any stride apart.
    void (*nearest)(DType dtype, int threads, const View& z, const View& codebook, void* quantized,
                    std::int64_t* indices);
};

}  // namespace lapcore
