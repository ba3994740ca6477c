// Masked convolutions and their gradient at the input: a tiled product of the packed weights, whose rows are outputs,
// with the image, whose columns are gathered pixels. The depth passes in slices of 8 that lie in shared memory twice,
// so that one is read while the next arrives.
//
// A warp fetches one depth of a slice: neighbouring values of the packed weights, and neighbouring pixels of a channel
// under a tap. What bounds it is the rate of multiply-adds, as in tile_product.h.
#include <algorithm>
#include <type_traits>

#include "common/activations.h"
#include "cuda/launch.h"
#include "cuda/masked_gather.h"
#include "cuda/register_tile.h"

namespace lapcore::cuda {
namespace {

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

template <class T>
struct Packing {
    const T* weight;
    LiveTaps live;
    TileRows rows;
    int kernel_size;
    std::int64_t total;  // values
    Sum<T>* packed;      // (depth, rows)
    int* depths;         // of the rows
};

constexpr int kPackThreads = 256;

template <class T>
__global__ void __launch_bounds__(kPackThreads) pack_kernel(const __grid_constant__ Packing<T> p) {
    const std::int64_t at = std::int64_t{blockIdx.x} * kPackThreads + threadIdx.x;
    if (at >= p.total) return;
    const int rows = p.rows.rows(), row = static_cast<int>(at % rows), depth = static_cast<int>(at / rows);
    const int line = p.rows.line(row), live = p.live.depth_of(line);
    if (depth == 0) p.depths[row] = live;
    const int tap = depth / p.live.channels(), channel = p.live.channel(depth % p.live.channels());
    const std::int64_t output = p.live.adjoint ? channel : line, input = p.live.adjoint ? line : channel;
    const T* const weight = p.weight + (output * p.live.inputs + input) * p.kernel_size + tap;
    p.packed[at] = depth < live ? loaded(*weight) : Sum<T>{};
}

// What is added to the sums, each of which may not be there.
template <class T>
struct Added {
    const T *bias, *condition;
    std::int64_t image, channel, row, column;  // strides of the condition
};

template <class T>
struct Product {
    LiveTaps live;
    Gather<T> gather;
    Added<T> added;
    bool relu;
    T* out;
    std::int64_t channels, pixels;  // of out; of the whole batch
    bool whole_packs;               // whether out can be written by packs
    TileRows rows;
    int row_tiles;
    Sum<T>* packed;
    int* depths;
};

template <class T>
constexpr int kTilePixels = kTileLanes * kThreadSide<T>;

template <class T, int M>
struct Slice {
    alignas(16) Sum<T> rows[kTileDepth][kTileLanes * M];
    alignas(16) Sum<T> columns[kTileDepth][kTilePixels<T>];
};

// What a thread fetches of each slice and stores to shared memory: the depth that its warp has.
template <class T, int M>
class Fetcher {
public:
    using S = Sum<T>;
    static_assert(kTileThreads == 32 * kTileDepth);

    // pixels: of the tile, in shared memory, for the product takes the registers.
    __device__ Fetcher(const Product<T>& product, int row_tile, const GatheredPixel<T>* pixels)
        : product_(product),
          pixels_(pixels),
          tap_(static_cast<int>(threadIdx.x) / 32, product.live.channels(), product.gather.kernel_width) {
        const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
        packed_ = product.packed + std::int64_t{warp} * product.rows.rows() + row_tile * kTileLanes * M + lane * kRows;
    }

    // Of the next slice.
    __device__ void fetch() {
        const std::int64_t channel = product_.live.channel(tap_.channel) * product_.gather.channel_stride;
        weights_ = *reinterpret_cast<const Pack<S, kRows>*>(packed_);
#pragma unroll
        for (int f = 0; f < kPixels; ++f) {
            values_[f] = product_.gather.read(pixels_[threadIdx.x % 32 + 32 * f], channel, tap_.dy, tap_.dx);
        }
        packed_ += std::int64_t{kTileDepth} * product_.rows.rows();
        tap_.advance(kTileDepth, product_.live.channels(), product_.gather.kernel_width);
    }

