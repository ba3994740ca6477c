// The probabilities that categorical draws add up, of one number or a vector.
#pragma once

#include "common/math.h"

namespace lapcore {

// exp(logit - largest); a logit that is the largest has 1, be it infinite, and NaN has 0.
template <class V>
LAPCORE_MATH V probability_of(V logit, V largest) {
    const V e = exp_of(logit - largest), p = select(logit == largest, V{} + 1, e);
    return select(p == p, p, V{});
}

}  // namespace lapcore
