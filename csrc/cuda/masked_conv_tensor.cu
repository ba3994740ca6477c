// Masked convolutions of 16-bit floats on tensor cores, sums in float32, where all outputs see the same depth: without
// colour groups. Zeros of the packed weights stand for what is dead beyond the depth, and zeros of the image beside
// them.
//
// A tile is of 128 (or 64) rows and 128 pixels, its eight warps two by four. The depth passes in slices of 16, rows and
// pixels outermost, so that what a lane needs of either is a pair of neighbours.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cuda/masked_product.h"
#include "cuda/mma.h"

namespace lapcore::cuda {
namespace {

template <class T>
using Product = MaskedProduct<T, T>;

constexpr int kThreads = 256, kPixels = 128, kDepth = 16;
constexpr int kEight = 8;  // values moved at once

// The padding spreads what a warp reads over the banks.
template <class T, int kRows>
struct Slice {
    alignas(16) T rows[kRows][kDepth + kEight];
    alignas(16) T pixels[kPixels][kDepth + kEight];
};

// A fragment's pair of neighbours.
template <class T>
__device__ std::uint32_t pair_at(const T* at) {
    std::uint32_t pair;
    std::memcpy(&pair, at, sizeof pair);
    return pair;
}

// What a thread fetches of each slice and stores to shared memory: of a row and of a pixel eight depths.
template <class T, int kRows>
class Fetcher {
public:
    __device__ Fetcher(const Product<T>& product, int row_tile, std::int64_t first_pixel, int deep,
                       std::int64_t packed_depth)
        : product_(product),
          tap_(eighth() * kEight, product.live.channels(), product.gather.kernel_width),
          left_(deep - eighth() * kEight) {
        const std::int64_t row = std::int64_t{row_tile} * kRows + threadIdx.x / 2 % kRows;
        packed_ = product.packed + row * packed_depth + threadIdx.x % 2 * kEight;
        const std::int64_t pixel = first_pixel + threadIdx.x % kPixels, last = product.pixels - 1;
        pixel_ = product.gather.pixel(pixel < last ? pixel : last);
    }

    // Of the next slice.
    __device__ void fetch() {
        weights_ = *reinterpret_cast<const Pack<T, kEight>*>(packed_);
        packed_ += kDepth;
        const int channels = product_.live.channels(), width = product_.gather.kernel_width;
        if (left_ >= kEight && tap_.channel + kEight <= channels) {
            const T* const at = product_.gather.at(pixel_, tap_.dy, tap_.dx);
            const std::int64_t stride = product_.gather.channel_stride, first = tap_.channel * stride;
#pragma unroll
            for (int k = 0; k < kEight; ++k) values_.e[k] = at ? at[first + k * stride] : T{};
        } else {
            Tap tap = tap_;
#pragma unroll
            for (int k = 0; k < kEight; ++k) {
                const std::int64_t channel = tap.channel * product_.gather.channel_stride;
                values_.e[k] = k < left_ ? product_.gather.read(pixel_, channel, tap.dy, tap.dx) : T{};
                tap.advance(1, channels, width);
            }
        }
        tap_.advance(kDepth, channels, width);
        left_ -= kDepth;
    }

    __device__ void store(Slice<T, kRows>& slice) const {
        if (threadIdx.x < 2 * kRows) {
            *reinterpret_cast<Pack<T, kEight>*>(&slice.rows[threadIdx.x / 2][threadIdx.x % 2 * kEight]) = weights_;
        }
        *reinterpret_cast<Pack<T, kEight>*>(&slice.pixels[threadIdx.x % kPixels][eighth() * kEight]) = values_;
    }

private:
    __device__ static int eighth() { return static_cast<int>(threadIdx.x) / kPixels; }

    const Product<T>& product_;
    Tap tap_;
    int left_;  // of the depth
    const T* packed_;
    GatheredPixel<T> pixel_;
    Pack<T, kEight> weights_, values_;
};

// A warp's part of a tile: kBlocks blocks of 16 rows, half of them in either half of the tile, and four of 8 pixels.
template <int kBlocks>
struct Warp {
    static constexpr int kColumns = 4;
    int across, down, group, inside;

    __device__ Warp()
        : across(static_cast<int>(threadIdx.x) / 32 % 4),
          down(static_cast<int>(threadIdx.x) / 128),
          group(static_cast<int>(threadIdx.x) % 32 / 4),
          inside(static_cast<int>(threadIdx.x) % 4) {}

    __device__ int row(int block) const {
        constexpr int kHalf = kBlocks / 2;
        return (block / kHalf * kBlocks + down * kHalf + block % kHalf) * 16 + group;
    }
    __device__ int pixel(int block) const { return (across * kColumns + block) * 8; }

