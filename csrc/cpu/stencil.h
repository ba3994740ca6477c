// A separable operator over a block of rows. Forward operators of most formats keep their sums in registers; the
// others, and the rows that a border of zeros cuts short, go through a line: along the columns, source rows into a
// line, then along that. Included once per instruction set.
//
// Every output is summed in one fixed order, whatever the block, the vector length or the number of threads:
//   decimating   ((a + e) outer + (b + d) inner) + c centre
//   expanding    (a + c) outer + b centre;   (b + c) odd
// and elsewhere, along the columns of cut rows and at the ends of a transpose, tap after tap.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "cpu/axis.h"
#include "cpu/buffer.h"
#include "cpu/formats.h"
#include "cpu/narrow.h"

namespace lapcore::LAPCORE_ISA {

constexpr std::int64_t kMaxBlockRows = 64;

// A 2-D operator: one axis along the columns, one along the rows, whose samples are pixels of 1, 3 or 4 channels: 3 and
// 4 are for forward operators in registers without a base, where no row is cut.
template <class F>
struct Operator {
    Axis rows, columns;
    std::int64_t channels;
    Narrow<F> narrow;
    std::vector<std::int64_t>
        window;  // of narrow rows, which are many a second: those that stand at first_of(0) and on
    Operator(Op op, std::int64_t src_h, std::int64_t src_w, std::int64_t dst_h, std::int64_t dst_w, Border border,
             std::int64_t channels = 1)
        : rows(op, src_h, dst_h, border), columns(op, src_w, dst_w, border), channels(channels) {
        if constexpr (kFused<F>) {
            if (channels == 1) narrow = Narrow<F>(columns);
        }
        if (!narrow.vectors) return;
        for (std::int64_t p = first_of(0); p < last_of(dst_h); ++p) window.push_back(rows.source(p));
    }

    // The source rows that outputs from i on read begin here, and those of outputs before i end here.
    std::int64_t first_of(std::int64_t i) const { return rows.decimates() ? 2 * i - 2 : i / 2 - 1; }
    std::int64_t last_of(std::int64_t i) const { return rows.decimates() ? 2 * i + 1 : (i - 1) / 2 + 2; }
};

// Which rows of an operator a block makes, and what it reads and writes: the source rows of its window, and for each
// output its base and its place.
template <class F, bool kBase>
struct Block {
    using S = typename F::Sample;
    using Out = std::conditional_t<kBase, typename F::Band, S>;
    std::int64_t first, count;
    const S* source[2 * kMaxBlockRows + 3];
    const S* base[kMaxBlockRows];
    Out* out[kMaxBlockRows];
    Out* spare;          // a row that is written and never read
    int sign;            // base + sign * op(source)
    std::int64_t ahead;  // what stands so far beyond the base will be read soon
    bool streamed;       // outputs go past the caches
};

// One line of sums with room for Axis::kPad samples and a vector at either end. One that is to be decimated is kept as
// its even and its odd samples, so that the stencil reads with unit stride.
template <class C>
class Line {
public:
    static constexpr std::int64_t kMargin = 64 / sizeof(C);

    explicit Line(std::int64_t width)
        : half_(aligned((width + 1) / 2 + Axis::kPad)), memory_(std::max(2 * half_, aligned(width + Axis::kPad))) {}

    C* whole() const { return memory_.get() + kMargin; }
    C* odd() const { return whole() + half_; }

private:
    // Room for n samples from kMargin on, and a vector more.
    static std::int64_t aligned(std::int64_t n) { return (n + 2 * kMargin) / kMargin * kMargin + kMargin; }

    std::int64_t half_;
    Buffer<C> memory_;
};

// Row m of a low-pass, and rows 2m - 2 and 2m - 1 of the band, which are complete with it.
template <class F>
struct LevelRows {
    const typename F::Sample* source[5];  // rows 2m - 2 .. 2m + 2
    const typename F::Sample* low[2];     // rows m - 2 and m - 1 of the low-pass
    typename F::Sample* out;              // its row m
    typename F::Band* band[2];
};

// The kernels, in csrc/cpu/stencil_kernels.h. In registers: a block, and one where op.narrow.vectors is not 0; with a
// base for expanding operators alone.
template <class F, bool kBase>
void run_window(const Operator<F>& op, const Block<F, kBase>& block);
template <class F, bool kBase>
void run_narrow(const Operator<F>& op, const Block<F, kBase>& block);
template <class F>
void run_level(const Operator<F>& down, const Operator<F>& up, const LevelRows<F>& rows, bool streamed,
               std::int64_t ahead);
// Through a line: the r-th row of a block, from the rows that its taps name.
template <class F, bool kBase>
void run_line(const Operator<F>& op, const ShiftedTaps& taps, const typename F::Sample* const* rows,
              const Line<typename F::Sum>& line, const Block<F, kBase>& block, std::int64_t r);

// Points at the source rows of a block of a forward operator. False if one lies in a border of zeros.
template <class Source, class F, bool kBase>
inline bool find_window(const Operator<F>& op, Source& source, Block<F, kBase>& block) {
    const std::int64_t begin = op.first_of(block.first), end = op.last_of(block.first + block.count);
    if (!op.window.empty()) {
        source.find(op.window.data() + (begin - op.first_of(0)), end - begin, block.source);
        return true;
    }
    for (std::int64_t p = begin; p < end; ++p) {
        const std::int64_t row = op.rows.source(p);
        if (row == kOutside) return false;
        block.source[p - begin] = source(row);
    }
    return true;
}

}  // namespace lapcore::LAPCORE_ISA
