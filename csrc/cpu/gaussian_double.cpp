// Diagonal Gaussians in float64, once for all instruction sets: their time is the C library's functions'.
#include "cpu/gaussian.h"
#include "cpu/gaussian_nll.h"
#include "cpu/gaussian_passes.h"

namespace lapcore {

using namespace LAPCORE_ISA;

const GaussianKernels gaussians_of_doubles{forward<double>, backward<double>, nll<double>, nll_backward<double>};

}  // namespace lapcore
