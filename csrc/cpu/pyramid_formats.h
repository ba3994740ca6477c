// The operations of pyramids on each format, of which csrc/cpu/pyramid.cpp chooses. Included once per instruction set.
#pragma once

#include <vector>

#include "cpu/pyramid.h"

namespace lapcore::LAPCORE_ISA {

struct PyramidFormat {
    // dst = op(src), or base + sign * op(src) when base is given.
    void (*apply)(const PyramidCall& call, Op op, const View& src, const View* base, int sign, const View& dst);
    void (*gaussian_pyramid)(const PyramidCall& call, const View& x, const std::vector<View>& out);
    void (*laplacian_pyramid)(const PyramidCall& call, const View& x, const std::vector<View>& out,
                              const std::vector<void*>& work);
    void (*collapse)(const PyramidCall& call, const std::vector<View>& pyramid, const View& out,
                     const std::vector<void*>& work);  // of formats whose bands are stored as their images
};

extern const PyramidFormat float_pyramids, double_pyramids, uint8_pyramids, int16_pyramids, uint16_pyramids;

}  // namespace lapcore::LAPCORE_ISA
