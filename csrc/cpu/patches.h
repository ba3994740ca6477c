// What a convolution multiplies: for each output pixel, the inputs under its live taps, which are one long row of
// numbers. Laid out for matrix.h piece by piece, so that nothing of the whole table exists. Included once per
// instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "common/view.h"
#include "cpu/simd.h"
#include "cpu/typed_elements.h"

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
    static constexpr std::int64_t kMost = 512;  // pixels asked for at once: each may lie in a row of its own

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

    // How much of the chain no pixel of `count` has in the image: that of the taps before the first that reaches it.
    __attribute__((noinline)) std::int64_t outside(const Chain& chain, std::int64_t pixel, std::int64_t count) const {
        Segment segments[kMost];
        Run runs[3];
        const std::int64_t found = split(pixel, count, segments);
        const auto reached = [&](const Tap& tap) {
            return std::any_of(segments, segments + found, [&](const Segment& segment) {
                return std::any_of(runs, add_runs(segment, tap, runs), [](const Run& run) { return run.input >= 0; });
            });
        };
        return chain.channels * (std::find_if(chain.taps.begin(), chain.taps.end(), reached) - chain.taps.begin());
    }

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

    __attribute__((noinline)) std::int64_t split(std::int64_t pixel, std::int64_t count, Segment* segments) const {
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

// Some lanes side by side, to be read where they lie without touching what is beside them.
template <class C>
class SomeLanes {
public:
    SomeLanes() = default;
    SomeLanes(std::int64_t first, std::int64_t n) {
#if defined(__AVX512F__)
        mask_ = ((1u << n) - 1) << first;
#else
        for (std::int64_t i = 0; i < kLanes<C>; ++i) mask_[i] = -(i >= first && i < first + n);
#endif
    }

    // v with these lanes taken from other.
    LAPCORE_INLINE Vector<C> merge(Vector<C> v, Vector<C> other) const {
#if defined(__AVX512F__)
        if constexpr (sizeof(C) == 4) return Vector<C>(_mm512_mask_mov_ps(__m512(v), __mmask16(mask_), __m512(other)));
        if constexpr (sizeof(C) == 8) return Vector<C>(_mm512_mask_mov_pd(__m512d(v), __mmask8(mask_), __m512d(other)));
#else
        return mask_ ? other : v;
#endif
    }

    // The same from p, where the vector's first lane would lie; nothing else is read there.
    LAPCORE_INLINE Vector<C> merge(Vector<C> v, const C* p) const {
#if defined(__AVX512F__)
        if constexpr (sizeof(C) == 4) return Vector<C>(_mm512_mask_loadu_ps(__m512(v), __mmask16(mask_), p));
        if constexpr (sizeof(C) == 8) return Vector<C>(_mm512_mask_loadu_pd(__m512d(v), __mmask8(mask_), p));
#elif defined(__AVX2__)
        if constexpr (sizeof(C) == 4) return mask_ ? Vector<C>(_mm256_maskload_ps(p, __m256i(mask_))) : v;
        if constexpr (sizeof(C) == 8) return mask_ ? Vector<C>(_mm256_maskload_pd(p, __m256i(mask_))) : v;
#else
        for (std::int64_t i = 0; i < kLanes<C>; ++i) {
            if (mask_[i]) v[i] = p[i];
        }
        return v;
#endif
    }

private:
#if defined(__AVX512F__)
    std::uint32_t mask_;
#else
    decltype(Vector<C>{} < Vector<C>{}) mask_;
#endif
};

// n numbers side by side.
template <class C>
LAPCORE_INLINE void copy_run(const C* from, std::int64_t n, C* to) {
    std::int64_t i = 0;
    for (; i + kLanes<C> <= n; i += kLanes<C>) store(to + i, load(from + i));
#if defined(__AVX512F__)
    if (i < n) store_first(to + i, load_first(from + i, n - i), n - i);
#else
    for (; i < n; ++i) to[i] = from[i];
#endif
}

// The same of elements from `first` on.
template <class C>
LAPCORE_INLINE void copy_run(DType dtype, const void* data, std::int64_t first, std::int64_t n, C* to) {
    if (in_place<C>(dtype)) return copy_run(static_cast<const C*>(data) + first, n, to);
    load_elements(dtype, data, first, 1, n, to);
}

// The patches of x (N, C, H, W), contiguous.
template <class C>
class Patches {
public:
    Patches(DType dtype, const View& x, const Chain& chain, const Grid& grid)
        : dtype_(dtype), data_(x.data), size_(x.shape[0] * x.shape[1] * grid.plane()), chain_(chain), grid_(grid) {}

    const Grid& grid() const { return grid_; }

    std::int64_t outside(std::int64_t pixel, std::int64_t count) const { return grid_.outside(chain_, pixel, count); }

    // The numbers [first, end) of the patches of `count` pixels from `pixel` on: of number k those of all pixels side
    // by side at to + (k - first) * kWidth. Lanes beyond `count` hold anything.
    template <std::int64_t kWidth>
    void rows(std::int64_t pixel, std::int64_t count, std::int64_t first, std::int64_t end, C* to) const {
        static_assert(kWidth <= Grid::kMost);
        const bool direct = in_place<C>(dtype_) && grid_.stride() == 1;
        grid_.over_taps(chain_, pixel, count, first, end,
                        [&](const Run* runs, std::int64_t found, const std::int64_t* order, std::int64_t n) {
                            if (direct) {
                                copy_vectors<kWidth>(runs, found, order, n, to);
                            } else {
                                for (std::int64_t r = 0; r < found; ++r) copy_run_of<kWidth>(runs[r], order, n, to);
                            }
                            to += n * kWidth;
                        });
    }

private:
    // Lanes of a vector that are read together, and where its first lane would lie in the first channel. Whether they
    // are all its lanes, and, as masked loads are slow before AVX-512, whether x goes on where the others would lie.
    struct Piece {
        SomeLanes<C> lanes;
        std::int64_t offset;
        bool whole, inside;
    };

    // All vectors in n channels. Planes are far apart, which no processor foresees: what the next pixels will read is
    // fetched ahead.
    template <std::int64_t kWidth>
    void copy_vectors(const Run* runs, std::int64_t found, const std::int64_t* order, std::int64_t n, C* to) const {
        constexpr std::int64_t vectors = kWidth / kLanes<C>;
        Piece pieces[kWidth], *ends[vectors], *last = pieces;
        for (std::int64_t v = 0; v < vectors; ends[v++] = last) {
            const std::int64_t lane = v * kLanes<C>;
            for (const Run* run = runs; run < runs + found; ++run) {
                const std::int64_t begin = std::max(run->lane, lane);
                const std::int64_t end = std::min(run->lane + run->count, lane + kLanes<C>);
                if (run->input < 0 || begin >= end) continue;
                const std::int64_t offset = offset_of(run->input) + lane - run->lane;
                const std::int64_t beyond = offset + (chain_.channels - 1) * grid_.plane() + kLanes<C>;
                const bool whole = end - begin == kLanes<C>, inside = offset >= 0 && beyond <= size_;
                *last++ = {{begin - lane, end - begin}, offset, whole, inside};
            }
        }
        for (std::int64_t c = 0; c < n; ++c, to += kWidth) {
            const C* const from = static_cast<const C*>(data_) + order[c] * grid_.plane();
            const Piece* piece = pieces;
            for (std::int64_t v = 0; v < vectors; ++v) {
                Vector<C> lanes{};
                if (piece < ends[v] && piece->whole) {
                    __builtin_prefetch(from + piece->offset + kWidth, 0, 2);
                    lanes = load(from + piece++->offset);
                }
                for (; piece < ends[v]; ++piece) {
                    const C* const at = from + piece->offset;
                    __builtin_prefetch(at + kWidth, 0, 2);
                    lanes = piece->inside ? piece->lanes.merge(lanes, load(at)) : piece->lanes.merge(lanes, at);
                }
                store(to + v * kLanes<C>, lanes);
            }
        }
    }

    // A run in n channels.
    template <std::int64_t kWidth>
    void copy_run_of(const Run& run, const std::int64_t* order, std::int64_t n, C* to) const {
        for (std::int64_t c = 0; c < n; ++c) {
            C* const at = to + c * kWidth + run.lane;
            if (run.input < 0) {
                std::fill_n(at, run.count, C{});
            } else {
                const std::int64_t from = offset_of(run.input) + order[c] * grid_.plane();
                load_elements(dtype_, data_, from, grid_.stride(), run.count, at);
            }
        }
    }

    // Where a pixel of the input lies in the first channel.
    std::int64_t offset_of(std::int64_t input) const {
        return input / grid_.plane() * chain_.channels * grid_.plane() + input % grid_.plane();
    }

    DType dtype_;
    const void* data_;
    std::int64_t size_;
    const Chain& chain_;
    const Grid& grid_;
};

}  // namespace lapcore::LAPCORE_ISA
