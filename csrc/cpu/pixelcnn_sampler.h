// What csrc/cpu/pixelcnn_sampler.cpp offers, once per instruction set: draws from categorical distributions, and
// autoregressive networks that are run at one pixel after the other (lapcore/reference/pixelcnn_program.py).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/pixelcnn_sampler.h"
#include "common/view.h"

namespace lapcore {

struct PixelHead {
    bool mixture;
    std::int64_t src, levels;  // levels of a categorical
};

struct PixelProgramSpec {
    std::int64_t height, width, channels, groups;
    std::vector<PixelMap> maps;  // the first is the image
    std::vector<PixelStep> steps;
    const float* weights;
    PixelHead head;
};

// (N, O), or (H, W, N, O) where it differs from place to place.
struct PixelCondition {
    const float* data;
    std::int64_t channels;
    bool spatial;
};

struct PixelCall {
    int threads;
    std::int64_t images;
    const float* noise;  // (N, rows, H, W)
    std::int64_t noise_rows;
    const float* given;  // (N, C, H, W), like `known`; or null
    const bool* known;
    std::vector<PixelCondition> conditions;
    float* out;  // (N, C, H, W)
};

// A program, ready to run; it holds copies of the weights.
class PixelProgram {
public:
    virtual ~PixelProgram() = default;
    virtual void run(const PixelCall& call) const = 0;
};

struct PixelcnnSamplerKernels {
    std::unique_ptr<PixelProgram> (*compile)(const PixelProgramSpec& spec);
    // logits (N, L), contiguous, u (N) of float32 or float64 -> indices (N).
    void (*categorical)(DType dtype, int threads, std::int64_t rows, std::int64_t levels, const void* logits,
                        const void* u, std::int64_t* indices);
};

}  // namespace lapcore
