// How Python hands tensors over: a pointer, a shape and strides in elements. Images are (..., H, W).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lapcore {

enum class DType : int { float16, bfloat16, float32, float64, uint8, int16, uint16 };

constexpr std::int64_t bytes_of(DType dtype) {
    switch (dtype) {
        case DType::uint8: return 1;
        case DType::float32: return 4;
        case DType::float64: return 8;
        default: return 2;
    }
}

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
        if (shape.size() == 2) return 0;
        std::int64_t offset = 0;
        for (std::size_t d = shape.size() - 3; d > 0; --d) {
            offset += (p % shape[d]) * strides[d];
            p /= shape[d];
        }
        return offset + p * strides[0];
    }

    // The same planes in the same order, with the leading dimensions that lie evenly in memory joined.
    View merged() const {
        View view{data, {}, {}};
        for (std::size_t d = 0; d + 2 < shape.size(); ++d) {
            if (shape[d] == 1) continue;
            if (!view.shape.empty() && view.strides.back() == strides[d] * shape[d]) {
                view.shape.back() *= shape[d];
                view.strides.back() = strides[d];
            } else {
                view.shape.push_back(shape[d]);
                view.strides.push_back(strides[d]);
            }
        }
        for (std::size_t d = shape.size() - 2; d < shape.size(); ++d) {
            view.shape.push_back(shape[d]);
            view.strides.push_back(strides[d]);
        }
        return view;
    }
};

// Rows of contiguous elements; data is null for a tensor that is not there.
struct Rows {
    void* data = nullptr;
    std::int64_t stride = 0;
};

}  // namespace lapcore
