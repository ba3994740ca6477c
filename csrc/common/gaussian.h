// The tensors of diagonal Gaussians, of one row of elements each, on any device.
#pragma once

#include <cstdint>

namespace lapcore {

// Rows of contiguous elements; data is null for a tensor that is not there.
struct Rows {
    void* data = nullptr;
    std::int64_t stride = 0;
};

struct Moments {
    Rows mean, logvar, prior_mean, prior_logvar;
};

}  // namespace lapcore
