// What masked_conv.cpp and masked_conv_weight.cpp share. Included once per instruction set.
#pragma once

#include <vector>

#include "cpu/masked_conv.h"
#include "cpu/patches.h"

namespace lapcore::LAPCORE_ISA {

void masked_conv_backward_weight(const MaskedConvCall& call, const View& grad, const View& x, const View& d_weight);

// The taps that are live for any of the weights (O, C, kh, kw).
inline Chain chain_of(const LiveTaps& live, const View& weight) {
    return {live.whole + !live.centre.empty(), weight.shape[1], weight.height(), weight.width()};
}

}  // namespace lapcore::LAPCORE_ISA
