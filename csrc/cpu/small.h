// Laplacian pyramids of small images: rows in registers, and at the coarser levels as many images side by side as fill
// them. Included once per instruction set.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/laplacian.h"
#include "cpu/narrow.h"
#include "cpu/stencil_kernels.h"

namespace lapcore::LAPCORE_ISA {

constexpr std::int64_t kMaxGroup = 8;

template <class F>
class SmallLevel {
public:
    using S = typename F::Sample;
    using B = typename F::Band;
    using C = typename F::Sum;

    // is_ready() is false where the rows of so many images do not fit, or the border rule needs rows from far away.
    SmallLevel(const Level<F>& level, std::int64_t images) : level_(level) {
        if (level.wraps) return;
        if (level.up.rows.source(-1) == kOutside) return;
        const Axis &down = level.down.columns, &up = level.up.columns;
        vectors_ = down1_.prepare(down, images) && up1_.prepare(up, images)   ? 1
                   : down2_.prepare(down, images) && up2_.prepare(up, images) ? 2
                                                                              : 0;
        rows_.reserve(2 * level.low.h + 3);
        for (std::int64_t y = -2; y < 2 * level.low.h + 1; ++y) rows_.push_back(level.down.rows.source(y));
    }

    bool is_ready() const { return vectors_ != 0; }

    void run(const RowsInPlace<const S>& source, const RowsInPlace<B>& band, const RowsInPlace<S>& low) const {
        if (vectors_ == 1) {
            down1_.full() ? run<true>(down1_, up1_, source, band, low) : run<false>(down1_, up1_, source, band, low);
        } else {
            down2_.full() ? run<true>(down2_, up2_, source, band, low) : run<false>(down2_, up2_, source, band, low);
        }
    }

private:
    template <bool full, int R>
    void run(const NarrowDown<F, R>& narrow_down, const NarrowUp<F, R>& narrow_up, const RowsInPlace<const S>& source,
             const RowsInPlace<B>& band, const RowsInPlace<S>& low) const {
        const NarrowDown<F, R> down = narrow_down;
        const NarrowUp<F, R> up = narrow_up;
        const Axis& up_axis = level_.up.columns;
        const auto down_stencil = level_.down.columns.template decimating<C>();
        const auto up_stencil = up_axis.template expanding<C>(), minus = up_axis.template expanding<C>(-1);
        const Finish<F, true> difference{nullptr, nullptr, flip_of<C>(-1)};
        const std::int64_t h = level_.size.h, low_h = level_.low.h;
        const auto put_band = [&](std::int64_t y, const Vector<C>(&sums)[R]) LAPCORE_INLINE_LAMBDA {
            Finish<F, true> finish = difference;
            finish.base = source(y);
            finish.out = band(y);
            up.template along<full>(sums, minus, finish);
        };
        // The rows 2m and 2m + 1 of the band, from rows m - 1, m and m + 1 of the low-pass.
        const auto put_bands = [&](std::int64_t m, const Vector<C>(&a)[R], const Vector<C>(&b)[R],
                                   const Vector<C>(&c)[R]) LAPCORE_INLINE_LAMBDA {
            Vector<C> sums[R];
            for (int r = 0; r < R; ++r) sums[r] = up_stencil.even(a[r], b[r], c[r]);
            put_band(2 * m, sums);
            if (2 * m + 1 == h) return;
            for (int r = 0; r < R; ++r) sums[r] = up_stencil.odd(b[r], c[r]);
            put_band(2 * m + 1, sums);
        };
        const auto make_low = [&](std::int64_t m, Vector<C>(&row)[R]) LAPCORE_INLINE_LAMBDA {
            const S* window[5];
            for (int k = 0; k < 5; ++k) window[k] = source(rows_[2 * m + k]);
            Halves<C> sums[R];
            down.template columns<full>(window, down_stencil, sums);
            down.along(sums, down_stencil, row);
            down.template put<full>(row, Finish<F, false>{nullptr, low(m)});
        };
        Vector<C> before[R], now[R], next[R];
        make_low(0, now);
        for (int r = 0; r < R; ++r) before[r] = now[r];
        const bool mirrored = low_h > 1 && level_.up.rows.source(-1) == 1;  // else the first row stands before itself
        for (std::int64_t m = 1; m < low_h; ++m) {
            make_low(m, next);
            if (m == 1 && mirrored)
                for (int r = 0; r < R; ++r) before[r] = next[r];
            put_bands(m - 1, before, now, next);
            for (int r = 0; r < R; ++r) before[r] = now[r], now[r] = next[r];
        }
        put_bands(low_h - 1, before, now, now);
    }

