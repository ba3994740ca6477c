// Masked convolutions as products of matrices, on both sides of which is what this file says: how deep a mask lets a
// line go, and what an image is under a tap.
//
// The depth is (tap, channel), the channel the faster. A mask's live taps are the first so many in raster order, and of
// them only the last, the centre, may be live for some channels alone: those of the colour groups before an output's
// own. So what a line sees is a prefix of the depth.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <stdexcept>

#include "cuda/masked_conv.h"

namespace lapcore::cuda {

struct LiveTaps {
    int taps;               // how many
    int groups;             // 0 where all channels of the last tap are live as well
    bool own;               // whether a group sees itself
    int inputs, run, runs;  // channels of the input; the output's are `runs` runs of so many
    bool adjoint;           // the lines are inputs, and the depth's channels outputs

    __host__ __device__ int channels() const { return adjoint ? run * runs : inputs; }
    __host__ __device__ int depth() const { return taps * channels(); }

    // The group of channel c out of n is floor(c groups / n), so the groups below g have ceil(g n / groups) of them.
    __host__ __device__ int channels_below(int g, int n) const {
        return static_cast<int>((std::int64_t{g} * n + groups - 1) / groups);
    }
    __host__ __device__ int group_of(int c, int n) const { return static_cast<int>(std::int64_t{c} * groups / n); }

    // How deep a line goes.
    __host__ __device__ int depth_of(int line) const {
        if (groups == 0) return depth();
        const int last = adjoint ? runs * (run - channels_below(group_of(line, inputs) + !own, run))
                                 : channels_below(group_of(line % run, run) + own, inputs);
        return (taps - 1) * channels() + last;
    }

    // Whether all lines go equally deep.
    __host__ __device__ bool uniform() const { return groups <= 1; }

    // The depth's channels in memory: of the adjoint from the last group to the first, the runs by turns, so that those
    // an input reaches are a prefix too.
    __host__ __device__ int channel(int c) const {
        if (!adjoint || uniform()) return c;
        return c % runs * run + run - 1 - c / runs;
    }
};

inline LiveTaps live_taps(const MaskedConvCall& call, const View& weight, bool adjoint) {
    const int outputs = static_cast<int>(weight.shape[0]), inputs = static_cast<int>(weight.shape[1]);
    const int runs = call.halves ? 2 : 1;
    return {call.whole + (call.groups > 0), call.groups, call.own, inputs, outputs / runs, runs, adjoint};
}

// A position in the depth.
struct Tap {
    int channel, dy, dx;

    __device__ Tap(int depth, int channels, int kernel_width)
        : channel(depth % channels), dy(depth / channels / kernel_width), dx(depth / channels % kernel_width) {}

    __device__ void advance(int by, int channels, int kernel_width) {
        channel += by;
#pragma unroll 1
        while (channel >= channels) {
            channel -= channels;
            if (++dx == kernel_width) {
                dx = 0;
                ++dy;
            }
        }
    }
};

// A pixel of the result: where its image begins, and where in it the centre tap reads.
template <class T>
struct alignas(16) GatheredPixel {
    const T* image;
    int y, x;
};

// Images (n, channel, y, x), and what pixel (i, j) of a result reads of them under tap (dy, dx): at
// stride i + dy - kh / 2, or, for the adjoint, at (i - dy + kh / 2) / stride where that is whole; zeros outside.
template <class T>
struct Gather {
    const T* data;
    std::int64_t image_stride, channel_stride;
    int row_stride, column_stride, height, width;
    int kernel_width, centre_y, centre_x;
    int step, sign, halved;
    int out_height, out_width;

    __host__ __device__ std::int64_t out_pixels() const { return std::int64_t{out_height} * out_width; }

    __device__ GatheredPixel<T> pixel(std::int64_t n, int i, int j) const {
        return {data + n * image_stride, i * step - sign * centre_y, j * step - sign * centre_x};
    }

    // By its number among the pixels of all results.
    __device__ GatheredPixel<T> pixel(std::int64_t number) const {
        const std::int64_t n = number / out_pixels();
        const int inside = static_cast<int>(number - n * out_pixels());
        return pixel(n, inside / out_width, inside % out_width);
    }

    // What a pixel reads under a tap, of the first channel; null outside.
    __device__ const T* at(const GatheredPixel<T>& pixel, int dy, int dx) const {
        const int y = pixel.y + sign * dy, x = pixel.x + sign * dx;
        const int i = y >> halved, j = x >> halved;
        const bool whole = ((y | x) & halved) == 0;
        if (!whole || i < 0 || i >= height || j < 0 || j >= width) return nullptr;
        return pixel.image + (i * row_stride + j * column_stride);
    }

    // channel_offset: of a channel in its image.
    __device__ T read(const GatheredPixel<T>& pixel, std::int64_t channel_offset, int dy, int dx) const {
        const T* const first = at(pixel, dy, dx);
        return first ? first[channel_offset] : T{};
    }
};

template <class T>
Gather<T> gather_of(const MaskedConvCall& call, const View& image, const View& weight, bool adjoint,
                    std::int64_t height, std::int64_t width) {
    const auto span = (image.height() - 1) * image.row_stride() + (image.width() - 1) * image.column_stride();
    if (span > std::numeric_limits<int>::max()) throw std::invalid_argument("x: a channel spans 2^31 elements or more");
    const int kernel_height = static_cast<int>(weight.shape[2]), kernel_width = static_cast<int>(weight.shape[3]);
    return {static_cast<const T*>(image.data),
            image.strides[0],
            image.strides[1],
            static_cast<int>(image.row_stride()),
            static_cast<int>(image.column_stride()),
            static_cast<int>(image.height()),
            static_cast<int>(image.width()),
            kernel_width,
            kernel_height / 2,
            kernel_width / 2,
            adjoint ? 1 : call.stride,
            adjoint ? -1 : 1,
            adjoint ? call.stride - 1 : 0,
            static_cast<int>(height),
            static_cast<int>(width)};
}

// Tiles have 128 rows, or 64 where those waste less.
constexpr int kLargeTile = 128, kSmallTile = 64;

inline bool small_tiles_fit(std::int64_t lines) {
    const std::int64_t tiles = (lines + kSmallTile - 1) / kSmallTile;
    return tiles == 1 || tiles == 3;
}

}  // namespace lapcore::cuda
