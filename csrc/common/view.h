// How Python hands tensors over: a pointer, a shape and strides in elements. Images are (..., H, W).
#pragma once

#include <cstdint>
#include <vector>

namespace lapcore {

enum class DType : int { float16, bfloat16, float32, float64 };

struct View {
    void* data = nullptr;
    std::vector<std::int64_t> shape, strides;

    std::int64_t height() const { return shape[shape.size() - 2]; }
    std::int64_t width() const { return shape[shape.size() - 1]; }
    std::int64_t row_stride() const { return strides[strides.size() - 2]; }
    std::int64_t column_stride() const { return strides[strides.size() - 1]; }

    std::int64_t planes() const {
        std::int64_t count = 1;
        for (std::size_t d = 0; d + 2 < shape.size(); ++d) count *= shape[d];
        return count;
    }

    // Where plane p begins, counting the leading dimensions in C order.
    std::int64_t plane_offset(std::int64_t p) const {
        std::int64_t offset = 0;
        for (std::size_t d = shape.size() - 2; d-- > 0;) {
            offset += (p % shape[d]) * strides[d];
            p /= shape[d];
        }
        return offset;
    }
};

}  // namespace lapcore
