// The activations of masked networks by name; common/activations.h computes them.
#pragma once

namespace lapcore {

// What follows the sums of a convolution.
enum class Activation : int { none, relu, gated };

// What a gate's first half goes through: tanh(a) sigmoid(b) or a sigmoid(b).
enum class First : int { tanh, identity };

}  // namespace lapcore
