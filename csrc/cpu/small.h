// Laplacian pyramids of small images: rows in registers, and at the coarser levels as many images side by side as fill
// them. Included once per instruction set.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/laplacian.h"
#include "cpu/narrow.h"

namespace lapcore::LAPCORE_ISA {

constexpr std::int64_t kMaxGroup = 8;

template <class C>
class SmallLevel {
public:
    // is_ready() is false where the rows of so many images do not fit, or the border rule needs rows from far away.
    SmallLevel(const Level<C>& level, std::int64_t images) : level_(level) {
        if (!kHasNarrow || level.wraps) return;
        if (level.up.rows.source(-1) == kOutside) return;
        const Axis &down = level.down.columns, &up = level.up.columns;
        vectors_ = down1_.prepare(down, images) && up1_.prepare(up, images)   ? 1
                   : down2_.prepare(down, images) && up2_.prepare(up, images) ? 2
                                                                              : 0;
        rows_.reserve(2 * level.low.h + 3);
        for (std::int64_t y = -2; y < 2 * level.low.h + 1; ++y) rows_.push_back(level.down.rows.source(y));
    }

    bool is_ready() const { return vectors_ != 0; }

    void run(const Plane<const C>& source, const Plane<C>& band, const Plane<C>& low) const {
        if (vectors_ == 1) {
            down1_.full() ? run<true>(down1_, up1_, source, band, low) : run<false>(down1_, up1_, source, band, low);
        } else {
            down2_.full() ? run<true>(down2_, up2_, source, band, low) : run<false>(down2_, up2_, source, band, low);
        }
    }

private:
    struct Low {
        C* out;
        LAPCORE_INLINE void vector(std::int64_t i, Vector<C> v) const { store(out + i, v); }
        LAPCORE_INLINE void first(std::int64_t i, Vector<C> v, std::int64_t n) const { store_first(out + i, v, n); }
    };
    struct Difference {
        const C* base;
        C* out;
        LAPCORE_INLINE void vector(std::int64_t i, Vector<C> v) const { store(out + i, load(base + i) - v); }
        LAPCORE_INLINE void first(std::int64_t i, Vector<C> v, std::int64_t n) const {
            store_first(out + i, load_first(base + i, n) - v, n);
        }
    };

    template <bool full, int R>
    void run(const NarrowDown<C, R>& narrow_down, const NarrowUp<C, R>& narrow_up, const Plane<const C>& source,
             const Plane<C>& band, const Plane<C>& low) const {
        const NarrowDown<C, R> down = narrow_down;
        const NarrowUp<C, R> up = narrow_up;
        const Weights<C> down_weights = level_.down.columns.template weights<C>();
        const Weights<C> up_weights = level_.up.columns.template weights<C>();
        const std::int64_t h = level_.size.h, low_h = level_.low.h;
        const auto difference = [&](std::int64_t y)
                                    LAPCORE_INLINE_LAMBDA { return Difference{source.row(y), band.row(y)}; };
        // The rows 2m and 2m + 1 of the band, from rows m - 1, m and m + 1 of the low-pass.
        const auto put_bands = [&](std::int64_t m, const Vector<C>(&a)[R], const Vector<C>(&b)[R],
                                   const Vector<C>(&c)[R]) LAPCORE_INLINE_LAMBDA {
            Vector<C> sums[R];
            for (int r = 0; r < R; ++r) sums[r] = (a[r] + c[r]) * up_weights.outer + b[r] * up_weights.inner;
            up.template along<full>(sums, up_weights, difference(2 * m));
            if (2 * m + 1 == h) return;
            for (int r = 0; r < R; ++r) sums[r] = (b[r] + c[r]) * up_weights.centre;
            up.template along<full>(sums, up_weights, difference(2 * m + 1));
        };
        const auto make_low = [&](std::int64_t m, Vector<C>(&row)[R]) LAPCORE_INLINE_LAMBDA {
            const C* window[5];
            for (int k = 0; k < 5; ++k) window[k] = source.row(rows_[2 * m + k]);
            Vector<C> sums[2 * R];
            down.template columns<full>(window, down_weights, sums);
            down.along(sums, down_weights, row);
            down.template put<full>(row, Low{low.row(m)});
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

    const Level<C>& level_;
    int vectors_ = 0;
    NarrowDown<C, 1> down1_;
    NarrowDown<C, 2> down2_;
    NarrowUp<C, 1> up1_;
    NarrowUp<C, 2> up2_;
    std::vector<std::int64_t> rows_;  // which stand at rows -2, -1, ..
};

// Pyramids of groups of images. Only the finest level is made image by image.
template <class C>
class SmallPyramids {
public:
    using Levels = std::vector<Level<C>>;

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
        const Buffer<C> memory(3 * room);
        C *const band = memory.get(), *const lows[2]{band + room, band + 2 * room};
        for (std::int64_t p = first; p < last; p += images_) {
            Plane<C> low = side_by_side(lows[0], levels_[0].low);
            for (std::int64_t i = 0; i < images_; ++i)
                small_[0].run(constant(plane_of<C>(x, p + i)), plane_of<C>(out[0], p + i),
                              {low.data + i * levels_[0].low.w, low.row_stride, 1});
            for (std::size_t l = 1; l < levels_.size(); ++l) {
                const Plane<C> source = low, bands = side_by_side(band, levels_[l].size);
                low = side_by_side(lows[l % 2], levels_[l].low);
                small_[l].run(constant(source), bands, low);
                separate(bands, levels_[l].size, out[l], p);
            }
            separate(low, levels_.back().low, out.back(), p);
        }
    }

private:
    Plane<C> side_by_side(C* data, Size size) const { return {data, images_ * size.w, 1}; }

    // A group to its images' planes, from p on.
    void separate(const Plane<C>& group, Size size, const View& out, std::int64_t p) const {
        constexpr std::int64_t V = kLanes<C>;
        for (std::int64_t i = 0; i < images_; ++i) {
            const Plane<C> plane = plane_of<C>(out, p + i);
            for (std::int64_t y = 0; y < size.h; ++y) {
                const C* const src = group.row(y) + i * size.w;
                C* const dst = plane.row(y);
                std::int64_t k = 0;
                for (; k + V <= size.w; k += V) store(dst + k, load(src + k));
                if (k < size.w) store_first(dst + k, load_first(src + k, size.w - k), size.w - k);
            }
        }
    }

    const Levels& levels_;
    std::int64_t images_;
    bool ready_ = true;
    std::vector<SmallLevel<C>> small_;
};

}  // namespace lapcore::LAPCORE_ISA
