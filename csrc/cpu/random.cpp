// Noise by itself: tile after tile is drawn, and stored in the type that was asked for.
#include "cpu/random.h"

#include <limits>

#include "cpu/chunks.h"
#include "cpu/convert.h"
#include "cpu/noise.h"

namespace lapcore::LAPCORE_ISA {
namespace {

// What a uniform is kept between, so that rounding leaves it inside (0, 1): (subnormal) smallest, largest below 1.
template <class T>
struct Ends {
    static constexpr float low = 0, high = 1;
};
template <>
struct Ends<Half> {
    static constexpr float low = 0x1p-24f, high = 0x1.ffcp-1f;
};
template <>
struct Ends<BFloat16> {
    static constexpr float low = 0, high = 0x1.fep-1f;
};

template <class Kind, class T>
void keep(const typename Kind::type* drawn, std::int64_t n, T* out) {
    if constexpr (std::is_same_v<typename Kind::type, T>) {
        std::copy_n(drawn, n, out);
    } else if constexpr (std::is_same_v<Kind, Uniform>) {
        for (std::int64_t i = 0; i < n; ++i) put(clamped(drawn[i], Ends<T>::low, Ends<T>::high), out[i]);
    } else {
        store_row(drawn, n, out, 1);
    }
}

template <class Kind, class T>
void draw_rows(int threads, const Seeds& seeds, std::int64_t rows, std::int64_t length, T* out) {
    if (!seeds.per_row) {  // one long row
        length *= rows;
        rows = 1;
    }
    const std::int64_t chunks = chunks_of(length);
    over_chunks(rows, length, threads, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t chunk = first; chunk < last; ++chunk) {
            const std::int64_t row = chunk / chunks, begin = chunk % chunks * kChunk;
            const std::int64_t end = std::min(begin + kChunk, length);
            Noise<Kind> noise(seeds.of(row), seeds.stream, end);
            for (std::int64_t e = begin; e < end; e += kNoiseTile) {
                const std::int64_t n = std::min(kNoiseTile, end - e);
                keep<Kind>(noise.at(e, n), n, out + row * length + e);
            }
        }
    });
}

template <class Kind>
void draw_floats(DType dtype, int threads, const Seeds& seeds, std::int64_t rows, std::int64_t length, void* out) {
    switch (dtype) {
        case DType::float16: return draw_rows<Kind>(threads, seeds, rows, length, static_cast<Half*>(out));
        case DType::bfloat16: return draw_rows<Kind>(threads, seeds, rows, length, static_cast<BFloat16*>(out));
        case DType::float64: return draw_rows<Kind>(threads, seeds, rows, length, static_cast<double*>(out));
        default: return draw_rows<Kind>(threads, seeds, rows, length, static_cast<float*>(out));
    }
}

void draw(Distribution distribution, DType dtype, int threads, const Seeds& seeds, std::int64_t rows,
          std::int64_t length, void* out) {
    switch (distribution) {
        case Distribution::bits: return draw_rows<Bits>(threads, seeds, rows, length, static_cast<std::int32_t*>(out));
        case Distribution::uniform: return draw_floats<Uniform>(dtype, threads, seeds, rows, length, out);
        case Distribution::normal: return draw_floats<Normal>(dtype, threads, seeds, rows, length, out);
    }
}

}  // namespace

extern const RandomKernels random_kernels;
const RandomKernels random_kernels{draw};

}  // namespace lapcore::LAPCORE_ISA
