// Masked convolutions and their gradient at the input: a tiled product of the packed weights, whose rows are outputs,
// with the image, whose columns are gathered pixels. The depth passes in slices of 8 that lie in shared memory twice, so
// that one is read while the next arrives.
//
// A warp fetches one depth of a slice: neighbouring values of the packed weights, and neighbouring pixels of a channel
// under a tap. What bounds it is the rate of multiply-adds, as in tile_product.h.
#include <algorithm>
#include <stdexcept>
#include <type_traits>

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
    int tiles() const { return (count + lines_of_tile() - 1) / lines_of_tile(); }
    int rows() const { return tiles() * side; }

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

template <class T>
struct Condition {
    const T* data;
    std::int64_t image, channel, row, column;
};

template <class T>
struct Product {
    const Sum<T>* packed;
    const int* depths;
    LiveTaps live;
    TileRows rows;
    int row_tiles;
    Gather<T> gather;
    std::int64_t pixels;  // of the whole batch
    bool whole_packs;     // whether out can be written by packs
    const T* bias;
    Condition<T> condition;
    bool relu;
    T* out;
    std::int64_t lines;  // of out
};

template <class T, int M>
struct Slice {
    alignas(16) Sum<T> rows[kTileDepth][kTileLanes * M];
    alignas(16) Sum<T> columns[kTileDepth][kTileLanes * kThreadSide<T>];
};

// What a thread fetches of each slice and stores to shared memory: the depth that its warp has.
template <class T, int M>
class Fetcher {
public:
    using S = Sum<T>;
    static_assert(kTileThreads == 32 * kTileDepth);

    __device__ Fetcher(const Product<T>& product, int row_tile, std::int64_t first_pixel)
        : product_(product),
          tap_(static_cast<int>(threadIdx.x) / 32, product.live.channels(), product.gather.kernel_width) {
        const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
        packed_ = product.packed + std::int64_t{warp} * product.rows.rows() + row_tile * kTileLanes * M + lane * kRows;
#pragma unroll
        for (int f = 0; f < kPixels; ++f) {
            const std::int64_t pixel = first_pixel + lane + 32 * f, last = product.pixels - 1;
            pixels_[f] = product.gather.pixel(pixel < last ? pixel : last);
        }
    }

    // Of the next slice.
    __device__ void fetch() {
        const std::int64_t channel = product_.live.channel(tap_.channel) * product_.gather.channel_stride;
        weights_ = *reinterpret_cast<const Pack<S, kRows>*>(packed_);
#pragma unroll
        for (int f = 0; f < kPixels; ++f) {
            values_[f] = product_.gather.read(pixels_[f], channel, tap_.dy, tap_.dx);
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
    static constexpr int kRows = kTileLanes * M / 32, kPixels = kTileLanes * kThreadSide<T> / 32;

    const Product<T>& product_;
    Tap tap_;
    const S* packed_;
    GatheredPixel<T> pixels_[kPixels];
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
    if (p.bias) value = value + loaded(p.bias[line]);
    if (p.condition.data) {
        const int width = p.gather.out_width;
        value = value + loaded(p.condition.data[at.image * p.condition.image + line * p.condition.channel +
                                                at.inside / width * p.condition.row +
                                                at.inside % width * p.condition.column]);
    }
    return p.relu && value < 0 ? Sum<T>{} : value;
}

// A thread's sums of neighbouring columns, half of those it has, and where they go.
template <class T, int M>
__device__ void write_half(const Product<T>& p, int row_tile, std::int64_t pixel, int half,
                           const Sum<T> (&sum)[M][kThreadSide<T>]) {
    constexpr int kColumns = kThreadSide<T> / 2;
    if (pixel >= p.pixels) return;
    const std::int64_t of_image = p.gather.out_pixels;
    const OutPixel first{pixel / of_image, static_cast<int>(pixel % of_image)};
#pragma unroll
    for (int i = 0; i < M; ++i) {
        const int line = row_tile * p.rows.lines_of_tile() + place_in_tile<M>(threadIdx.x / kTileLanes, i);
        if (line >= p.rows.count) continue;
        OutPixel at = first;
        Pack<T, kColumns> pack;
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
            pack.e[j] = stored<T>(finished(p, sum[i][half * kColumns + j], line, at));
            if (!p.whole_packs && pixel + j < p.pixels) {
                p.out[(at.image * p.lines + line) * of_image + at.inside] = pack.e[j];
            }
            if (++at.inside == of_image) at = {at.image + 1, 0};
        }
        if (p.whole_packs) {
            *reinterpret_cast<Pack<T, kColumns>*>(p.out + (first.image * p.lines + line) * of_image + first.inside) =
                pack;
        }
    }
}

template <class T, int M>
__global__ void __launch_bounds__(kTileThreads, 2) product_kernel(const __grid_constant__ Product<T> p) {
    constexpr int N = kThreadSide<T>;
    __shared__ Slice<T, M> slices[2];
    const int row_tile = static_cast<int>(blockIdx.x) % p.row_tiles;
    const std::int64_t first_pixel = std::int64_t{blockIdx.x} / p.row_tiles * (kTileLanes * N);
    const int* const depths = p.depths + row_tile * kTileLanes * M;
    const Depths deep = depths_of_tile<M>(depths);
    Sum<T> sum[M][N];
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j) sum[i][j] = 0;
    if (deep.most > 0) {
        Fetcher<T, M> fetcher(p, row_tile, first_pixel);
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
        write_half<T, M>(p, row_tile, first_pixel + place_in_tile<N>(threadIdx.x % kTileLanes, half * (N / 2)), half,
                         sum);
    }
}

// Depths of packed weights are whole slices.
int packed_depth(const LiveTaps& live) { return (live.depth() + kTileDepth - 1) / kTileDepth * kTileDepth; }

template <int M>
TileRows tile_rows(int lines, bool paired) {
    return {paired ? lines / 2 : lines, kTileLanes * M, paired};
}

template <class T>
std::int64_t bytes_of_work(const LiveTaps& live, const TileRows& rows) {
    return rows.rows() * (packed_depth(live) * std::int64_t{sizeof(Sum<T>)} + std::int64_t{sizeof(int)});
}

}  // namespace
}  // namespace lapcore::cuda