    __device__ void store(Slice<T, M>& slice) const {
        const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
        *reinterpret_cast<Pack<S, kRows>*>(&slice.rows[warp][lane * kRows]) = weights_;
#pragma unroll
        for (int f = 0; f < kPixels; ++f) slice.columns[warp][lane + 32 * f] = loaded(values_[f]);
    }

private:
    static constexpr int kRows = kTileLanes * M / 32, kPixels = kTilePixels<T> / 32;

    const Product<T>& product_;
    const GatheredPixel<T>* pixels_;
    Tap tap_;
    const S* packed_;
    Pack<S, kRows> weights_;
    T values_[kPixels];
};

// How deep all rows of a tile go, and the deepest.
struct Depths {
    int all, most;
};

template <int M>
__device__ Depths depths_of_tile(const int* depths) {
    Depths d{depths[threadIdx.x % 32], 0};
    d.most = d.all;
#pragma unroll
    for (int row = 32; row < kTileLanes * M; row += 32) {
        const int depth = depths[row + threadIdx.x % 32];
        d.all = min(d.all, depth);
        d.most = max(d.most, depth);
    }
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        d.all = min(d.all, __shfl_xor_sync(kWarp, d.all, lanes));
        d.most = max(d.most, __shfl_xor_sync(kWarp, d.most, lanes));
    }
    return d;
}

// A slice that begins at `depth` and which not all rows see the whole of.
template <class T, int M>
__device__ void accumulate_live(const Slice<T, M>& slice, const int* depths, int depth,
                                Sum<T> (&sum)[M][kThreadSide<T>]) {
    constexpr int N = kThreadSide<T>;
    int live[M];
#pragma unroll
    for (int i = 0; i < M; ++i) live[i] = depths[place_in_tile<M>(threadIdx.x / kTileLanes, i)] - depth;
#pragma unroll 1
    for (int k = 0; k < kTileDepth; ++k) {
        Sum<T> row[M], column[N];
        read_lines(slice.rows[k], threadIdx.x / kTileLanes, row);
        read_lines(slice.columns[k], threadIdx.x % kTileLanes, column);
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j)
                if (k < live[i]) sum[i][j] = multiply_add(row[i], column[j], sum[i][j]);
    }
}

// A pixel of out.
struct OutPixel {
    std::int64_t image;
    int inside;
};

// A sum and what is added to it.
template <class T>
__device__ Sum<T> finished(const Product<T>& p, Sum<T> value, int line, const OutPixel& at) {
    const Added<T>& added = p.added;
    if (added.bias) value = value + loaded(added.bias[line]);
    if (added.condition) {
        const int row = at.inside / p.gather.out_width, column = at.inside % p.gather.out_width;
        value = value + loaded(added.condition[at.image * added.image + line * added.channel + row * added.row +
                                               column * added.column]);
    }
    return value;
}

// Of a thread's i-th line: its sum of a column, or the gate that it and its partner make.
template <bool kGated, class T, int M>
__device__ Sum<T> result(const Product<T>& p, const Sum<T> (&sum)[M][kThreadSide<T>], int i, int column, int line,
                         const OutPixel& at) {
    const Sum<T> value = finished(p, sum[i][column], line, at);
    if constexpr (kGated) {
        return gated<First::tanh>(value, finished(p, sum[i + M / 2][column], line + p.rows.count, at));
    } else {
        return p.relu ? relu_of(value) : value;
    }
}

