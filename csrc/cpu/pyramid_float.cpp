// Pyramids of float32 images, and of those of half precision, whose rows are converted.
#include "cpu/pyramid_format.h"

namespace lapcore::LAPCORE_ISA {

LAPCORE_KERNELS(Float)

const PyramidFormat float_pyramids = format_of<Float>();

}  // namespace lapcore::LAPCORE_ISA
