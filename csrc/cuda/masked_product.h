// What both ways to multiply packed weights with gathered pixels have in common: the packing, and what becomes of sums.
#pragma once

#include <algorithm>

#include "common/activations.h"
#include "cuda/launch.h"
#include "cuda/masked_gather.h"
#include "cuda/rows.h"

namespace lapcore::cuda {

// Which line of the result a row of tiles is. Of gated results the first half of a tile's rows are of the tanh, and the
// second half their sigmoids, so that a thread has both.
struct TileRows {
    int count, side;  // lines, or pairs of them; rows of a tile
    bool paired;

    __host__ __device__ int lines_of_tile() const { return paired ? side / 2 : side; }
    __host__ __device__ int tiles() const { return (count + lines_of_tile() - 1) / lines_of_tile(); }
    __host__ __device__ int rows() const { return tiles() * side; }

    // Beyond the last line, the last again.
    __device__ int line(int row) const {
        const int inside = row % side, lines = lines_of_tile(), line = row / side * lines + inside % lines;
        return (inside / lines) * count + (line < count ? line : count - 1);
    }
};

// P: what packed weights are, T itself or what sums are taken in.
template <class T, class P>
struct Packing {
    const T* weight;
    LiveTaps live;
    TileRows rows;
    int kernel_size;
    std::int64_t total;  // values
    P* packed;
    std::int64_t row_stride, depth_stride;
    int* depths;  // of the rows
};

constexpr int kPackThreads = 256;

template <class T, class P>
__global__ void __launch_bounds__(kPackThreads) pack_kernel(const __grid_constant__ Packing<T, P> p) {
    const std::int64_t at = std::int64_t{blockIdx.x} * kPackThreads + threadIdx.x;
    if (at >= p.total) return;
    const int rows = p.rows.rows(), row = static_cast<int>(at % rows), depth = static_cast<int>(at / rows);
    const int line = p.rows.line(row), live = p.live.depth_of(line);
    if (depth == 0) p.depths[row] = live;
    const int tap = depth / p.live.channels(), channel = p.live.channel(depth % p.live.channels());
    const std::int64_t output = p.live.adjoint ? channel : line, input = p.live.adjoint ? line : channel;
    const T* const weight = p.weight + (output * p.live.inputs + input) * p.kernel_size + tap;
    P value{};
    if (depth < live) value = stored<P>(loaded(*weight));
    p.packed[row * p.row_stride + depth * p.depth_stride] = value;
}

// What is added to the sums, each of which may not be there.
template <class T>
struct Added {
    const T *bias, *condition;
    std::int64_t image, channel, row, column;  // strides of the condition
};

template <class T, class P>
struct MaskedProduct {
    LiveTaps live;
    Gather<T> gather;
    Added<T> added;
    bool relu;
    T* out;
    std::int64_t channels, pixels;  // of out; of the whole batch
    bool whole_packs;               // whether out can be written by packs
    TileRows rows;
    int row_tiles;
    P* packed;
    int* depths;
};

// A pixel of out.
struct OutPixel {
    std::int64_t image;
    int inside;
};

// A sum and what is added to it.
template <class T, class P>
__device__ Sum<T> finished(const MaskedProduct<T, P>& p, Sum<T> value, int line, const OutPixel& at) {
    const Added<T>& added = p.added;
    if (added.bias) value = value + loaded(added.bias[line]);
    if (added.condition) {
        const int row = at.inside / p.gather.out_width, column = at.inside % p.gather.out_width;
        value = value + loaded(added.condition[at.image * added.image + line * added.channel + row * added.row +
                                               column * added.column]);
    }
    return value;
}

// What comes of a line's sum, or of its and its partner's, that of the sigmoid.
template <bool kGated, class T, class P>
__device__ Sum<T> result(const MaskedProduct<T, P>& p, Sum<T> sum, Sum<T> partner, int line, const OutPixel& at) {
    const Sum<T> value = finished(p, sum, line, at);
    if constexpr (kGated) {
        return gated<First::tanh>(value, finished(p, partner, line + p.rows.count, at));
    } else {
        return p.relu ? relu_of(value) : value;
    }
}

template <class T, class P>
__device__ OutPixel out_pixel(const MaskedProduct<T, P>& p, std::int64_t pixel) {
    const std::int64_t of_image = p.gather.out_pixels();
    return {pixel / of_image, static_cast<int>(pixel % of_image)};
}

// Of one line N neighbouring pixels, from number `pixel` on, which is `first`: value(j, at) of each that there is.
template <int N, class T, class P, class Value>
__device__ void write_pixels(const MaskedProduct<T, P>& p, int line, std::int64_t pixel, const OutPixel& first,
                             const Value& value) {
    const std::int64_t of_image = p.gather.out_pixels();
    const auto at_of = [&](const OutPixel& at) {
        return p.out + ((at.image * p.channels + line) * of_image + at.inside);
    };
    OutPixel at = first;
    Pack<T, N> pack;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        if (pixel + j < p.pixels) {
            pack.e[j] = stored<T>(value(j, at));
            if (!p.whole_packs) *at_of(at) = pack.e[j];
        }
        if (++at.inside == of_image) at = {at.image + 1, 0};
    }
    if (p.whole_packs) *reinterpret_cast<Pack<T, N>*>(at_of(first)) = pack;
}

// Small tiles are also taken where every multiprocessor has one only so. The chains do not depend on it.
inline bool small_tiles(std::int64_t lines, std::int64_t pixels) {
    const auto tiles = [](std::int64_t count) { return (count + kLargeTile - 1) / kLargeTile; };
    return small_tiles_fit(lines) || tiles(lines) * tiles(pixels) < multiprocessors();
}

// Sets the tiles of p, of `side` rows, and packs the weights for them, `depth` of each row, in the order that strides
// say.
template <bool kGated, class T, class P>
void pack(MaskedProduct<T, P>& p, int side, std::int64_t lines, std::int64_t depth, bool depth_first,
          const View& weight, void* work, void* stream) {
    p.rows = {static_cast<int>(kGated ? lines / 2 : lines), side, kGated};
    p.row_tiles = p.rows.tiles();
    const std::int64_t rows = p.rows.rows(), values = depth * rows;
    p.packed = static_cast<P*>(work);
    p.depths = reinterpret_cast<int*>(p.packed + values);
    const Packing<T, P> packing{static_cast<const T*>(weight.data),
                                p.live,
                                p.rows,
                                static_cast<int>(weight.height() * weight.width()),
                                values,
                                p.packed,
                                depth_first ? depth : 1,
                                depth_first ? 1 : rows,
                                p.depths};
    launch(pack_kernel<T, P>, (values + kPackThreads - 1) / kPackThreads, kPackThreads, stream, packing);
}

// On tensor cores (masked_conv_tensor.cu), where all lines go equally deep. Sets p's tiles and packed weights.
void tensor_product(const MaskedProduct<Half, Half>& p, bool gated, std::int64_t lines, const View& weight, void* work,
                    void* stream);
void tensor_product(const MaskedProduct<BFloat16, BFloat16>& p, bool gated, std::int64_t lines, const View& weight,
                    void* work, void* stream);

}  // namespace lapcore::cuda
