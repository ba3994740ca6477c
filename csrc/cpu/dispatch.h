// The kernels of the best instruction set that this CPU runs.
#pragma once

#include <string>
#include <vector>

#include "cpu/gaussian.h"
#include "cpu/likelihood.h"
#include "cpu/masked_conv.h"
#include "cpu/parzen.h"
#include "cpu/pixelcnn_sampler.h"
#include "cpu/pyramid.h"
#include "cpu/random.h"
#include "cpu/vector_quantize.h"

namespace lapcore {

struct Kernels {
    const char* name;
    const PyramidKernels& pyramid;
    const RandomKernels& random;
    const GaussianKernels& gaussian;
    const VectorQuantizeKernels& vector_quantize;
    const ParzenKernels& parzen;
    const LikelihoodKernels& likelihood;
    const MaskedConvKernels& masked_conv;
    const PixelcnnSamplerKernels& pixelcnn_sampler;
};

const Kernels& kernels();
std::string isa();
std::vector<std::string> isas();        // those this CPU runs, best last
void use_isa(const std::string& name);  // for tests and benchmarks; throws std::invalid_argument

}  // namespace lapcore