    template <class T, int kRows>
    __device__ void multiply(const Slice<T, kRows>& slice, float (&sum)[kBlocks][kColumns][4]) const {
        std::uint32_t a[kBlocks][4], b[kColumns][2];
#pragma unroll
        for (int i = 0; i < kBlocks; ++i)
#pragma unroll
            for (int r = 0; r < 4; ++r) a[i][r] = pair_at(&slice.rows[row(i) + r % 2 * 8][2 * inside + r / 2 * 8]);
#pragma unroll
        for (int j = 0; j < kColumns; ++j)
#pragma unroll
            for (int r = 0; r < 2; ++r) b[j][r] = pair_at(&slice.pixels[pixel(j) + group][2 * inside + r * 8]);
#pragma unroll
        for (int i = 0; i < kBlocks; ++i)
#pragma unroll
            for (int j = 0; j < kColumns; ++j) multiply_add_16x8x16<T>(a[i], b[j], sum[i][j]);
    }
};

template <bool kGated, class T, int kBlocks>
__device__ void write(const Product<T>& p, const Warp<kBlocks>& warp, int row_tile, std::int64_t first_pixel,
                      const float (&sum)[kBlocks][4][4]) {
#pragma unroll
    for (int j = 0; j < warp.kColumns; ++j) {
        const std::int64_t pixel = first_pixel + warp.pixel(j) + 2 * warp.inside;
        if (pixel >= p.pixels) continue;
        const OutPixel first = out_pixel(p, pixel);
#pragma unroll
        for (int i = 0; i < (kGated ? kBlocks / 2 : kBlocks); ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int line = row_tile * p.rows.lines_of_tile() + warp.row(i) + 8 * half;
                if (line >= p.rows.count) continue;
                write_pixels<2>(p, line, pixel, first, [&](int c, const OutPixel& at) {
                    const float partner = sum[(i + kBlocks / 2) % kBlocks][j][2 * half + c];
                    return result<kGated>(p, sum[i][j][2 * half + c], partner, line, at);
                });
            }
    }
}

template <bool kGated, class T, int kBlocks>
__global__ void __launch_bounds__(kThreads, 2)
    tensor_kernel(const __grid_constant__ Product<T> p, std::int64_t packed_depth) {
    constexpr int kRows = 2 * kBlocks * 16;
    __shared__ Slice<T, kRows> slices[2];
    const int row_tile = static_cast<int>(blockIdx.x) % p.row_tiles, deep = p.depths[0];
    const std::int64_t first_pixel = std::int64_t{blockIdx.x} / p.row_tiles * kPixels;
    const Warp<kBlocks> warp;
    float sum[kBlocks][warp.kColumns][4] = {};
    if (deep > 0) {
        Fetcher<T, kRows> fetcher(p, row_tile, first_pixel, deep, packed_depth);
        fetcher.fetch();
        fetcher.store(slices[0]);
        __syncthreads();
#pragma unroll 1
        for (int depth = 0, slice = 0; depth < deep; depth += kDepth, slice ^= 1) {
            const bool more = depth + kDepth < deep;
            if (more) fetcher.fetch();
            warp.multiply(slices[slice], sum);
            if (more) fetcher.store(slices[slice ^ 1]);
            __syncthreads();
        }
    }
    write<kGated>(p, warp, row_tile, first_pixel, sum);
}

template <bool kGated, int kBlocks, class T>
void launch_tensor(Product<T> p, std::int64_t lines, const View& weight, void* work, void* stream) {
    const std::int64_t depth = std::max((p.live.depth() + kDepth - 1) / kDepth, 1) * kDepth;
    pack<kGated>(p, 2 * kBlocks * 16, lines, depth, true, weight, work, stream);
    launch(tensor_kernel<kGated, T, kBlocks>, p.row_tiles * ((p.pixels + kPixels - 1) / kPixels), kThreads, stream, p,
           depth);
}

template <class T>
void with_tiles(const Product<T>& p, bool gated, std::int64_t lines, const View& weight, void* work, void* stream) {
    const auto start = [&](auto g) {
        constexpr bool kGated = decltype(g)::value;
        if (small_tiles(lines, p.pixels)) return launch_tensor<kGated, 2>(p, lines, weight, work, stream);
        launch_tensor<kGated, 4>(p, lines, weight, work, stream);
    };
    gated ? start(std::true_type{}) : start(std::false_type{});
}

}  // namespace

void tensor_product(const MaskedProduct<Half, Half>& p, bool gated, std::int64_t lines, const View& weight, void* work,
                    void* stream) {
    with_tiles(p, gated, lines, weight, work, stream);
}

void tensor_product(const MaskedProduct<BFloat16, BFloat16>& p, bool gated, std::int64_t lines, const View& weight,
                    void* work, void* stream) {
    with_tiles(p, gated, lines, weight, work, stream);
}

}  // namespace lapcore::cuda
