// What csrc/cpu/random.cpp offers, once per instruction set.
#pragma once

#include <cstdint>

#include "common/view.h"

namespace lapcore {

// Seeds of rows of `length` elements: one for each row, or one for all, whose elements are then counted through.
struct Seeds {
    const std::int64_t* data;
    std::int64_t stride;
    bool per_row;
    std::uint64_t stream;

    std::uint64_t of(std::int64_t row) const { return std::uint64_t(per_row ? data[row * stride] : data[0]); }
};

enum class Distribution : int { bits, uniform, normal };

struct RandomKernels {
    // out: contiguous; int32 where the distribution is bits, `dtype`, a float, where not.
    void (*draw)(Distribution distribution, DType dtype, int threads, const Seeds& seeds, std::int64_t rows,
                 std::int64_t length, void* out);
};

}  // namespace lapcore