    const Level<F>& level_;
    int vectors_ = 0;
    NarrowDown<F, 1> down1_;
    NarrowDown<F, 2> down2_;
    NarrowUp<F, 1> up1_;
    NarrowUp<F, 2> up2_;
    std::vector<std::int64_t> rows_;  // which stand at rows -2, -1, ..
};

// A plane that holds samples of type S in rows of unit stride.
template <class S>
RowsInPlace<S> in_place(const View& view, std::int64_t p) {
    return {static_cast<S*>(view.data) + view.plane_offset(p), view.row_stride()};
}
template <class S>
RowsInPlace<const S> constant(const RowsInPlace<S>& rows) {
    return {rows.data, rows.stride};
}

// A row of n values; a band may be wider than the samples it is copied from.
template <class S, class B>
LAPCORE_INLINE void copy_row(const S* from, std::int64_t n, B* to) {
    if constexpr (std::is_same_v<S, B>) {
        constexpr std::int64_t V = kLanes<S>;
        std::int64_t k = 0;
        for (; k + V <= n; k += V) store(to + k, load(from + k));
        if (k < n) store_first(to + k, load_first(from + k, n - k), n - k);
    } else {
        for (std::int64_t k = 0; k < n; ++k) to[k] = B(from[k]);
    }
}

// Pyramids of groups of images. Only the finest level is made image by image.
template <class F>
class SmallPyramids {
public:
    using S = typename F::Sample;
    using B = typename F::Band;
    using Levels = std::vector<Level<F>>;

    // In groups of `images`; is_ready() is false where a level does not take so many.
    SmallPyramids(const Levels& levels, std::int64_t images) : levels_(levels), images_(images) {
        small_.reserve(levels.size());
        for (std::size_t l = 0; l < levels.size(); ++l) {
            small_.emplace_back(levels[l], l ? images : 1);
            ready_ = ready_ && small_.back().is_ready();
        }
    }

    bool is_ready() const { return ready_; }

    // Planes [first, last), whole groups of them; all rows are of unit stride.
    void run(const View& x, const std::vector<View>& out, std::int64_t first, std::int64_t last) const {
        const std::int64_t room = images_ * levels_.front().low.count();
        const Buffer<B> band(room);
        const Buffer<S> lows[2]{Buffer<S>(room), Buffer<S>(room)};
        for (std::int64_t p = first; p < last; p += images_) {
            RowsInPlace<S> low = side_by_side(lows[0].get(), levels_[0].low);
            for (std::int64_t i = 0; i < images_; ++i)
                small_[0].run(constant(in_place<S>(x, p + i)), in_place<B>(out[0], p + i),
                              {low.data + i * levels_[0].low.w, low.stride});
            for (std::size_t l = 1; l < levels_.size(); ++l) {
                const RowsInPlace<S> source = low;
                const RowsInPlace<B> bands = side_by_side(band.get(), levels_[l].size);
                low = side_by_side(lows[l % 2].get(), levels_[l].low);
                small_[l].run(constant(source), bands, low);
                separate(bands, levels_[l].size, out[l], p);
            }
            separate(low, levels_.back().low, out.back(), p);
        }
    }

private:
    template <class O>
    RowsInPlace<O> side_by_side(O* data, Size size) const {
        return {data, images_ * size.w};
    }

    // A group to its images' planes, from p on.
    template <class O>
    void separate(const RowsInPlace<O>& group, Size size, const View& out, std::int64_t p) const {
        for (std::int64_t i = 0; i < images_; ++i) {
            const RowsInPlace<B> plane = in_place<B>(out, p + i);
            for (std::int64_t y = 0; y < size.h; ++y) copy_row(group(y) + i * size.w, size.w, plane(y));
        }
    }

    const Levels& levels_;
    std::int64_t images_;
    bool ready_ = true;
    std::vector<SmallLevel<F>> small_;
};

}  // namespace lapcore::LAPCORE_ISA
