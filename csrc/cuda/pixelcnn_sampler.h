// What csrc/cuda/pixelcnn_sampler.cu offers: draws from categorical distributions, and autoregressive networks that are
// run at one pixel after the other (lapcore/reference/pixelcnn_program.py).
#pragma once

#include <vector>

#include "common/pixelcnn_sampler.h"
#include "common/random.h"
#include "common/view.h"

namespace lapcore::cuda {

// The most outputs of a panel of weights. An output matrix (outputs, depth) is handed over as panels of so many
// outputs, the last filled up with zeros to a multiple of 4; each is (depth, outputs).
constexpr int kPanelOutputs = 256;

// What a step adds, as many numbers for each image: (N, O), or (H, W, N, O) where it differs from place to place, in
// the call's `conditions` from number N * begin on.
struct PixelConditionOf {
    std::int64_t begin, channels, spatial;
};

// A program. Tables and weights are on the card.
struct PixelProgram {
    std::int64_t height, width, channels, groups;
    // map.storage: where it begins in an image's memory, counted in floats.
    const PixelMap* maps;
    // Those of the rows; then of each group those of a pixel, then those of a pixel just drawn. bounds: where each of
    // these 1 + 2 groups begins, and the end.
    const PixelStep* steps;
    const std::int64_t* bounds;
    const PixelConditionOf* conditions;
    const float* weights;
    bool mixture;
    std::int64_t head, levels;  // the map that is drawn from; levels of a categorical
    std::int64_t floats;        // an image's memory
    // Where each storage begins that is of one place, and, at last, the others: these lie behind them.
    std::vector<std::int64_t> one_place;
};

struct PixelSamplerCall {
    void* stream;
    std::int64_t images;
    Seeds seeds;  // of the images, on the card
    const float* conditions;
    const float* given;  // (N, C, H, W), like `known`; or null
    const bool* known;
    float* out;  // (N, C, H, W)
};

// How many bytes sample_program works in.
std::int64_t sample_program_work(const PixelProgram& program, std::int64_t images);

// Draws the images in one launch. Image n depends on its seed, conditions and what is given of it alone.
void sample_program(const PixelProgram& program, const PixelSamplerCall& call, void* work);

// logits (N, L), u (N) of float32 or float64 -> indices (N), as csrc/cpu/categorical.h draws them.
void categorical(DType dtype, void* stream, std::int64_t rows, std::int64_t levels, const void* logits, const void* u,
                 std::int64_t* indices);

}  // namespace lapcore::cuda
