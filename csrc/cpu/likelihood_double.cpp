// Mixtures of discretised logistics in float64, once for all instruction sets: their time is the C library's
// functions'.
#include "cpu/likelihood.h"
#include "cpu/likelihood_blocks.h"

namespace lapcore {

const LikelihoodKernels likelihoods_of_doubles = LAPCORE_ISA::likelihood_kernels_of<double>;

}  // namespace lapcore
