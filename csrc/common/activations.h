// The activations of masked networks and their gradients, of one number (float, double), a vector of floats or several
// (several.h). In float32 every operation is rounded by itself (math.h): an element's bits depend neither on its lane
// nor on the instruction set, so that a network run pixel by pixel gives what it gives on whole images.
//
// Exponentials are taken of -|x| only: nothing overflows, and where an activation saturates, its gradient still has the
// relative error of a few roundings.
#pragma once

#include "common/activation_kinds.h"
#include "common/math.h"

namespace lapcore {

// The two halves of an activation's channels.
template <class V>
struct Halves {
    V first, second;
};

// A function and its derivative.
template <class V>
struct Sloped {
    V value, slope;
};

// e^x and e^x - 1 for x <= 0, out of one reduction of x; e^x down to the smallest subnormal number.
template <class V>
struct Decay {
    V exp, expm1;
};

LAPCORE_MATH Decay<double> decay_of(double x) { return {exp_of(x), expm1_of(x)}; }

template <class V>
LAPCORE_MATH Decay<V> decay_of(V x) {
    const Exponential<V> e = exponential(clamped(x, -104.0f, 0.0f));
    const Integers<V> half = e.n >> 1;
    const V root = power_of_two<V>(half), rest = power_of_two<V>(e.n - half), scale = root * rest;
    return {(e.p + 1.0f) * root * rest, e.p * scale + (scale - 1.0f)};
}

// -|x|; NaN stays.
template <class V>
LAPCORE_MATH V below_zero(V x) {
    return minimum(x, -x);
}

// max(x, 0); NaN stays.
template <class V>
LAPCORE_MATH V relu_of(V x) {
    return maximum(V{}, x);
}

// 1 / (1 + e^-x); its derivative is e / (1 + e)^2 with e = e^-|x|.
template <class V>
LAPCORE_MATH Sloped<V> sigmoid_of(V x) {
    const V e = decay_of(below_zero(x)).exp, inverse = 1.0f / (e + 1.0f), falling = e * inverse;
    return {select(x < 0.0f, falling, inverse), falling * inverse};
}

// tanh |x| = -m / (2 + m) with m = e^(-2|x|) - 1; its derivative is 4 (1 + m) / (2 + m)^2.
template <class V>
LAPCORE_MATH Sloped<V> tanh_of(V x) {
    const V twice = below_zero(x) * 2.0f;
    const Decay<V> decay = decay_of(twice);
    const V inverse = 1.0f / (decay.expm1 + 2.0f), magnitude = (0.0f - decay.expm1) * inverse;
    return {select(x < 0.0f, -magnitude, magnitude), decay.exp * inverse * inverse * 4.0f};
}

template <First kFirst, class V>
LAPCORE_MATH V gated(V a, V b) {
    if constexpr (kFirst == First::identity) return a * sigmoid_of(b).value;
    return tanh_of(a).value * sigmoid_of(b).value;
}

template <First kFirst, class V>
LAPCORE_MATH Halves<V> gated_backward(V grad, V a, V b) {
    const Sloped<V> gate = sigmoid_of(b);
    if constexpr (kFirst == First::identity) return {grad * gate.value, grad * a * gate.slope};
    const Sloped<V> first = tanh_of(a);
    return {grad * gate.value * first.slope, grad * first.value * gate.slope};
}

// elu(x) and elu(-x): e^-|x| - 1 is the one that is not |x|.
template <class V>
LAPCORE_MATH Halves<V> concat_elu(V x) {
    const V low = decay_of(below_zero(x)).expm1;
    return {select(0.0f < x, x, low), select(0.0f < x, low, -x)};
}

template <class V>
LAPCORE_MATH V concat_elu_backward(V grad_first, V grad_second, V x) {
    const V slope = decay_of(below_zero(x)).exp;
    return select(0.0f < x, grad_first - grad_second * slope, grad_first * slope - grad_second);
}

}  // namespace lapcore
