// What the functions of lapcore._C, family by family in this folder, are made of. They are one unit of the compiler's,
// csrc/bindings.cpp: it would read pybind11 for longer than it takes to compile them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/dispatch.h"
#include "gil.h"
#include "tensors.h"

namespace lapcore::bindings {

namespace py = pybind11;

}  // namespace lapcore::bindings
