// What csrc/cuda/pyramids.cpp offers: whole pyramids, in one launch where all levels of a plane fit into the shared
// memory of a block, in one or two for each level otherwise. Levels are listed fine to coarse. Integers are for
// pyramid_operator only.
#pragma once

#include <vector>

#include "cuda/pyramid.h"

namespace lapcore::cuda {

using Views = std::vector<View>;

// As pyramid_apply, by whichever kernel is the fastest.
void pyramid_operator(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, const View& dst);

// levels: h_0 .. h_{L-1}, g_L are written; work: g_1 .. g_{L-1}, written where they are needed.
void laplacian_pyramid(const PyramidCall& call, const View& x, const Views& levels, const Views& work);

// image = c_0; work: c_1 .. c_{L-1}.
void collapse(const PyramidCall& call, const Views& levels, const View& image, const Views& work);

// image = the gradient at x of laplacian_pyramid; work: what is added up at levels 1 .. L-1, and a spare one for level
// L.
void laplacian_pyramid_adjoint(const PyramidCall& call, const Views& grads, const View& image, const Views& work);

// levels: g_1 .. g_L, or those of collapse's gradient.
void gaussian_pyramid(const PyramidCall& call, const View& x, const Views& levels);
void collapse_adjoint(const PyramidCall& call, const View& grad, const Views& levels);

}  // namespace lapcore::cuda
