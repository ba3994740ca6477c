// Noise on a GPU: a thread makes the four elements of a block of Philox, up to eight times.
#include <stdexcept>

#include "cuda/launch.h"
#include "cuda/noise.h"
#include "cuda/random.h"

namespace lapcore::cuda {
namespace {

template <class T>
struct Problem {
    Chunks chunks;
    Noise noise;
    RowsOf<T> out;
    float least, most;  // what uniforms are kept within, before they are rounded
};

template <Distribution kDistribution, class T, bool kPacked>
__global__ void __launch_bounds__(kChunkThreads) draw_kernel(const __grid_constant__ Problem<T> problem) {
    const Chunks& chunks = problem.chunks;
    const ChunkLane lane(chunks);
    const RowNoise noise(problem.noise, lane.row, chunks.length, lane.exists);
    const RowsOf<T> row = problem.out.row(lane.row);
    lane.each(chunks, [&](std::int64_t pack) {
        const auto drawn = noise.template draw<kDistribution, true>(pack);
        Four<Sum<T>> out;
#pragma unroll
        for (int k = 0; k < kFour; ++k) {
            auto value = drawn.e[k];
            if constexpr (kDistribution == Distribution::uniform) {
                value = value < problem.least ? problem.least : value > problem.most ? problem.most : value;
            }
            out.e[k] = value;
        }
        write_four<kPacked>(row, pack, chunks.length, out);
    });
}

template <Distribution kDistribution, class T>
void draw(const Chunks& chunks, const Noise& noise, void* stream, void* out, float least = 0, float most = 1) {
    const Rows rows{out, chunks.length};
    const Problem<T> problem{chunks, noise, rows_of<T>(rows), least, most};
    const auto kernel =
        packed<T>(rows, chunks.length) ? draw_kernel<kDistribution, T, true> : draw_kernel<kDistribution, T, false>;
    launch(kernel, chunks.blocks(), kChunkThreads, stream, problem);
}

void draw_uniform(DType dtype, const Chunks& chunks, const Noise& noise, void* stream, void* out) {
    constexpr Distribution uniform = Distribution::uniform;
    switch (dtype) {
        // The least and the largest of the type's numbers inside (0, 1), where float32 has others.
        case DType::float16: return draw<uniform, Half>(chunks, noise, stream, out, 0x1p-24f, 0x1.ffcp-1f);
        case DType::bfloat16: return draw<uniform, BFloat16>(chunks, noise, stream, out, 0, 0x1.fep-1f);
        case DType::float32: return draw<uniform, float>(chunks, noise, stream, out);
        case DType::float64: return draw<uniform, double>(chunks, noise, stream, out);
        default: throw std::invalid_argument("dtype: expected a float");
    }
}

void draw_normal(DType dtype, const Chunks& chunks, const Noise& noise, void* stream, void* out) {
    constexpr Distribution normal = Distribution::normal;
    switch (dtype) {
        case DType::float16: return draw<normal, Half>(chunks, noise, stream, out);
        case DType::bfloat16: return draw<normal, BFloat16>(chunks, noise, stream, out);
        case DType::float32: return draw<normal, float>(chunks, noise, stream, out);
        case DType::float64: return draw<normal, double>(chunks, noise, stream, out);
        default: throw std::invalid_argument("dtype: expected a float");
    }
}

}  // namespace

void random_draw(Distribution distribution, DType dtype, void* stream, const Seeds& seeds, std::int64_t rows,
                 std::int64_t length, void* out) {
    // One seed counts through all rows as through one.
    const Chunks chunks = seeds.per_row ? chunks_of(rows, length) : chunks_of(1, rows * length);
    const Noise noise = noise_of(seeds);
    switch (distribution) {
        case Distribution::bits: return draw<Distribution::bits, std::int32_t>(chunks, noise, stream, out);
        case Distribution::uniform: return draw_uniform(dtype, chunks, noise, stream, out);
        case Distribution::normal: return draw_normal(dtype, chunks, noise, stream, out);
    }
}

}  // namespace lapcore::cuda
