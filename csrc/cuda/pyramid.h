// What the files of csrc/cuda offer for pyramids. Pointers are device memory of the current device; everything is
// enqueued on call.stream and allocates nothing. At most 6 leading dimensions may remain once neighbours that lie like
// one are merged (std::invalid_argument); a launch CUDA refuses is a std::runtime_error.
#pragma once

#include "common/taps.h"
#include "common/view.h"

namespace lapcore::cuda {

struct PyramidCall {
    DType dtype;
    Border border;
    void* stream;
};

// dst = op(src), or base + alpha * op(src) when base is given, with the binomial filter. Of integers, which have no
// adjoints, op(src) is rounded first, and with a base dst is int16, saturated.
void pyramid_apply(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, const View& dst);

// The same for floats with the taps of any filter: output i of an axis is the sum over k of weight[k, i] * src[index[k,
// i]], and an index of the axis' length stands for zero. Weights are of the type that the sums are taken in.
void pyramid_apply_table(const PyramidCall& call, const TapTable& rows, const TapTable& columns, const View& src,
                         const View* base, double alpha, const View& dst);

}  // namespace lapcore::cuda
