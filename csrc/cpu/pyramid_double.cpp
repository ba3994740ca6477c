// Pyramids of float64 images.
#include "cpu/pyramid_format.h"

namespace lapcore::LAPCORE_ISA {

LAPCORE_LINE_KERNELS(Double)

const PyramidFormat double_pyramids = format_of<Double>();

}  // namespace lapcore::LAPCORE_ISA
