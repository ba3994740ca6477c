// What csrc/cpu/masked_conv.cpp, masked_conv_weight.cpp and activations.cpp offer, once per instruction set.
#pragma once

#include <cstdint>
#include <vector>

#include "common/activation_kinds.h"
#include "common/view.h"

namespace lapcore {

// Which weights (O, C, kh, kw) count: the first `whole` taps in raster order, and of the next, for output channel o,
// the first centre[o] input channels. `centre` is empty where that tap is dead.
struct LiveTaps {
    std::int64_t whole;
    std::vector<std::int64_t> centre;
};

struct MaskedConvCall {
    DType dtype;
    int threads;
    LiveTaps live;
    std::int64_t stride;
};

// What follows the sums of an output; null where it is not there. condition: (N, O), or (N, O, H', W') `per_pixel`.
struct Epilogue {
    const void *bias, *condition;
    bool per_pixel;
    Activation activation;
};

// Tensors are contiguous.
struct MaskedConvKernels {
    void (*forward)(const MaskedConvCall& call, const View& x, const View& weight, const Epilogue& epilogue,
                    const View& y);
    // dx (N, C, H, W) of grad (N, O, H, W); of stride 1.
    void (*backward_input)(const MaskedConvCall& call, const View& grad, const View& weight, const View& dx);
    // dweight (O, C, kh, kw) of grad (N, O, H', W'), zeros at dead taps.
    void (*backward_weight)(const MaskedConvCall& call, const View& grad, const View& x, const View& d_weight);

    // Rows are images, two halves of channels in x of gates, and in the result of concat_elu: x (rows, 2 half) and
    // y (rows, half), or the other way round.
    void (*gated)(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half, const void* x, void* y);
    void (*gated_backward)(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half,
                           const void* grad, const void* x, void* dx);
    void (*concat_elu)(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* x, void* y);
    void (*concat_elu_backward)(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* grad,
                                const void* x, void* dx);
};

}  // namespace lapcore
