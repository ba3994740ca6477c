// What a convolution multiplies: for each output pixel, the inputs under its live taps, which are one long row of
// numbers. Laid out for matrix.h piece by piece, so that nothing of the whole table exists. Included once per
// instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "common/view.h"
#include "cpu/convert.h"
#include "cpu/simd.h"

namespace lapcore::LAPCORE_ISA {

// Where a tap reads, relative to the output pixel, and its place in the kernel.
struct Tap {
    std::int64_t dy, dx, index;
};

// What an output is a sum over: the taps in turn, of each all channels, in order, at the last tap in that of `last`.
struct Chain {
    std::vector<Tap> taps;
    std::int64_t channels;
    std::vector<std::int64_t> last, in_order;

    Chain(std::int64_t live, std::int64_t count, std::int64_t height, std::int64_t width) {
        for (std::int64_t t = 0; t < live; ++t) taps.push_back({t / width - height / 2, t % width - width / 2, t});
        resize(count);
    }

    // For the gradient at the input: the taps as seen from there, over the output channels.
    void mirror(std::int64_t outputs) {
        for (Tap& tap : taps) tap = {-tap.dy, -tap.dx, tap.index};
        resize(outputs);
    }

    std::int64_t depth() const { return std::int64_t(taps.size()) * channels; }

    // Calls body(tap, order, n) for the pieces of [first, end) that lie under one tap: its channels order[0] to
    // order[n - 1].
    template <class Body>
    void over_taps(std::int64_t first, std::int64_t end, const Body& body) const {
        while (first < end) {
            const std::size_t tap = std::size_t(first / channels);
            const std::int64_t c = first % channels, n = std::min(end - first, channels - c);
            body(taps[tap], (tap + 1 < taps.size() ? in_order : last).data() + c, n);
            first += n;
        }
    }

private:
    void resize(std::int64_t count) {
        channels = count;
        in_order.resize(std::size_t(count));
        std::iota(in_order.begin(), in_order.end(), 0);
        last = in_order;
    }
};

// Output pixels side by side that find their inputs side by side: the first one's place among those asked for, how
// many, and the first one's input, counted through over images and rows; -1 outside the image, where inputs are zero.
struct Run {
    std::int64_t lane, count, input;
};

// The output pixels of a batch, counted through over images and rows, over an input of height x width pixels.
class Grid {
public:
    static constexpr std::int64_t kMost = 256;  // pixels asked for at once

    Grid(const View& x, const Chain& chain, std::int64_t stride, std::int64_t out_height, std::int64_t out_width)
        : images_(x.shape[0]),
          height_(x.height()),
          width_(x.width()),
          stride_(stride),
          out_height_(out_height),
          out_width_(out_width) {
        const bool one = chain.taps.size() == 1 && chain.taps[0].dy == 0 && chain.taps[0].dx == 0;
        if (one && stride == 1) {  // of a 1x1 kernel, a plane is one row
            width_ = out_width_ = height_ * width_;
            height_ = out_height_ = 1;
        }
    }

    std::int64_t pixels() const { return images_ * out_height_ * out_width_; }
    std::int64_t plane() const { return height_ * width_; }
    std::int64_t stride() const { return stride_; }

    // Calls body(runs, count, order, n) for the pieces of the chain's [first, end), with the runs of `count` pixels.
    template <class Body>
    void over_taps(const Chain& chain, std::int64_t pixel, std::int64_t count, std::int64_t first, std::int64_t end,
                   const Body& body) const {
        Segment segments[kMost];
        Run runs[3 * kMost];
        const std::int64_t found = split(pixel, count, segments);
        chain.over_taps(first, end, [&](const Tap& tap, const std::int64_t* order, std::int64_t n) {
            Run* last = runs;
            for (std::int64_t s = 0; s < found; ++s) last = add_runs(segments[s], tap, last);
            body(runs, last - runs, order, n);
        });
    }

private:
    // Pixels of one row of an image.
    struct Segment {
        std::int64_t lane, count, image, y, x;
    };

    std::int64_t split(std::int64_t pixel, std::int64_t count, Segment* segments) const {
        std::int64_t found = 0;
        for (std::int64_t lane = 0; lane < count; ++found) {
            const std::int64_t row = (pixel + lane) / out_width_, x = (pixel + lane) % out_width_;
            const std::int64_t n = std::min(count - lane, out_width_ - x);
            segments[found] = {lane, n, row / out_height_, row % out_height_, x};
            lane += n;
        }
        return found;
    }

