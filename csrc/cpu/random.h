// What csrc/cpu/random.cpp offers, once per instruction set.
#pragma once

#include <cstdint>

#include "common/random.h"
#include "common/view.h"

namespace lapcore {

struct RandomKernels {
    // out: contiguous; int32 where the distribution is bits, `dtype`, a float, where not.
    void (*draw)(Distribution distribution, DType dtype, int threads, const Seeds& seeds, std::int64_t rows,
                 std::int64_t length, void* out);
};

}  // namespace lapcore
