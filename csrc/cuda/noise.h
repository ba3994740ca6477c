// Noise inside of kernels: common/philox.h, four elements at a time.
#pragma once

#include "common/philox.h"
#include "common/random.h"
#include "cuda/chunks.h"

namespace lapcore::cuda {

// seeds: of the rows, on the card, or null where `seed` counts through all of them.
struct Noise {
    const std::int64_t* seeds;
    std::int64_t stride;
    std::uint64_t seed, stream;

    __device__ std::uint64_t key(std::int64_t row) const {
        return seeds ? static_cast<std::uint64_t>(seeds[row * stride]) : seed;
    }
};

// One seed for all rows lies in host memory.
inline Noise noise_of(const Seeds& seeds) {
    if (seeds.per_row) return {seeds.data, seeds.stride, 0, seeds.stream};
    return {nullptr, 0, seeds.data ? seeds.of(0) : 0, seeds.stream};
}

template <Distribution kDistribution>
using Drawn = std::conditional_t<kDistribution == Distribution::bits, std::int32_t, float>;

template <Distribution kDistribution>
__device__ Four<Drawn<kDistribution>> block_of(std::uint64_t key, std::uint64_t block, std::uint64_t stream) {
    const Words words = philox4x32_10(key, block, stream);
    Four<Drawn<kDistribution>> four;
    if constexpr (kDistribution == Distribution::normal) {
#pragma unroll
        for (int k = 0; k < kFour; k += 2) {
            const auto pair =
                box_muller<float>(static_cast<std::int32_t>(words.w[k]), static_cast<std::int32_t>(words.w[k + 1]));
            four.e[k] = pair.first;
            four.e[k + 1] = pair.second;
        }
    } else {
#pragma unroll
        for (int k = 0; k < kFour; ++k) {
            const auto word = static_cast<std::int32_t>(words.w[k]);
            if constexpr (kDistribution == Distribution::uniform) {
                four.e[k] = uniform_of<float>(word);
            } else {
                four.e[k] = word;
            }
        }
    }
    return four;
}

// One uniform of a stream.
__device__ inline float uniform_at(std::uint64_t key, std::uint64_t stream, std::uint64_t element) {
    const Words words = philox4x32_10(key, element / 4, stream);
    const std::uint32_t even = element & 2 ? words.w[2] : words.w[0], odd = element & 2 ? words.w[3] : words.w[1];
    return uniform_of<float>(static_cast<std::int32_t>(element & 1 ? odd : even));
}

// The noise of one row. Where one seed counts through all rows, and a row is no whole number of blocks, rows begin
// inside of one.
struct RowNoise {
    std::uint64_t key, block, stream;
    int shift;  // of the row's first element, in its block

    __device__ RowNoise(const Noise& noise, std::int64_t row, std::int64_t length, bool exists)
        : key(exists ? noise.key(row) : 0), stream(noise.stream) {
        const std::int64_t first = noise.seeds ? 0 : row * length;
        block = static_cast<std::uint64_t>(first) / kFour;
        shift = static_cast<int>(first % kFour);
    }

    template <Distribution kDistribution, bool kWhole>
    __device__ Four<Drawn<kDistribution>> draw(std::int64_t pack) const {
        const std::uint64_t at = block + static_cast<std::uint64_t>(pack);
        Four<Drawn<kDistribution>> four = block_of<kDistribution>(key, at, stream);
        if constexpr (!kWhole) {
            if (shift == 0) return four;
            Four<Drawn<kDistribution>> next = block_of<kDistribution>(key, at + 1, stream);
#pragma unroll 1
            for (int s = 0; s < shift; ++s) {
                const auto carried = next.e[0];
#pragma unroll
                for (int k = 0; k + 1 < kFour; ++k) {
                    four.e[k] = four.e[k + 1];
                    next.e[k] = next.e[k + 1];
                }
                four.e[kFour - 1] = carried;
            }
        }
        return four;
    }
};

}  // namespace lapcore::cuda