    Run* add_runs(const Segment& segment, const Tap& tap, Run* runs) const {
        const std::int64_t y = segment.y * stride_ + tap.dy, x = segment.x * stride_ + tap.dx;
        std::int64_t begin = 0, end = 0;  // what lies in the image
        if (y >= 0 && y < height_ && x < width_) {
            end = std::min(segment.count, (width_ - x + stride_ - 1) / stride_);
            begin = std::min(end, std::max<std::int64_t>(0, (stride_ - 1 - x) / stride_));
        }
        if (begin > 0) *runs++ = {segment.lane, begin, -1};
        if (begin < end) {
            const std::int64_t input = (segment.image * height_ + y) * width_ + x + begin * stride_;
            *runs++ = {segment.lane + begin, end - begin, input};
        }
        if (end < segment.count) *runs++ = {segment.lane + end, segment.count - end, -1};
        return runs;
    }

    std::int64_t images_, height_, width_, stride_, out_height_, out_width_;
};

// The first n lanes to another place, n <= kLanes.
template <class C>
LAPCORE_INLINE void copy_first(const C* from, std::int64_t n, C* to) {
#if defined(__AVX512BW__)
    store_first(to, load_first(from, n), n);
#else
    for (std::int64_t i = 0; i < n; ++i) to[i] = from[i];
#endif
}

// n numbers of any dtype, side by side.
template <class T>
LAPCORE_INLINE void copy_run(const T* from, std::int64_t n, Sum<T>* to) {
    using C = Sum<T>;
    if constexpr (std::is_same_v<T, C>) {
        std::int64_t i = 0;
        for (; i + kLanes<C> <= n; i += kLanes<C>) store(to + i, load(from + i));
        if (i < n) copy_first(from + i, n - i, to + i);
    } else {
        load_row(from, 1, n, to);
    }
}

// The patches of x (N, C, H, W), contiguous.
template <class T>
class Patches {
public:
    using C = Sum<T>;

    Patches(const View& x, const Chain& chain, const Grid& grid)
        : data_(static_cast<const T*>(x.data)), chain_(chain), grid_(grid) {}

    const Grid& grid() const { return grid_; }

    // The numbers [first, end) of the patches of `count` pixels from `pixel` on: of number k those of all pixels side
    // by side at to + (k - first) * row.
    void rows(std::int64_t pixel, std::int64_t count, std::int64_t first, std::int64_t end, C* to,
              std::int64_t row) const {
        grid_.over_taps(chain_, pixel, count, first, end,
                        [&](const Run* runs, std::int64_t found, const std::int64_t* order, std::int64_t n) {
                            for (const Run* run = runs; run < runs + found; ++run) copy(*run, order, n, to, row);
                            to += n * row;
                        });
    }

private:
    // A run in n channels, which are `row` apart in `to`: vector by vector, each in all channels.
    void copy(const Run& run, const std::int64_t* order, std::int64_t n, C* to, std::int64_t row) const {
        const std::int64_t plane = grid_.plane(), stride = grid_.stride();
        const T* const from =
            run.input < 0 ? nullptr : data_ + run.input / plane * chain_.channels * plane + run.input % plane;
        for (std::int64_t i = 0; i < run.count; i += kLanes<C>) {
            const std::int64_t lanes = std::min(kLanes<C>, run.count - i);
            C* const at = to + run.lane + i;
            if (run.input < 0) {
                for (std::int64_t c = 0; c < n; ++c) store_first(at + c * row, Vector<C>{}, lanes);
                continue;
            }
            if constexpr (std::is_same_v<T, C>) {
                if (stride == 1 && lanes == kLanes<C>) {
                    for (std::int64_t c = 0; c < n; ++c) store(at + c * row, load(from + order[c] * plane + i));
                    continue;
                }
                if (stride == 1) {
                    for (std::int64_t c = 0; c < n; ++c) copy_first(from + order[c] * plane + i, lanes, at + c * row);
                    continue;
                }
            }
            for (std::int64_t c = 0; c < n; ++c) {
                load_row(from + order[c] * plane + i * stride, stride, lanes, at + c * row);
            }
        }
    }

    const T* data_;
    const Chain& chain_;
    const Grid& grid_;
};

}  // namespace lapcore::LAPCORE_ISA
