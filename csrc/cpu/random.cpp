// Noise by itself: tile after tile is drawn, and stored in the type that was asked for.
#include "cpu/random.h"

#include <algorithm>

#include "cpu/chunks.h"
#include "cpu/noise.h"
#include "cpu/typed_elements.h"

namespace lapcore::LAPCORE_ISA {
namespace {

// Keeps uniforms inside (0, 1) when they are rounded: between the smallest (subnormal) number and the largest below 1.
void keep_inside(DType dtype, float* u, std::int64_t n) {
    if (dtype != DType::float16 && dtype != DType::bfloat16) return;
    const bool half = dtype == DType::float16;
    const float low = half ? 0x1p-24f : 0, high = half ? 0x1.ffcp-1f : 0x1.fep-1f;
    for (std::int64_t i = 0; i < n; ++i) u[i] = clamped(u[i], low, high);
}

void keep(DType dtype, const float* drawn, std::int64_t n, void* out, std::int64_t first) {
    if (dtype == DType::float64) {
        std::copy_n(drawn, n, static_cast<double*>(out) + first);
    } else {
        store_elements(dtype, drawn, n, out, first);
    }
}

// Calls draw(seed, first, n, e) for the elements [first, first + n) of each seed, which are e and on of all.
template <class Draw>
void over_noise(int threads, const Seeds& seeds, std::int64_t rows, std::int64_t length, const Draw& draw) {
    if (!seeds.per_row) {  // one long row
        length *= rows;
        rows = 1;
    }
    const std::int64_t chunks = chunks_of(length);
    over_chunks(rows, length, threads, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t chunk = first; chunk < last; ++chunk) {
            const std::int64_t row = chunk / chunks, begin = chunk % chunks * kChunk;
            const std::int64_t end = std::min(begin + kChunk, length);
            for (std::int64_t e = begin; e < end; e += kNoiseTile) {
                draw(seeds.of(row), e, std::min(kNoiseTile, end - e), row * length + e);
            }
        }
    });
}

void draw_floats(DrawFloats draw, bool uniform, DType dtype, int threads, const Seeds& seeds, std::int64_t rows,
                 std::int64_t length, void* out) {
    over_noise(threads, seeds, rows, length,
               [&](std::uint64_t seed, std::int64_t first, std::int64_t n, std::int64_t e) {
                   alignas(64) float tile[kNoiseTile + kNoiseBeyond];
                   draw(seed, seeds.stream, first, n, tile);
                   if (uniform) keep_inside(dtype, tile, n);
                   keep(dtype, tile, n, out, e);
               });
}

void draw_bits(int threads, const Seeds& seeds, std::int64_t rows, std::int64_t length, std::int32_t* out) {
    over_noise(threads, seeds, rows, length,
               [&](std::uint64_t seed, std::int64_t first, std::int64_t n, std::int64_t e) {
                   alignas(64) std::int32_t tile[kNoiseTile + kNoiseBeyond];
                   draw_elements<Bits>(seed, seeds.stream, first, n, tile);
                   std::copy_n(tile, n, out + e);
               });
}

void draw(Distribution distribution, DType dtype, int threads, const Seeds& seeds, std::int64_t rows,
          std::int64_t length, void* out) {
    switch (distribution) {
        case Distribution::bits: return draw_bits(threads, seeds, rows, length, static_cast<std::int32_t*>(out));
        case Distribution::uniform:
            return draw_floats(draw_elements<Uniform>, true, dtype, threads, seeds, rows, length, out);
        case Distribution::normal:
            return draw_floats(draw_elements<Normal>, false, dtype, threads, seeds, rows, length, out);
    }
}

}  // namespace

extern const RandomKernels random_kernels;
const RandomKernels random_kernels{draw, draw_elements<Uniform>, draw_elements<Normal>};

}  // namespace lapcore::LAPCORE_ISA
