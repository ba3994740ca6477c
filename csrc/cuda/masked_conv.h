// What csrc/cuda/masked_conv.cu and masked_conv_weight.cu offer: convolutions whose kernels are masked, and their
// gradients. Images are (N, C, H, W) of any strides, weights (O, C, kh, kw) contiguous; all of one dtype.
#pragma once

#include "common/activations.h"
#include "common/view.h"

namespace lapcore::cuda {

// Of the taps in raster order the first `whole` are live for all channels. If there are colour groups (not 0), the next
// is too, where an input's group is below the output's, or is the output's `own`.
struct MaskedConvCall {
    DType dtype;
    int whole, groups;
    bool own;
    bool halves;  // whether the outputs are two halves, each of which is split into groups
    int stride;
    void* stream;
};

// How many bytes masked_conv and masked_conv_input work in, and how many masked_conv_weight does for outputs of so many
// pixels over the whole batch.
std::int64_t masked_conv_work(const MaskedConvCall& call, const View& weight);
std::int64_t masked_conv_weight_work(const MaskedConvCall& call, const View& weight, std::int64_t pixels);

// out, contiguous. Each sum is one chain of fused multiply-adds in float32, or float64 for float64: over the live taps
// in raster order and, within, the live channels in theirs; the bias (O,) and the condition, (N, O, 1, 1) or (N, O, H',
// W'), of any strides, are added after it, each if it is given. Gated out has half as many channels; its call has
// halves. 16-bit floats are widened, or, where there are no colour groups to tell apart, go to tensor cores, which add
// up slices of 16 in an order of their own, the same whatever the batch.
void masked_conv(const MaskedConvCall& call, const View& x, const View& weight, const void* bias, const View* condition,
                 Activation activation, const View& out, void* work);

// dx, contiguous, from the gradient at an output without activation: chains over the live taps and outputs.
void masked_conv_input(const MaskedConvCall& call, const View& grad, const View& weight, const View& dx, void* work);

// dw, contiguous: chains over runs of pixels whose number the sizes alone determine, added up in their order; zero
// where the mask is.
void masked_conv_weight(const MaskedConvCall& call, const View& grad, const View& x, const View& dw, void* work);

}  // namespace lapcore::cuda
