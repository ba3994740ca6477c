// What a draw of noise is made of, on any device.
#pragma once

#include <cstdint>

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

}  // namespace lapcore
