// The CUDA functions of the module lapcore._C.
#pragma once

#include <pybind11/pybind11.h>

namespace lapcore::cuda {

void bind(pybind11::module_& m);
void bind_distances(pybind11::module_& m);
void bind_distributions(pybind11::module_& m);
void bind_masked_conv(pybind11::module_& m);
void bind_pixelcnn_sampler(pybind11::module_& m);

}  // namespace lapcore::cuda
