// Pyramids of uint8 images, in 16-bit sums.
#include "cpu/pyramid_format.h"

namespace lapcore::LAPCORE_ISA {

LAPCORE_KERNELS(UInt8)

const PyramidFormat uint8_pyramids = format_of<UInt8>();

}  // namespace lapcore::LAPCORE_ISA
