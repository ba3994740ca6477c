// How the functions of lapcore._C take tensors: as addresses, shapes and strides.
#pragma once

#include <pybind11/stl.h>

#include <cstdint>
#include <tuple>
#include <vector>

#include "common/taps.h"
#include "common/view.h"

namespace lapcore {

using Tensor = std::tuple<std::uintptr_t, std::vector<std::int64_t>, std::vector<std::int64_t>>;
using TapsTensor = std::tuple<std::uintptr_t, std::uintptr_t, std::int64_t>;  // index, weight, how many

inline void* pointer(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

inline View view_of(const Tensor& tensor) {
    const auto& [data, shape, strides] = tensor;
    return {pointer(data), shape, strides};
}

inline std::vector<View> views_of(const std::vector<Tensor>& tensors) {
    std::vector<View> views;
    for (const Tensor& tensor : tensors) views.push_back(view_of(tensor));
    return views;
}

inline TapTable table_of(const TapsTensor& taps) {
    const auto& [index, weight, count] = taps;
    return {static_cast<const std::int64_t*>(pointer(index)), pointer(weight), count};
}

}  // namespace lapcore
