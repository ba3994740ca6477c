// The gradient of a masked convolution at its weights: a tiled product whose rows are outputs' gradients and whose
// columns are pairs (tap, channel) of the image, along the pixels of the whole batch. The pixels are cut into parts, a
// block for each tile and part, whose sums a second kernel adds up in their order.
#include <algorithm>

#include "common/floats.h"
#include "cuda/launch.h"
#include "cuda/masked_gather.h"
#include "cuda/register_tile.h"

namespace lapcore::cuda {
namespace {

template <class T>
struct Gradient {
    const T* data;
    std::int64_t image, channel, row, column;  // strides
};

// How many pixels a part has, and how many parts there are; the sizes alone determine it.
struct PixelParts {
    std::int64_t length, count;

    static PixelParts of(std::int64_t tiles, std::int64_t pixels) {
        constexpr std::int64_t kBlocks = 512;  // enough for a large card
        constexpr std::int64_t kShortest = 256;
        const auto over = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
        const std::int64_t length = std::max(over(pixels, std::max<std::int64_t>(kBlocks / tiles, 1)), kShortest);
        return {length, over(pixels, length)};
    }
};

template <class T>
struct Product {
    LiveTaps live;
    Gradient<T> grad;
    Gather<T> gather;
    int lines, depth, row_tiles, column_tiles;  // outputs; pairs of taps and channels
    std::int64_t pixels;
    PixelParts parts;
    Sum<T>* sums;  // (parts, lines, depth)
    T* out;
    std::int64_t kernel_size, total;  // of out
};

// The padding spreads what a warp stores over the banks.
template <class T, int M>
struct Slice {
    static constexpr int kPadding = 16 / sizeof(Sum<T>);
    alignas(16) Sum<T> rows[kTileDepth][kTileLanes * M + kPadding];
    alignas(16) Sum<T> columns[kTileDepth][kTileLanes * kThreadSide<T> + kPadding];
};

// Where a column of the tile reads: its channel in an image, and its tap.
struct alignas(16) Column {
    std::int64_t channel;
    int dy, dx;
};

// What a thread fetches of each slice and stores to shared memory: of one pixel, every 32nd row and column.
template <class T, int M>
class Fetcher {
public:
    using S = Sum<T>;

    // columns: of the tile, in shared memory, for the product takes the registers.
    __device__ Fetcher(const Product<T>& product, int row_tile, const Column* columns, std::int64_t first,
                       std::int64_t end)
        : product_(product), columns_(columns), line_(row_tile * kTileLanes * M + threadIdx.x / kTileDepth) {
        const std::int64_t pixel = first + threadIdx.x % kTileDepth;
        left_ = static_cast<int>(end - pixel);
        image_ = pixel / product.gather.out_pixels();
        const int inside = static_cast<int>(pixel % product.gather.out_pixels());
        i_ = inside / product.gather.out_width;
        j_ = inside % product.gather.out_width;
    }

    // Of the next slice; zeros beyond the end of the part.
    __device__ void fetch() {
        const bool inside = left_ > 0;
        const Gradient<T>& grad = product_.grad;
        const T* const at = grad.data + (image_ * grad.image + i_ * grad.row + j_ * grad.column);
        const GatheredPixel<T> pixel = product_.gather.pixel(image_, i_, j_);
#pragma unroll
        for (int f = 0; f < kRows; ++f) {
            const int line = min(line_ + kLines * f, product_.lines - 1);
            rows_[f] = inside ? at[line * grad.channel] : T{};
        }
#pragma unroll
        for (int f = 0; f < kColumns; ++f) {
            const Column column = columns_[threadIdx.x / kTileDepth + kLines * f];
            values_[f] = inside ? product_.gather.read(pixel, column.channel, column.dy, column.dx) : T{};
        }
        advance();
    }

    __device__ void store(Slice<T, M>& slice) const {
        const int pixel = threadIdx.x % kTileDepth, line = threadIdx.x / kTileDepth;
#pragma unroll
        for (int f = 0; f < kRows; ++f) slice.rows[pixel][line + kLines * f] = loaded(rows_[f]);
#pragma unroll
        for (int f = 0; f < kColumns; ++f) slice.columns[pixel][line + kLines * f] = loaded(values_[f]);
    }

private:
    static constexpr int kLines = kTileThreads / kTileDepth;
    static constexpr int kRows = kTileLanes * M / kLines, kColumns = kTileLanes * kThreadSide<T> / kLines;

    __device__ void advance() {
        left_ -= kTileDepth;
        j_ += kTileDepth;
#pragma unroll 1
        while (j_ >= product_.gather.out_width) {
            j_ -= product_.gather.out_width;
            if (++i_ == product_.gather.out_height) {
                i_ = 0;
                ++image_;
            }
        }
    }

