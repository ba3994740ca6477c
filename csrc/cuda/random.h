// What csrc/cuda/random.cu offers.
#pragma once

#include "common/random.h"
#include "common/view.h"

namespace lapcore::cuda {

// As RandomKernels::draw, on a stream of the current device; seeds, where there is one for each row, and out are there.
// Needs at least one element.
void random_draw(Distribution distribution, DType dtype, void* stream, const Seeds& seeds, std::int64_t rows,
                 std::int64_t length, void* out);

}  // namespace lapcore::cuda
