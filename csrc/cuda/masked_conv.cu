// Masked convolutions and their gradient at the input: a tiled product of the packed weights, whose rows are outputs,
// with the image, whose columns are gathered pixels. The depth passes in slices of 8 that lie in shared memory twice,
// so that one is read while the next arrives.
//
// A warp fetches one depth of a slice: neighbouring values of the packed weights, and neighbouring pixels of a channel
// under a tap. What bounds it is the rate of multiply-adds, as in tile_product.h.
#include <type_traits>

#include "common/floats.h"
#include "cuda/masked_product.h"
#include "cuda/register_tile.h"

namespace lapcore::cuda {
namespace {

template <class T>
using Product = MaskedProduct<T, Sum<T>>;

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

// Half of a thread's columns, which are neighbouring pixels from number `pixel` on.
template <bool kGated, class T, int M>
__device__ void write_half(const Product<T>& p, int row_tile, std::int64_t pixel, int half,
                           const Sum<T> (&sum)[M][kThreadSide<T>]) {
    constexpr int kColumns = kThreadSide<T> / 2;
    if (pixel >= p.pixels) return;
    const OutPixel first = out_pixel(p, pixel);
#pragma unroll
    for (int i = 0; i < (kGated ? M / 2 : M); ++i) {
        const int line = row_tile * p.rows.lines_of_tile() + place_in_tile<M>(threadIdx.x / kTileLanes, i);
        if (line >= p.rows.count) continue;
        write_pixels<kColumns>(p, line, pixel, first, [&](int j, const OutPixel& at) {
            const int column = half * kColumns + j;
            return result<kGated>(p, sum[i][column], sum[(i + M / 2) % M][column], line, at);
        });
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

// Of packed weights: whole slices, and one at least, with which go the depths of the rows. Bytes for these suffice for
// the longer ones of tensor cores, whose values have half the size.
std::int64_t packed_depth(const LiveTaps& live) {
    return std::max((live.depth() + kTileDepth - 1) / kTileDepth, 1) * kTileDepth;
}

template <class T>
std::int64_t bytes_of_work(const LiveTaps& live, std::int64_t lines) {
    const std::int64_t rows = (lines + kLargeTile - 1) / kLargeTile * kLargeTile;
    return rows * (packed_depth(live) * std::int64_t{sizeof(Sum<T>)} + std::int64_t{sizeof(int)});
}

template <bool kGated, int M, class T>
void launch_product(Product<T> p, std::int64_t lines, const View& weight, void* work, void* stream) {
    pack<kGated>(p, kTileLanes * M, lines, packed_depth(p.live), false, weight, work, stream);
    launch(product_kernel<kGated, T, M>, p.row_tiles * ((p.pixels + kTilePixels<T> - 1) / kTilePixels<T>), kTileThreads,
           stream, p);
}

template <class T, class P>
MaskedProduct<T, P> product_of(const MaskedConvCall& call, const View& image, const View& weight, bool adjoint,
                               const Added<T>& added, Activation activation, const View& out) {
    constexpr int kPack = kThreadSide<T> / 2;
    const std::int64_t of_image = out.height() * out.width();
    MaskedProduct<T, P> p{};
    p.live = live_taps(call, weight, adjoint);
    p.gather = gather_of<T>(call, image, weight, adjoint, out.height(), out.width());
    p.added = added;
    p.relu = activation == Activation::relu;
    p.out = static_cast<T*>(out.data);
    p.channels = out.shape[1];
    p.pixels = out.shape[0] * of_image;
    p.whole_packs = reinterpret_cast<std::uintptr_t>(out.data) % (kPack * sizeof(T)) == 0 && of_image % kPack == 0;
    return p;
}

// lines: of the weights, whose channels out holds, or half of them where it is gated.
template <class T>
void run(const MaskedConvCall& call, const View& image, const View& weight, bool adjoint, const Added<T>& added,
         Activation activation, const View& out, void* work) {
    const std::int64_t lines = weight.shape[adjoint ? 1 : 0];
    if constexpr (sizeof(T) == 2) {
        if (live_taps(call, weight, adjoint).uniform()) {
            const auto p = product_of<T, T>(call, image, weight, adjoint, added, activation, out);
            return tensor_product(p, activation == Activation::gated, lines, weight, work, call.stream);
        }
    }
    const auto p = product_of<T, Sum<T>>(call, image, weight, adjoint, added, activation, out);
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
