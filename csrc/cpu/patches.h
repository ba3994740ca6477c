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

// What an output is a sum over: the taps in turn, of each all channels, at the last tap in the order of `last`.
struct Chain {
    std::vector<Tap> taps;
    std::int64_t channels;
    std::vector<std::int64_t> last;

    Chain(std::int64_t live, std::int64_t count, std::int64_t height, std::int64_t width)
        : channels(count), last(std::size_t(count)) {
        for (std::int64_t t = 0; t < live; ++t) taps.push_back({t / width - height / 2, t % width - width / 2, t});
        std::iota(last.begin(), last.end(), 0);
    }

    std::int64_t depth() const { return std::int64_t(taps.size()) * channels; }
    // For the gradient at the input: an output pixel gave what it read where the taps point from there.
    void mirror(std::int64_t outputs) {
        channels = outputs;
        last.resize(std::size_t(outputs));
        std::iota(last.begin(), last.end(), 0);
        for (Tap& tap : taps) tap = {-tap.dy, -tap.dx, tap.index};
    }

    // What the last tap takes as its c-th channel, and other taps.
    std::int64_t channel(std::int64_t tap, std::int64_t c) const {
        return tap + 1 < std::int64_t(taps.size()) ? c : last[std::size_t(c)];
    }

    // Calls body(tap, c, n) for the pieces of [first, end) that lie under one tap: its channels c to c + n.
    template <class Body>
    void over_taps(std::int64_t first, std::int64_t end, const Body& body) const {
        while (first < end) {
            const std::int64_t tap = first / channels, c = first % channels, n = std::min(end - first, channels - c);
            body(tap, c, n);
            first += n;
        }
    }
};

// n numbers, `stride` apart in memory, as numbers of the computation.
template <class T>
LAPCORE_INLINE void copy_run(const T* from, std::int64_t stride, std::int64_t n, Sum<T>* to) {
    using C = Sum<T>;
    if constexpr (std::is_same_v<T, C>) {
        if (stride == 1) {
            std::int64_t i = 0;
            for (; i + kLanes<C> <= n; i += kLanes<C>) store(to + i, load(from + i));
#if defined(__AVX512BW__)
            if (i < n) store_first(to + i, load_first(from + i, n - i), n - i);
#else
            for (; i < n; ++i) to[i] = from[i];
#endif
            return;
        }
    }
    load_row(from, stride, n, to);
}

// The patches of all pixels of a batch x (N, C, H, W), contiguous, the outputs counted through over images and rows.
template <class T>
class Patches {
public:
    using C = Sum<T>;
    static constexpr std::int64_t kMost = 64;  // pixels asked for at once

    Patches(const View& x, const Chain& chain, std::int64_t stride, std::int64_t out_height, std::int64_t out_width)
        : data_(static_cast<const T*>(x.data)),
          chain_(chain),
          height_(x.height()),
          width_(x.width()),
          stride_(stride),
          out_height_(out_height),
          out_width_(out_width),
          images_(x.shape[0]) {
        const bool whole = chain.taps.size() == 1 && chain.taps[0].dy == 0 && chain.taps[0].dx == 0 && stride == 1;
        if (whole) {  // of a 1x1 kernel, a plane is one row
            width_ = out_width_ = height_ * width_;
            height_ = out_height_ = 1;
        }
    }

    std::int64_t pixels() const { return images_ * out_height_ * out_width_; }

    // The numbers [first, end) of the patches of `count` pixels from `pixel` on: of number k those of all pixels side
    // by side at to + (k - first) * row.
    void rows(std::int64_t pixel, std::int64_t count, std::int64_t first, std::int64_t end, C* to,
              std::int64_t row) const {
        const std::int64_t plane = height_ * width_;
        Run segments[kMost], runs[kMost];
        const std::int64_t found = split(pixel, count, segments);
        chain_.over_taps(first, end, [&](std::int64_t tap, std::int64_t c, std::int64_t n) {
            const Run* const live = clip(chain_.taps[std::size_t(tap)], segments, found, runs);
            std::int64_t inside = 0;
            for (const Run* run = runs; run < live; ++run) inside += run->count;
            for (const std::int64_t last = c + n; c < last; ++c, to += row) {
                if (inside < count) std::fill_n(to, count, C{});
                const T* const from = data_ + chain_.channel(tap, c) * plane;
                for (const Run* run = runs; run < live; ++run) {
                    copy_run(from + run->offset, stride_, run->count, to + run->lane);
                }
            }
        });
    }

private:
    // Pixels of one row of an image: the first one's place among those asked for, and its image, row and column; or,
    // clipped to a tap, where its input lies.
    struct Run {
        std::int64_t lane, count, image, y, x, offset;
    };

    std::int64_t split(std::int64_t pixel, std::int64_t count, Run* segments) const {
        std::int64_t found = 0;
        for (std::int64_t lane = 0; lane < count; ++found) {
            const std::int64_t p = pixel + lane, x = p % out_width_, n = std::min(count - lane, out_width_ - x);
            segments[found] = {lane, n, p / out_width_ / out_height_, p / out_width_ % out_height_, x, 0};
            lane += n;
        }
        return found;
    }

    // The parts of them whose input lies in the image.
    Run* clip(const Tap& tap, const Run* segments, std::int64_t count, Run* runs) const {
        for (const Run* segment = segments; segment < segments + count; ++segment) {
            const std::int64_t y = segment->y * stride_ + tap.dy, x = segment->x * stride_ + tap.dx;
            const std::int64_t before = std::max<std::int64_t>(0, (stride_ - 1 - x) / stride_);
            const std::int64_t end = std::min(segment->count, (width_ - x + stride_ - 1) / stride_);
            if (y < 0 || y >= height_ || x >= width_ || before >= end) continue;
            const std::int64_t image = segment->image * chain_.channels * height_ * width_;
            *runs++ = {segment->lane + before, end - before, 0, 0, 0, image + y * width_ + x + before * stride_};
        }
        return runs;
    }

    const T* data_;
    const Chain& chain_;
    std::int64_t height_, width_, stride_, out_height_, out_width_, images_;
};

}  // namespace lapcore::LAPCORE_ISA
