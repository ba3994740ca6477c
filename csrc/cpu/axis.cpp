// The taps at the ends of an axis, and those that repeat between them.
#include "cpu/axis.h"

namespace lapcore::LAPCORE_ISA {

Axis::Axis(Op op, std::int64_t n_src, std::int64_t n_dst, Border border)
    : op_(op), border_(border), n_src_(n_src), n_dst_(n_dst) {
    // Interior outputs read their whole stencil inside the line, and no folded border sample lands on them.
    if (decimates()) {
        lo_ = 2;
        hi_ = std::min(n_dst - 2, (n_src - 3) / 2 + 1);
    } else {
        lo_ = kLongestEnd;
        hi_ = std::min(n_dst - kLongestEnd, 2 * n_src - 2);
    }
    if (hi_ <= lo_) lo_ = hi_ = std::min<std::int64_t>(lo_, n_dst);
    for (std::int64_t i = 0; i < lo_; ++i) ends_[i] = taps_of(op, i, n_src, n_dst, border);
    for (std::int64_t i = hi_; i < n_dst; ++i) ends_[i - (hi_ - lo_)] = taps_of(op, i, n_src, n_dst, border);
    for (int p = 0; p < 2 && lo_ + p < hi_; ++p) phase_[p] = taps_of(op, lo_ + p, n_src, n_dst, border);
    for (std::int64_t p = 0; p < 2 * kPad; ++p) {
        const std::int64_t beyond = p < kPad ? p - kPad : n_src + p - kPad;
        pad_[p] = source(beyond);
    }
}

}  // namespace lapcore::LAPCORE_ISA
