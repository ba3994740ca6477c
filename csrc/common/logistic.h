// The arithmetic of mixtures of discretised logistics, one for CPU and CUDA; V as in common/math.h, or double.
//
// With w = inv (x - m), delta = inv / 255, u = exp(-|w|), h = exp(-delta), without cancellation:
//   sigmoid(w + delta) - sigmoid(w - delta) = (1 - h^2) u / ((u + h) (1 + u h)),   1 - h^2 = 2 delta phi(2 delta)
// so that log p = line + log q with q in [0.1, 9]. lapcore/reference/likelihood.py says more.
#pragma once

#include <limits>

#include "common/math.h"

namespace lapcore {

template <class V>
using Element = std::conditional_t<std::is_same_v<V, double>, double, float>;

constexpr double kLogScaleFloor = -7.0, kEdge = 0.999, kOfficialLeast = 1e-5, kSeries = 1e-4;
constexpr double kLogStep = -4.848116364598481;  // ln(2 / 255)

template <class V>
LAPCORE_MATH V all(double value) {
    return V{} + Element<V>(value);
}

template <class V>
constexpr Element<V> kLargest = std::numeric_limits<Element<V>>::max();
template <class V>
constexpr Element<V> kInfinity = std::numeric_limits<Element<V>>::infinity();

// NaN passes through both.
template <class V>
LAPCORE_MATH V at_least(V x, Element<V> low) {
    return x < low ? V{} + low : x;
}
template <class V>
LAPCORE_MATH V at_most(V x, Element<V> high) {
    return x > high ? V{} + high : x;
}

// What each image channel has K parameters of: means, log-scales and, of RGB, coefficients.
LAPCORE_HD constexpr int groups_of(int channels) { return channels == 3 ? 3 : 2; }
LAPCORE_HD constexpr std::int64_t components_of(std::int64_t params, int channels) {
    return params / (1 + channels * groups_of(channels));
}

// A sub-pixel and the mirror that brings an upper edge bin to the lower one's form: offset > 0 at the edges.
template <class V>
struct Place {
    V x, side, offset;
};

template <class V>
LAPCORE_MATH Place<V> place_of(V x) {
    const auto right = x > Element<V>(kEdge), left = x < Element<V>(-kEdge);
    const V one = all<V>(1), zero = V{}, offset = all<V>(1.0 / 255);
    return {x, right ? -one : one, (left | right) ? offset : zero};
}

// log p = line + log q, and its derivatives at the mean (at x: minus that) and at the log-scale.
template <class V>
struct Term {
    V line, q, d_mean, d_log_scale;
};

template <bool kGradient, class V>
LAPCORE_MATH Term<V> term_of(const Place<V>& at, V mean, V log_scale, bool official) {
    using S = Element<V>;
    const V one = all<V>(1), zero = V{};
    const auto edge = at.offset > S(0);
    const V s = at_least(log_scale, S(kLogScaleFloor));
    const V inv = exp_of(-s);
    // Beyond the largest number inf * 0 would make a NaN of a gradient.
    const V w = at_most(at_least(inv * (at.side * (at.x - mean) + at.offset), -kLargest<V>), kLargest<V>);
    const auto negative = w < S(0);
    const V size = negative ? -w : w;
    const V u = exp_of(-size);
    const V delta = inv * S(1.0 / 255), z = -expm1_of(-delta), h = one - z, y = delta + delta;
    const V series = one - y * S(0.5) + y * y * S(1.0 / 6);
    const V phi = y < S(kSeries) ? series : z * (S(2) - z) / at_least(y, S(kSeries));

    V above = phi, below = (u + h) * (one + u * h), rise = h, width = zero;
    if constexpr (kGradient) width = h * h / phi;
    V spread = delta * h * (one + u * u + S(2) * u * h);
    if (official) {
        const auto far = y * u * phi <= S(kOfficialLeast) * below;
        above = far ? one : above;
        below = far ? (one + u) * (one + u) : below;
        rise = far ? one : rise;
        width = far ? one : width;
        spread = far ? zero : spread;
    }
    const V outer = one + u, share = one / (edge ? outer : below);
    Term<V> term;
    term.line = edge ? (negative ? w : zero) : S(kLogStep) - s - size;
    term.q = edge ? share : above * share;
    if constexpr (kGradient) {
        const V inner = rise * (one - u) * outer;
        const V slope = share * (edge ? (negative ? one : u) : (negative ? inner : -inner));
        const V d_log_scale = -w * slope - (edge ? zero : spread * share + width);
        term.d_mean = -at.side * inv * slope;
        term.d_log_scale = log_scale < S(kLogScaleFloor) ? zero : d_log_scale;
    }
    return term;
}

// tanh z and its derivative.
template <class V>
struct Coefficient {
    V value, slope;
};

template <class V>
LAPCORE_MATH Coefficient<V> coefficient_of(V z) {
    using S = Element<V>;
    const auto negative = z < S(0);
    const V e = expm1_of(negative ? z + z : -(z + z)), r = all<V>(1) / (e + S(2)), t = -e * r;
    return {negative ? -t : t, (e + S(1)) * r * r * S(4)};
}

// Of one component: the sum of the lines and the logit, the product of the q, and the rest for a gradient.
template <int C, class V>
struct Joint {
    V exponent, q;
    Term<V> terms[C];
    Coefficient<V> coefficients[C == 3 ? 3 : 1];
};

// read(row): of the pixel's params. top: the largest logit.
template <int C, bool kGradient, class V, class Read>
LAPCORE_MATH Joint<C, V> joint_of(const Place<V> (&at)[C], const Read& read, std::int64_t count, std::int64_t k, V top,
                                  bool official) {
    constexpr int kGroups = groups_of(C);
    Joint<C, V> joint;
    V means[C];
    for (int c = 0; c < C; ++c) means[c] = read(count * (1 + kGroups * c) + k);
    if constexpr (C == 3) {
        for (int c = 0; c < 3; ++c) joint.coefficients[c] = coefficient_of<V>(read(count * (3 + 3 * c) + k));
        means[1] = means[1] + joint.coefficients[0].value * at[0].x;
        means[2] = means[2] + joint.coefficients[1].value * at[0].x + joint.coefficients[2].value * at[1].x;
    }
    V exponent = read(k) - top, q = all<V>(1);
    for (int c = 0; c < C; ++c) {
        const V log_scale = read(count * (2 + kGroups * c) + k);
        joint.terms[c] = term_of<kGradient>(at[c], means[c], log_scale, official);
        exponent = exponent + joint.terms[c].line;
        q = q * joint.terms[c].q;
    }
    joint.exponent = at_least(exponent, -kLargest<V>);
    joint.q = q;
    return joint;
}

// -log p of a pixel whose likeliest component has the exponent `best`, from sum q exp(exponent - best) and
// sum exp(logit - top). Where all components are beyond the smallest number it is infinite.
template <class V>
LAPCORE_MATH V pixel_nll(V best, V weights, V logits) {
    const V value = log_of(logits / weights) - best;
    const V infinite = weights - weights + kInfinity<V>;  // NaN stays
    return best <= -kLargest<V> ? infinite : value;
}

// The derivatives of log p of a component at its coefficients and at x.
template <int C, class V>
struct Slopes {
    V coefficients[C == 3 ? 3 : 1], x[C];
};

template <int C, class V>
LAPCORE_MATH Slopes<C, V> slopes_of(const Joint<C, V>& joint, const Place<V> (&at)[C]) {
    const auto& terms = joint.terms;
    const auto& c = joint.coefficients;
    Slopes<C, V> slopes;
    for (int i = 0; i < C; ++i) slopes.x[i] = -terms[i].d_mean;
    if constexpr (C == 3) {
        slopes.coefficients[0] = terms[1].d_mean * at[0].x * c[0].slope;
        slopes.coefficients[1] = terms[2].d_mean * at[0].x * c[1].slope;
        slopes.coefficients[2] = terms[2].d_mean * at[1].x * c[2].slope;
        slopes.x[0] = slopes.x[0] + c[0].value * terms[1].d_mean + c[1].value * terms[2].d_mean;
        slopes.x[1] = slopes.x[1] + c[2].value * terms[2].d_mean;
    }
    return slopes;
}

// ln of a uniform, or of what is far from the smallest numbers.
template <class V>
LAPCORE_MATH V ln(V x) {
    if constexpr (std::is_same_v<V, double>) {
        return log(x);
    } else {
        return log_of_normal(x);
    }
}

// What Gumbel-max compares.
template <class V>
LAPCORE_MATH V gumbel_score(V logit, V u) {
    return logit - ln(-ln(u));
}

// The value that a logistic's uniform gives, clipped to [-1, 1] and, if wanted, put on the 8-bit grid.
template <class V>
LAPCORE_MATH V logistic_draw(V mean, V log_scale, V u, bool snap) {
    using S = Element<V>;
    constexpr S kToInteger = std::is_same_v<V, double> ? S(0x1.8p52) : S(0x1.8p23);  // a sum with it is rounded
    const V scale = at_most(exp_of(at_least(log_scale, S(kLogScaleFloor))), kLargest<V>);
    const V noise = scale * (ln(u) - ln(S(1) - u));
    const V value = at_most(at_least(mean + noise, S(-1)), S(1));
    if (!snap) return value;
    return ((value + S(1)) * S(127.5) + kToInteger - kToInteger) / S(127.5) - S(1);
}

// The channels of a pixel, `stride` apart and snapped: read(row) of its params; of the uniforms the first `count`
// choose the component, by Gumbel-max, the next give a channel each.
template <class Read, class Uniform>
LAPCORE_MATH void draw_mixture(int channels, std::int64_t count, const Read& read, const Uniform& uniform, float* drawn,
                               std::int64_t stride) {
    const int groups = groups_of(channels);
    std::int64_t chosen = 0;
    float best = -kLargest<float>;
    for (std::int64_t k = 0; k < count; ++k) {
        const float score = gumbel_score(read(k), uniform(k));
        if (k == 0 ? score == score : score > best) {
            best = score;
            chosen = k;
        }
    }
    const auto value = [&](int row) { return read(count * (1 + row) + chosen); };
    for (int c = 0; c < channels; ++c) {
        float mean = value(groups * c);
        // c0 is of green on red, c1 and c2 of blue on red and green.
        for (int b = 0; b < c; ++b)
            mean += coefficient_of(value(groups * (c - 1 + b) + groups - 1)).value * drawn[b * stride];
        drawn[c * stride] = logistic_draw(mean, value(groups * c + 1), uniform(count + c), true);
    }
}

}  // namespace lapcore