    const Product<T>& product_;
    const Column* columns_;
    int line_, left_, i_, j_;
    std::int64_t image_;
    T rows_[kRows], values_[kColumns];
};

template <class T, int M>
__global__ void __launch_bounds__(kTileThreads, 2) weight_product_kernel(const __grid_constant__ Product<T> p) {
    constexpr int N = kThreadSide<T>, kColumns = kTileLanes * N;
    __shared__ Slice<T, M> slices[2];
    __shared__ Column columns[kColumns];
    const int row_tile = static_cast<int>(blockIdx.x) % p.row_tiles;
    const int column_tile = static_cast<int>(blockIdx.x) / p.row_tiles % p.column_tiles;
    const std::int64_t part = static_cast<int>(blockIdx.x) / p.row_tiles / p.column_tiles;
    if (threadIdx.x < kColumns) {
        const int depth = min(column_tile * kColumns + static_cast<int>(threadIdx.x), p.depth - 1);
        const Tap tap(depth, p.live.channels(), p.gather.kernel_width);
        columns[threadIdx.x] = {tap.channel * p.gather.channel_stride, tap.dy, tap.dx};
    }
    __syncthreads();
    Sum<T> sum[M][N];
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j) sum[i][j] = 0;
    const std::int64_t first = part * p.parts.length, end = min(first + p.parts.length, p.pixels);
    Fetcher<T, M> fetcher(p, row_tile, columns, first, end);
    fetcher.fetch();
    fetcher.store(slices[0]);
    __syncthreads();
    int slice = 0;
#pragma unroll 1
    for (std::int64_t pixel = first; pixel < end; pixel += kTileDepth, slice ^= 1) {
        const bool more = pixel + kTileDepth < end;
        if (more) fetcher.fetch();
        accumulate(slices[slice].rows, slices[slice].columns, sum);
        if (more) fetcher.store(slices[slice ^ 1]);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < M; ++i) {
        const int line = row_tile * kTileLanes * M + place_in_tile<M>(threadIdx.x / kTileLanes, i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const int column = column_tile * kColumns + place_in_tile<N>(threadIdx.x % kTileLanes, j);
            if (line < p.lines && column < p.depth) p.sums[(part * p.lines + line) * p.depth + column] = sum[i][j];
        }
    }
}

constexpr int kFinishThreads = 256;

template <class T>
__global__ void __launch_bounds__(kFinishThreads) weight_finish_kernel(const __grid_constant__ Product<T> p) {
    const std::int64_t at = std::int64_t{blockIdx.x} * kFinishThreads + threadIdx.x;
    if (at >= p.total) return;
    const std::int64_t tap = at % p.kernel_size, pair = at / p.kernel_size, channel = pair % p.live.inputs;
    const int line = static_cast<int>(pair / p.live.inputs);
    const std::int64_t depth = tap * p.live.inputs + channel;
    Sum<T> sum = 0;
    if (depth < p.live.depth_of(line)) {
        const Sum<T>* const sums = p.sums + line * std::int64_t{p.depth} + depth;
        const std::int64_t of_part = p.lines * std::int64_t{p.depth};
#pragma unroll 4
        for (std::int64_t part = 0; part < p.parts.count; ++part) sum = sum + sums[part * of_part];
    }
    p.out[at] = stored<T>(sum);
}

template <class T>
Product<T> product_of(const MaskedConvCall& call, const View& weight, std::int64_t pixels) {
    constexpr int kSide = kTileLanes * kThreadSide<T>;
    Product<T> p{};
    p.live = live_taps(call, weight, false);
    p.lines = static_cast<int>(weight.shape[0]);
    p.depth = p.live.depth();
    const int side = small_tiles_fit(p.lines) ? kSmallTile : kSide;
    p.row_tiles = (p.lines + side - 1) / side;
    p.column_tiles = (p.depth + kSide - 1) / kSide;
    p.pixels = pixels;
    p.parts = PixelParts::of(std::max(p.row_tiles * p.column_tiles, 1), pixels);
    p.kernel_size = weight.height() * weight.width();
    p.total = weight.shape[0] * weight.shape[1] * p.kernel_size;
    return p;
}

template <class T>
void run(const MaskedConvCall& call, const View& grad, const View& x, const View& dw, void* work) {
    Product<T> p = product_of<T>(call, dw, grad.shape[0] * grad.height() * grad.width());
    p.grad = {static_cast<const T*>(grad.data), grad.strides[0], grad.strides[1], grad.strides[2], grad.strides[3]};
    p.gather = gather_of<T>(call, x, dw, false, grad.height(), grad.width());
    p.sums = static_cast<Sum<T>*>(work);
    p.out = static_cast<T*>(dw.data);
    const std::int64_t blocks = p.parts.count * p.row_tiles * p.column_tiles;
    if (p.depth > 0) {
        if (small_tiles_fit(p.lines)) {
            launch(weight_product_kernel<T, 4>, blocks, kTileThreads, call.stream, p);
        } else {
            launch(weight_product_kernel<T, kThreadSide<T>>, blocks, kTileThreads, call.stream, p);
        }
    }
    launch(weight_finish_kernel<T>, (p.total + kFinishThreads - 1) / kFinishThreads, kFinishThreads, call.stream, p);
}

}  // namespace

std::int64_t masked_conv_weight_work(const MaskedConvCall& call, const View& weight, std::int64_t pixels) {
    return with_float(call.dtype, [&](auto t) {
        using T = decltype(t);
        const Product<T> p = product_of<T>(call, weight, pixels);
        return p.parts.count * p.lines * p.depth * std::int64_t{sizeof(Sum<T>)};
    });
}

void masked_conv_weight(const MaskedConvCall& call, const View& grad, const View& x, const View& dw, void* work) {
    with_float(call.dtype, [&](auto t) { run<decltype(t)>(call, grad, x, dw, work); });
}

}  // namespace lapcore::cuda