// Half of a thread's columns, which are neighbouring pixels from number `pixel` on.
template <bool kGated, class T, int M>
__device__ void write_half(const Product<T>& p, int row_tile, std::int64_t pixel, int half,
                           const Sum<T> (&sum)[M][kThreadSide<T>]) {
    constexpr int kColumns = kThreadSide<T> / 2;
    if (pixel >= p.pixels) return;
    const std::int64_t of_image = p.gather.out_pixels();
    const OutPixel first{pixel / of_image, static_cast<int>(pixel % of_image)};
#pragma unroll
    for (int i = 0; i < (kGated ? M / 2 : M); ++i) {
        const int line = row_tile * p.rows.lines_of_tile() + place_in_tile<M>(threadIdx.x / kTileLanes, i);
        if (line >= p.rows.count) continue;
        const auto at_of = [&](const OutPixel& at) {
            return p.out + ((at.image * p.channels + line) * of_image + at.inside);
        };
        OutPixel at = first;
        Pack<T, kColumns> pack;
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
            if (pixel + j < p.pixels) {
                pack.e[j] = stored<T>(result<kGated>(p, sum, i, half * kColumns + j, line, at));
                if (!p.whole_packs) *at_of(at) = pack.e[j];
            }
            if (++at.inside == of_image) at = {at.image + 1, 0};
        }
        if (p.whole_packs) *reinterpret_cast<Pack<T, kColumns>*>(at_of(first)) = pack;
    }
}

template <bool kGated, class T, int M>
__global__ void __launch_bounds__(kTileThreads, 2) product_kernel(const __grid_constant__ Product<T> p) {
    constexpr int N = kThreadSide<T>;
    __shared__ Slice<T, M> slices[2];
    __shared__ GatheredPixel<T> pixels[kTilePixels<T>];
    const int row_tile = static_cast<int>(blockIdx.x) % p.row_tiles;
    const std::int64_t first_pixel = std::int64_t{blockIdx.x} / p.row_tiles * kTilePixels<T>;
    const int* const depths = p.depths + row_tile * kTileLanes * M;
    const Depths deep = depths_of_tile<M>(depths);
    Sum<T> sum[M][N];
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j) sum[i][j] = 0;
    if (deep.most > 0) {
        if (threadIdx.x < kTilePixels<T>) {
            const std::int64_t pixel = first_pixel + threadIdx.x, last = p.pixels - 1;
            pixels[threadIdx.x] = p.gather.pixel(pixel < last ? pixel : last);
        }
        __syncthreads();
        Fetcher<T, M> fetcher(p, row_tile, pixels);
        fetcher.fetch();
        fetcher.store(slices[0]);
        __syncthreads();
#pragma unroll 1
        for (int depth = 0, slice = 0; depth < deep.most; depth += kTileDepth, slice ^= 1) {
            const bool more = depth + kTileDepth < deep.most;
            if (more) fetcher.fetch();
            if (depth + kTileDepth <= deep.all) {
                accumulate(slices[slice].rows, slices[slice].columns, sum);
            } else {
                accumulate_live(slices[slice], depths, depth, sum);
            }
            if (more) fetcher.store(slices[slice ^ 1]);
            __syncthreads();
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int column = place_in_tile<N>(threadIdx.x % kTileLanes, half * (N / 2));
        write_half<kGated>(p, row_tile, first_pixel + column, half, sum);
    }
}

// Of packed weights: whole slices, and one depth at least, with which go those of the rows.
std::int64_t packed_depth(const LiveTaps& live) {
    return std::max((live.depth() + kTileDepth - 1) / kTileDepth * kTileDepth, 1);
}

template <class T>
std::int64_t bytes_of_work(const LiveTaps& live, std::int64_t lines) {
    const std::int64_t rows = (lines + kLargeTile - 1) / kLargeTile * kLargeTile;
    return rows * (packed_depth(live) * std::int64_t{sizeof(Sum<T>)} + std::int64_t{sizeof(int)});
}

// Small tiles are also taken where every multiprocessor has one only so. The chains do not depend on it.
bool small_tiles(std::int64_t lines, std::int64_t pixels) {
    const auto tiles = [](std::int64_t count) { return (count + kLargeTile - 1) / kLargeTile; };
    return small_tiles_fit(lines) || tiles(lines) * tiles(pixels) < multiprocessors();
}

