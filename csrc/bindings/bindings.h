// The functions of lapcore._C, family by family.
#pragma once

#include <pybind11/pybind11.h>

namespace lapcore {

void bind_gaussian(pybind11::module_& m);
void bind_masked_conv(pybind11::module_& m);
void bind_parzen(pybind11::module_& m);
void bind_likelihood(pybind11::module_& m);
void bind_pixelcnn_sampler(pybind11::module_& m);
void bind_random(pybind11::module_& m);
void bind_vector_quantize(pybind11::module_& m);

}  // namespace lapcore
