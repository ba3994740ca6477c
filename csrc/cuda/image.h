// How kernels address tensors (..., H, W) of any strides.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "common/hd.h"
#include "common/view.h"

namespace lapcore::cuda {

constexpr int kMaxLeading = 6;

template <class T>
struct Image {
    T* data;
    std::int64_t row_stride, column_stride;

    LAPCORE_HD T* at(std::int64_t y, std::int64_t x) const { return data + (y * row_stride + x * column_stride); }
    LAPCORE_HD explicit operator bool() const { return data != nullptr; }
};

// Of the first plane; an image without data where there is no view.
template <class T>
Image<T> image_of(const View* view) {
    if (!view) return {};
    return {static_cast<T*>(view->data), view->row_stride(), view->column_stride()};
}

// The leading dimensions that the tensors of one call share; of a tensor left out the strides are 0.
template <int kTensors>
struct Leading {
    int count = 0;
    std::int64_t size[kMaxLeading], stride[kTensors][kMaxLeading];

    // Calls move(dimension's strides' index, position) for each dimension of plane p.
    template <class Move>
    LAPCORE_HD void walk(std::int64_t p, const Move& move) const {
        for (int d = count; d-- > 0; p /= size[d]) move(d, p % size[d]);
    }
};

template <int kTensors>
Leading<kTensors> leading_of(const View* const (&views)[kTensors]) {
    Leading<kTensors> lead{};
    const View* given = nullptr;
    for (const View* view : views) given = given ? given : view;
    const std::vector<std::int64_t>& shape = given->shape;
    for (std::size_t d = 0; d + 2 < shape.size(); ++d) {
        if (shape[d] == 1) continue;
        int& n = lead.count;
        bool merges = n > 0;
        for (int t = 0; t < kTensors && merges; ++t) {
            merges = lead.stride[t][n - 1] == (views[t] ? views[t]->strides[d] * shape[d] : 0);
        }
        if (merges) {
            lead.size[n - 1] *= shape[d];
        } else {
            if (n == kMaxLeading)
                throw std::invalid_argument("src: more than 6 leading dimensions that cannot be merged");
            lead.size[n++] = shape[d];
        }
        for (int t = 0; t < kTensors; ++t) lead.stride[t][n - 1] = views[t] ? views[t]->strides[d] : 0;
    }
    return lead;
}

}  // namespace lapcore::cuda