template <bool kGated, int M, class T>
void launch_product(Product<T> p, std::int64_t lines, const View& weight, void* work, void* stream) {
    p.rows = {static_cast<int>(kGated ? lines / 2 : lines), kTileLanes * M, kGated};
    p.row_tiles = p.rows.tiles();
    const std::int64_t values = packed_depth(p.live) * p.rows.rows();
    p.packed = static_cast<Sum<T>*>(work);
    p.depths = reinterpret_cast<int*>(p.packed + values);
    const Packing<T> packing{static_cast<const T*>(weight.data),
                             p.live,
                             p.rows,
                             static_cast<int>(weight.height() * weight.width()),
                             values,
                             p.packed,
                             p.depths};
    launch(pack_kernel<T>, (values + kPackThreads - 1) / kPackThreads, kPackThreads, stream, packing);
    launch(product_kernel<kGated, T, M>, p.row_tiles * ((p.pixels + kTilePixels<T> - 1) / kTilePixels<T>), kTileThreads,
           stream, p);
}

// lines: of the weights, whose channels out holds, or half of them where it is gated.
template <class T>
void run(const MaskedConvCall& call, const View& image, const View& weight, bool adjoint, const Added<T>& added,
         Activation activation, const View& out, void* work) {
    constexpr int kPack = kThreadSide<T> / 2;
    const std::int64_t lines = weight.shape[adjoint ? 1 : 0], of_image = out.height() * out.width();
    const bool aligned = reinterpret_cast<std::uintptr_t>(out.data) % (kPack * sizeof(T)) == 0;
    Product<T> p{};
    p.live = live_taps(call, weight, adjoint);
    p.gather = gather_of<T>(call, image, weight, adjoint, out.height(), out.width());
    p.added = added;
    p.relu = activation == Activation::relu;
    p.out = static_cast<T*>(out.data);
    p.channels = out.shape[1];
    p.pixels = out.shape[0] * of_image;
    p.whole_packs = aligned && of_image % kPack == 0;
    const auto with_tiles = [&](auto gated) {
        constexpr bool kGated = decltype(gated)::value;
        if (small_tiles(lines, p.pixels)) return launch_product<kGated, 4>(p, lines, weight, work, call.stream);
        launch_product<kGated, kThreadSide<T>>(p, lines, weight, work, call.stream);
    };
    activation == Activation::gated ? with_tiles(std::true_type{}) : with_tiles(std::false_type{});
}

}  // namespace

std::int64_t masked_conv_work(const MaskedConvCall& call, const View& weight) {
    return with_float(call.dtype, [&](auto t) {
        using T = decltype(t);
        return std::max(bytes_of_work<T>(live_taps(call, weight, false), weight.shape[0]),
                        bytes_of_work<T>(live_taps(call, weight, true), weight.shape[1]));
    });
}

void masked_conv(const MaskedConvCall& call, const View& x, const View& weight, const void* bias, const View* condition,
                 Activation activation, const View& out, void* work) {
    with_float(call.dtype, [&](auto t) {
        using T = decltype(t);
        Added<T> added{static_cast<const T*>(bias), nullptr, 0, 0, 0, 0};
        if (condition) {
            // A vector is a map of one pixel.
            const bool map = condition->height() > 1, wide = condition->width() > 1;
            added = {added.bias,
                     static_cast<const T*>(condition->data),
                     condition->strides[0],
                     condition->strides[1],
                     map ? condition->row_stride() : 0,
                     wide ? condition->column_stride() : 0};
        }
        run<T>(call, x, weight, false, added, activation, out, work);
    });
}

void masked_conv_input(const MaskedConvCall& call, const View& grad, const View& weight, const View& dx, void* work) {
    with_float(call.dtype, [&](auto t) { run<decltype(t)>(call, grad, weight, true, {}, Activation::none, dx, work); });
}

}  // namespace lapcore::cuda
