// Pyramids of uint16 images.
#include "cpu/pyramid_format.h"

namespace lapcore::LAPCORE_ISA {

LAPCORE_LINE_KERNELS(UInt16)

const PyramidFormat uint16_pyramids = format_of<UInt16>();

}  // namespace lapcore::LAPCORE_ISA
