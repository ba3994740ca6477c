// Pyramids of int16 images, and the collapse of all integer ones.
#include "cpu/pyramid_format.h"

namespace lapcore::LAPCORE_ISA {

LAPCORE_KERNELS(Int16)

const PyramidFormat int16_pyramids = format_of<Int16>();

}  // namespace lapcore::LAPCORE_ISA
