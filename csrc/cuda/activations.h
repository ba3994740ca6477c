// What csrc/cuda/activations.cu offers: the activations of masked networks over images of two halves of channels. Rows
// are those images, `length` values in a half, contiguous, a stride apart; results have rows next to each other.
#pragma once

#include "common/activations.h"
#include "common/view.h"

namespace lapcore::cuda {

struct ActivationCall {
    DType dtype;
    void* stream;
    std::int64_t rows, length;  // of a half
};

// x has two halves, and so has dx; grad and y have one.
void gated_activation(const ActivationCall& call, First first, const Rows& x, void* y);
void gated_activation_backward(const ActivationCall& call, First first, const Rows& grad, const Rows& x, void* dx);

// x has one, and so has dx; grad and y have two.
void concat_elu(const ActivationCall& call, const Rows& x, void* y);
void concat_elu_backward(const ActivationCall& call, const Rows& grad, const Rows& x, void* dx);

}  // namespace lapcore::cuda
