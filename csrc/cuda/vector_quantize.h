// What csrc/cuda/vector_quantize.cu offers: the nearest code of each row.
#pragma once

#include "common/view.h"

namespace lapcore::cuda {

// How many bytes vector_quantize works in.
std::int64_t vector_quantize_work(DType dtype, std::int64_t rows, std::int64_t codes);

// indices = argmin_k |e_k|^2 / 2 - z . e_k, int64, contiguous, the lowest of equals; quantized = those codes. z,
// codebook and quantized, all of dtype, have rows whose values are next to each other. Compared in float32, or float64
// for float64. A code that is not finite, or whose square is not, is never the nearest; a row with a NaN gets 0.
void vector_quantize(DType dtype, void* stream, const View& z, const View& codebook, const View& quantized,
                     std::int64_t* indices, void* work);

}  // namespace lapcore::cuda
