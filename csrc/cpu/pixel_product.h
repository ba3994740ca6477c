// Convolutions at one place, or at places side by side, of several images: a product of matrices whose rows are (place,
// image) and whose columns are output channels, the lanes of vectors. Included once per instruction set.
//
// An output is one chain of multiply-adds from +0 on, over the live taps in raster order and the channels of each, as
// in cpu/masked_conv.cpp; then + bias, then + condition.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/pixelcnn_sampler.h"
#include "cpu/buffer.h"
#include "cpu/matrix.h"

namespace lapcore::LAPCORE_ISA {

// Where the inputs of a row of the product are: of row m those of tap t begin at taps[t] + m * stride.
struct TapRows {
    const float* const* taps;
    std::int64_t count, channels, last_channels, stride;
};

// Row m of `images` a place: the place's and the image's part of the address.
struct ConditionRows {
    const float* data;
    std::int64_t images, place_stride, image_stride;
    const float* row(std::int64_t m) const { return data + m / images * place_stride + m % images * image_stride; }
};

template <int R, int V>
struct Sums {
    Vector<float> rows[R][V];
};

template <int R, int V>
LAPCORE_INLINE void multiply_taps(const TapRows& a, std::int64_t m, const float* w, Sums<R, V>& result) {
    Sums<R, V> sums{};
    const std::int64_t s = a.stride;
    for (std::int64_t t = 0; t < a.count; ++t) {
        const std::int64_t n = t + 1 < a.count ? a.channels : a.last_channels;
        // A pointer for every three rows: the others are one or two strides from it, which is a mode of addressing.
        const float* p[(R + 2) / 3];
#pragma GCC unroll 8
        for (int r = 0; r < R; r += 3) p[r / 3] = a.taps[t] + (m + r) * s;
        for (std::int64_t k = 0; k < n; ++k, w += V * kLanes<float>) {
            Vector<float> factors[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) factors[v] = load(w + v * kLanes<float>);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
                const Vector<float> factor = broadcast(p[r / 3][r % 3 * s]);
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) {
                    sums.rows[r][v] = multiply_add<float>(factor, factors[v], sums.rows[r][v]);
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; r += 3) ++p[r / 3];
        }
    }
    result = sums;
}

// The weights and biases of some outputs, in panels of as many columns as one, two or three vectors hold.
class PackedWeights {
public:
    PackedWeights() = default;

    // weight: (outputs, depth)
    PackedWeights(const float* weight, const float* bias, std::int64_t outputs, std::int64_t depth)
        : outputs_(outputs), depth_(depth) {
        const std::int64_t vectors = (outputs + kLanes<float> - 1) / kLanes<float>, columns = vectors * kLanes<float>;
        weights_ = Buffer<float>(columns * depth);
        bias_ = Buffer<float>(columns);
        for (std::int64_t o = 0; o < columns; ++o) bias_.get()[o] = bias && o < outputs ? bias[o] : kNoBias;
        float* to = weights_.get();
        for (std::int64_t first = 0; first < vectors; first += panel_of(vectors - first)) {
            const std::int64_t width = panel_of(vectors - first) * kLanes<float>;
            for (std::int64_t k = 0; k < depth; ++k) {
                for (std::int64_t j = 0; j < width; ++j, ++to) {
                    const std::int64_t o = first * kLanes<float> + j;
                    *to = o < outputs ? weight[o * depth + k] : 0.0f;
                }
            }
        }
    }

    // out[m * stride + o] for rows m < rows and all outputs o.
    void multiply(const TapRows& a, std::int64_t rows, const ConditionRows* condition, float* out,
                  std::int64_t stride) const {
        const std::int64_t vectors = (outputs_ + kLanes<float> - 1) / kLanes<float>;
        for (std::int64_t first = 0; first < vectors; first += panel_of(vectors - first)) {
            const Panel panel{weights_.get() + first * kLanes<float> * depth_, first * kLanes<float>};
            switch (panel_of(vectors - first)) {
                case 1: multiply_panel<1, kTileRows>(panel, a, rows, condition, out, stride); break;
                case 2: multiply_panel<2, kTileRows>(panel, a, rows, condition, out, stride); break;
                default: multiply_panel<3, kTileRows * 2 / 3>(panel, a, rows, condition, out, stride);
            }
        }
    }

private:
    struct Panel {
        const float* weights;
        std::int64_t first;  // output
    };

    static std::int64_t panel_of(std::int64_t vectors) { return vectors == 1 || vectors == 3 ? vectors : 2; }

    template <int V, int kMost>
    void multiply_panel(const Panel& panel, const TapRows& a, std::int64_t rows, const ConditionRows* condition,
                        float* out, std::int64_t stride) const {
        const std::int64_t tiles = (rows + kMost - 1) / kMost;
        for (std::int64_t t = 0, m = 0; t < tiles; ++t) {
            const std::int64_t next = (t + 1) * rows / tiles;
            choose_tile<V, kMost>(next - m, panel, a, m, condition, out, stride);
            m = next;
        }
    }

    template <int V, int R>
    void choose_tile(std::int64_t rows, const Panel& panel, const TapRows& a, std::int64_t m,
                     const ConditionRows* condition, float* out, std::int64_t stride) const {
        if (rows == R) {
            tile<V, R>(panel, a, m, condition, out, stride);
        } else if constexpr (R > 1) {
            choose_tile<V, R - 1>(rows, panel, a, m, condition, out, stride);
        }
    }

    template <int V, int R>
    __attribute__((noinline)) void tile(const Panel& panel, const TapRows& a, std::int64_t m,
                                        const ConditionRows* condition, float* out, std::int64_t stride) const {
        Sums<R, V> sums;
        multiply_taps<R, V>(a, m, panel.weights, sums);
        finish(panel.first, V, m, R, sums.rows[0], condition, out, stride);
    }

    // The sums of rows m and on, each of some vectors, to outputs. A call of its own: in each tile, it would be most of
    // the code.
    __attribute__((noinline)) void finish(std::int64_t first, int vectors, std::int64_t m, int rows,
                                          const Vector<float>* sums, const ConditionRows* condition, float* out,
                                          std::int64_t stride) const {
        for (int r = 0; r < rows; ++r) {
            const float* const added = condition ? condition->row(m + r) : nullptr;
            for (int v = 0; v < vectors; ++v, ++sums) {
                const std::int64_t o = first + v * kLanes<float>, n = std::min(kLanes<float>, outputs_ - o);
                Vector<float> y = *sums + load(bias_.get() + o);
                if (added) y += load_first(added + o, n);
                if (n == kLanes<float>) {
                    store(out + (m + r) * stride + o, y);
                } else {
                    store_first(out + (m + r) * stride + o, y, n);
                }
            }
        }
    }

    std::int64_t outputs_ = 0, depth_ = 0;
    Buffer<float> weights_, bias_;
};

}  // namespace lapcore::LAPCORE_ISA
