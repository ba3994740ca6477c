// What csrc/cuda/pyramid_level.cu offers: levels of images in one pass. Results equal those of pyramid_apply to the
// bit.
#pragma once

#include "cuda/pyramid.h"

namespace lapcore::cuda {

// dst = op(src), or base + alpha * op(src): as pyramid_apply, for 16-bit floats and float32. False, with nothing done,
// for what it does not take: other dtypes, transposes under a circular border, strides beyond 2^30.
bool stream_operator(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, const View& dst);

// low = down(fine), band = fine - up(low).
void laplacian_level(const PyramidCall& call, const View& fine, const View& low, const View& band);

// total = grad + down^T(below - up^T(grad)); work, of below's shape, is used where that takes two launches.
void laplacian_level_adjoint(const PyramidCall& call, const View& grad, const View& below, const View& work,
                             const View& total);

}  // namespace lapcore::cuda
