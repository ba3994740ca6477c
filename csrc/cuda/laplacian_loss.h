// What csrc/cuda/laplacian_loss.cu offers: the Laplacian loss of 16-bit floats and float32, computed in float32.
#pragma once

#include "cuda/pyramids.h"

namespace lapcore::cuda {

constexpr int kMaxLossLevels = 16;

// Everything a loss of L levels works with, float32 unless said otherwise. Levels that are cropped before they are
// halved are views of larger images, which hold zeros beyond them where a gradient is added up.
struct LossImages {
    View input, target;  // call.dtype
    Views masks;         // of levels 0 .. L, or none
    Views fine;          // levels 1 .. L of the difference: views of lows
    Views lows;          // what levels 0 .. L - 1 are halved to
    Views signs;         // with a gradient: c m sign(h) of levels 0 .. L - 1
    Views totals;        // with a gradient: what is added up at levels 0 .. L; at 0 the gradient
    Views below;         // with a gradient: the whole images that totals 1 .. L are views of
};

struct LossSums {
    const float* coefficients;  // (samples, terms)
    double* parts;              // loss_parts(...) of them
    float* loss;                // (samples,)
    std::int64_t samples;
    int terms;  // L, or L + 1 with the residual
};

// How many parts the sums of all levels are taken in.
std::int64_t loss_parts(const View& input, const Views& fine, int terms);

// loss_n = sum_l c[n, l] sum m_l |h_l|, in one fixed order, and the gradient of the sum of all. Not for circular
// borders.
void laplacian_loss(const PyramidCall& call, const LossImages& images, const LossSums& sums);

}  // namespace lapcore::cuda
