// The kernels that csrc/cpu/stencil.h declares, for the files that instantiate them: one for each format. Included once
// per instruction set.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/lines.h"
#include "cpu/stencil.h"
#include "cpu/wide.h"

namespace lapcore::LAPCORE_ISA {

template <class C>
C flip_of(int sign) {
    return std::is_integral_v<C> && sign < 0 ? C(-1) : C(0);
}

template <class F, bool kBase>
Finish<F, kBase> finish_of(const Block<F, kBase>& block, std::int64_t r) {
    using C = typename F::Sum;
    return {kBase ? block.base[r] : nullptr, block.out[r], flip_of<C>(block.sign), block.ahead,
            block.streamed && is_aligned(block.out[r])};
}

template <int K, class F, bool kBase>
void run_channels(const Operator<F>& op, const Block<F, kBase>& block) {
    using C = typename F::Sum;
    if constexpr (!kBase) {
        if (op.rows.decimates()) {
            const auto rows = op.rows.template decimating<C>(), columns = op.columns.template decimating<C>();
            for (std::int64_t r = 0; r < block.count; ++r)
                decimate_row<F, K>(op.columns, columns, five_rows(block.source + 2 * r, rows), finish_of(block, r));
            return;
        }
    }
    const auto rows = op.rows.template expanding<C>();
    const auto columns = op.columns.template expanding<C>(block.sign);
    const std::int64_t begin = block.first / 2, end = (block.first + block.count + 1) / 2;
    for (std::int64_t p = begin; p < end; ++p) {
        const std::int64_t r = 2 * p - block.first;
        const bool has_even = r >= 0, has_odd = r + 1 < block.count;
        Finish<F, kBase> even = finish_of(block, has_even ? r : r + 1);
        Finish<F, kBase> odd = finish_of(block, has_odd ? r + 1 : r);
        if (!has_even) even.out = block.spare, even.streamed = false;
        if (!has_odd) odd.out = block.spare, odd.streamed = false;
        expand_rows<F, K>(op.columns, rows, columns, block.source + (p - begin), even, odd);
    }
}

template <class F, bool kBase>
void run_window(const Operator<F>& op, const Block<F, kBase>& block) {
    if constexpr (!kBase) {
        if (op.channels == 3) return run_channels<3>(op, block);
        if (op.channels == 4) return run_channels<4>(op, block);
    }
    run_channels<1>(op, block);
}

template <class F, bool kBase>
void run_narrow(const Operator<F>& op, const Block<F, kBase>& block) {
    using C = typename F::Sum;
    const auto finish = [&](std::int64_t r) LAPCORE_INLINE_LAMBDA {
        return Finish<F, kBase>{kBase ? block.base[r] : nullptr, block.out[r], flip_of<C>(block.sign), block.ahead};
    };
    const bool one = op.narrow.vectors == 1;
    if constexpr (!kBase) {
        if (op.columns.decimates()) {
            const auto rows = op.rows.template decimating<C>(), columns = op.columns.template decimating<C>();
            one ? op.narrow.down1.run(block.source, block.count, rows, columns, finish)
                : op.narrow.down2.run(block.source, block.count, rows, columns, finish);
            return;
        }
    }
    const auto rows = op.rows.template expanding<C>();
    const auto columns = op.columns.template expanding<C>(block.sign);
    one ? op.narrow.up1.run(block.source, block.first, block.count, rows, columns, finish)
        : op.narrow.up2.run(block.source, block.first, block.count, rows, columns, finish);
}

template <class F>
void run_level(const Operator<F>& down, const Operator<F>& up, const LevelRows<F>& rows, bool streamed,
               std::int64_t ahead) {
    using C = typename F::Sum;
    const bool aligned = streamed && is_aligned(rows.band[0]) && is_aligned(rows.band[1]);
    const auto band = [&](int r) {
        return Finish<F, true>{rows.source[r], rows.band[r], flip_of<C>(-1), ahead, aligned};
    };
    level_row<F>(down.columns, up.columns, five_rows(rows.source, down.rows.template decimating<C>()),
                 up.rows.template expanding<C>(), rows.low[0], rows.low[1], Finish<F, false>{nullptr, rows.out},
                 band(0), band(1), up.columns.template expanding<C>(-1));
}

template <class F, bool kBase>
void run_line(const Operator<F>& op, const ShiftedTaps& taps, const typename F::Sample* const* rows,
              const Line<typename F::Sum>& line, const Block<F, kBase>& block, std::int64_t r) {
    using C = typename F::Sum;
    C weights[kMaxTaps];
    for (int k = 0; k < taps.count(); ++k) weights[k] = op.rows.template weight<C>(taps.weight(k));
    const Axis& axis = op.columns;
    combine_rows(TapsColumn<typename F::Sample, C>{rows, weights, taps.count()}, axis.n_src(), line, axis.decimates());
    Finish<F, kBase> finish = finish_of(block, r);
    finish.streamed = false;  // a transpose's whole vectors begin where they may
    std::int64_t lo = 0, hi = axis.n_dst();
    if (axis.forward()) {
        pad_line(axis, line);
    } else {
        finish_ends(axis, block.sign, line, finish);
        lo = axis.lo();
        hi = axis.hi();
    }
    axis.decimates() ? decimate_line(axis.decimating<C>(block.sign), line.whole(), line.odd(), lo, hi, finish)
                     : expand_line(axis.expanding<C>(block.sign), line.whole(), lo, hi, finish);
}

// Instantiates the kernels of a format that has lines alone, and of one that has those in registers too.
#define LAPCORE_LINE_KERNELS_OF(F, base)                                                                      \
    template void run_line<F, base>(const Operator<F>&, const ShiftedTaps&, const typename F::Sample* const*, \
                                    const Line<typename F::Sum>&, const Block<F, base>&, std::int64_t);
#define LAPCORE_LINE_KERNELS(F)       \
    LAPCORE_LINE_KERNELS_OF(F, false) \
    LAPCORE_LINE_KERNELS_OF(F, true)
#if defined(__x86_64__) && !defined(__AVX2__)
#define LAPCORE_KERNELS(F) LAPCORE_LINE_KERNELS(F)
#else
#define LAPCORE_KERNELS(F)                                                          \
    LAPCORE_LINE_KERNELS(F)                                                         \
    template void run_window<F, false>(const Operator<F>&, const Block<F, false>&); \
    template void run_window<F, true>(const Operator<F>&, const Block<F, true>&);   \
    template void run_narrow<F, false>(const Operator<F>&, const Block<F, false>&); \
    template void run_narrow<F, true>(const Operator<F>&, const Block<F, true>&);   \
    template void run_level<F>(const Operator<F>&, const Operator<F>&, const LevelRows<F>&, bool, std::int64_t);
#endif

}  // namespace lapcore::LAPCORE_ISA
