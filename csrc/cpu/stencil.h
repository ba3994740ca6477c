// A separable operator over a block of rows: for forward operators in one pass, for transposes in two: along the
// columns, source rows into lines; then along each line. Included once per instruction set.
//
// Every output is summed in one fixed order, whatever the block, the vector length or the number of threads:
//   decimating   ((a + e) outer + (b + d) inner) + c centre
//   expanding    (a + c) outer + b centre;   (b + c) odd
// and elsewhere, at the ends of a transpose or of a border of zeros, tap after tap.
#pragma once

#include <cstdint>

#include "cpu/axis.h"
#include "cpu/narrow.h"
#include "cpu/rows.h"
#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

// A 2-D operator: one axis along the columns, one along the rows, whose samples are pixels of 1, 3 or 4 channels: 3 and
// 4 are for forward operators without a base.
template <class C>
struct Operator {
    Axis rows, columns;
    std::int64_t channels;
    Narrow<C> narrow;
    Operator(Op op, std::int64_t src_h, std::int64_t src_w, std::int64_t dst_h, std::int64_t dst_w, Border border,
             std::int64_t channels = 1)
        : rows(op, src_h, dst_h, border), columns(op, src_w, dst_w, border), channels(channels) {
        if (channels == 1) narrow = Narrow<C>(columns);
    }
    std::int64_t row_size() const { return channels * columns.n_dst(); }
};

// Lines of sums with room for Axis::kPad samples and a vector at either end. Those that are to be decimated are kept as
// their even and their odd samples, so that the stencil reads with unit stride.
template <class C>
class Lines {
public:
    static constexpr std::int64_t kMargin = 64 / sizeof(C);

    Lines(std::int64_t width, std::int64_t count)
        : half_(aligned((width + 1) / 2 + Axis::kPad)),
          whole_(std::max(2 * half_, aligned(width + Axis::kPad))),
          count_(count),
          memory_(whole_ * count) {}

    std::int64_t count() const { return count_; }
    C* whole(std::int64_t r) const { return memory_.get() + r * whole_ + kMargin; }
    C* odd(std::int64_t r) const { return whole(r) + half_; }

private:
    // Room for n samples from kMargin on, and a vector more.
    static std::int64_t aligned(std::int64_t n) { return (n + 2 * kMargin) / kMargin * kMargin + kMargin; }

    std::int64_t half_, whole_, count_;
    Buffer<C> memory_;
};

// What a block of outputs reads and writes: the source rows of its window, and for each output its base and its place.
template <class C>
struct Block {
    std::int64_t count;
    const C* source[2 * kMaxBlockRows + 3];
    const C* base[kMaxBlockRows];
    C* out[kMaxBlockRows];
};

// The kernels, in csrc/cpu/stencil.cpp, for sums of float, double, uint16 and int32. `first` is the number of the
// block's first output; sign 1 and -1 add to a base and subtract from it, 0 has none.

// Forward operators on the block's window; `streamed` outputs go past the caches; what is `ahead` of the base will be
// read soon.
template <int sign, class C>
void run_window(const Operator<C>& op, std::int64_t first, const Block<C>& block, bool streamed, std::int64_t ahead);
// The same where op.narrow.vectors is not 0.
template <int sign, class C>
void run_narrow(const Operator<C>& op, std::int64_t first, const Block<C>& block);
// One output of a forward operator from any taps.
template <int sign, class C>
void run_taps(const Operator<C>& op, const ShiftedTaps& taps, const C* const* rows, const C* base, C* out);
// Transposes: along the columns, for one output from any taps, and along the lines.
template <class C>
void combine_taps(const Axis& axis, const ShiftedTaps& taps, const C* const* rows, std::int64_t n, C* line,
                  C* odd_line);
template <int sign, class C>
void finish_lines(const Axis& columns, const Block<C>& block, const Lines<C>& lines);

// Row m of a low-pass, and rows 2m - 2 and 2m - 1 of the band, which are complete with it.
template <class C>
struct LevelRows {
    const C* source[5];  // rows 2m - 2 .. 2m + 2
    const C* low[2];     // rows m - 2 and m - 1 of the low-pass
    C* out;              // its row m
    C* band[2];
};
template <class C>
void run_level(const Operator<C>& down, const Operator<C>& up, const LevelRows<C>& rows, bool streamed,
               std::int64_t ahead);

// Points at the source rows of outputs [first, last) of a forward operator. False if one lies in a border of zeros, or
// the operator is a transpose: then taps differ from row to row.
template <class C, class Source>
inline bool find_window(const Axis& axis, std::int64_t first, std::int64_t last, Source& source, Block<C>& block) {
    if (!axis.forward()) return false;
    const bool down = axis.decimates();
    const std::int64_t begin = down ? 2 * first - 2 : first / 2 - 1;
    const std::int64_t end = down ? 2 * last + 1 : (last - 1) / 2 + 2;
    for (std::int64_t p = begin; p < end; ++p) {
        const std::int64_t row = axis.source(p);
        if (row == kOutside) return false;
        block.source[p - begin] = source(row);
    }
    return true;
}

struct NoBase {
    std::int64_t block_rows() const { return kMaxBlockRows; }
    std::int64_t ahead() const { return 0; }
};

// Rows [first, last) of an operator on `source`, added to or subtracted from those of `base`. For row i, the r-th of
// its block, out(i, r) is where it goes; done(i, row) is called when it is there. A block of lines stays in the nearest
// cache.
template <int sign, class C, class Source, class Base, class Out, class Done>
void apply_rows(const Operator<C>& op, std::int64_t first, std::int64_t last, Source& source, Base& base,
                Lines<C>& lines, Block<C>& block, const Out& out, const Done& done, bool streamed) {
    const bool forward = op.rows.forward();
    const std::int64_t step = std::min({lines.count(), source.block_rows(), base.block_rows()});
    const C* rows[kMaxTaps];
    const auto taps_at = [&](std::int64_t i) {
        const ShiftedTaps taps = op.rows(i);
        for (int k = 0; k < taps.count(); ++k) rows[k] = source(taps.index(k));
        return taps;
    };
    for (std::int64_t begin = first; begin < last; begin += step) {
        block.count = std::min(last - begin, step);
        for (std::int64_t r = 0; r < block.count; ++r) block.out[r] = out(begin + r, r);
        if constexpr (sign != 0) {
            for (std::int64_t r = 0; r < block.count; ++r) block.base[r] = base(begin + r);
        }
        if (find_window(op.rows, begin, begin + block.count, source, block)) {
            op.narrow.vectors ? run_narrow<sign>(op, begin, block)
                              : run_window<sign>(op, begin, block, streamed, base.ahead());
        } else if (forward) {
            for (std::int64_t r = 0; r < block.count; ++r)
                run_taps<sign>(op, taps_at(begin + r), rows, block.base[r], block.out[r]);
        } else {
            for (std::int64_t r = 0; r < block.count; ++r)
                combine_taps(op.rows, taps_at(begin + r), rows, op.columns.n_src(), lines.whole(r),
                             op.columns.decimates() ? lines.odd(r) : nullptr);
            finish_lines<sign>(op.columns, block, lines);
        }
        for (std::int64_t r = 0; r < block.count; ++r) done(begin + r, block.out[r]);
    }
}

}  // namespace lapcore::LAPCORE_ISA
