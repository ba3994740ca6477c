// The kernels of all families for one instruction set.
#include "cpu/dispatch.h"

namespace lapcore::LAPCORE_ISA {

extern const PyramidKernels pyramid_kernels;
extern const RandomKernels random_kernels;
extern const GaussianKernels gaussian_kernels;
extern const VectorQuantizeKernels vector_quantize_kernels;
extern const ParzenKernels parzen_kernels;
extern const LikelihoodKernels likelihood_kernels;
extern const MaskedConvKernels masked_conv_kernels;
extern const PixelcnnSamplerKernels pixelcnn_sampler_kernels;

#define LAPCORE_NAME_OF(isa) #isa
#define LAPCORE_NAME(isa) LAPCORE_NAME_OF(isa)

extern const Kernels kernels;
const Kernels kernels{LAPCORE_NAME(LAPCORE_ISA), pyramid_kernels,         random_kernels,
                      gaussian_kernels,          vector_quantize_kernels, parzen_kernels,
                      likelihood_kernels,        masked_conv_kernels,     pixelcnn_sampler_kernels};

}  // namespace lapcore::LAPCORE_ISA
