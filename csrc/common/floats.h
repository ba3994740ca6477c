// From a dtype at run time to a type of floats.
#pragma once

#include <stdexcept>

#include "common/half.h"
#include "common/view.h"

namespace lapcore {

// run(T{}) for the T of a dtype of floats.
template <class Run>
static auto with_float(DType dtype, const Run& run) {
    switch (dtype) {
        case DType::float16: return run(Half{});
        case DType::bfloat16: return run(BFloat16{});
        case DType::float32: return run(float{});
        case DType::float64: return run(double{});
        default: throw std::invalid_argument("dtype: expected a float");
    }
}

}  // namespace lapcore
