// What csrc/cuda/pyramid_plane.cu offers: whole pyramids of small images in one launch.
#pragma once

#include "cuda/pyramids.h"

namespace lapcore::cuda {

enum class Chain { laplacian, collapse, laplacian_adjoint, gaussian, collapse_adjoint };

// Runs a chain on `image`, its input or its output, and `levels`: those of laplacian_pyramid and collapse, or g_0 ..
// g_L with g_0 the image. False, with nothing done, where a plane does not fit, or planes are too few to fill the card.
bool plane_chain(const PyramidCall& call, Chain chain, const View& image, const Views& levels);

}  // namespace lapcore::cuda
