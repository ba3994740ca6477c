// The transposes' taps near the ends of an axis, where folded border samples change their weights: as weights over the
// window that an interior output reads. Circular borders, whose window is not one, are not for these.
#pragma once

#include <cuda_runtime.h>

#include "cuda/axis.h"

namespace lapcore::cuda {

// How an axis of a level lies: `fine` samples, and half as many.
struct Extent {
    int fine, low;
};

// Of the forward operators, in units: how often output `out` reads sample `sample`.
__device__ inline int up_weight(int out, int sample, int low, Border border) {
    const int j = out / 2;
    const auto reads = [&](int i) { return up_index(i, low, border) == sample ? 1 : 0; };
    if (out % 2 != 0) return 4 * ((j == sample ? 1 : 0) + reads(j + 1));
    return reads(j - 1) + (j == sample ? 6 : 0) + reads(j + 1);
}

__device__ inline int down_weight(int out, int sample, int fine, Border border) {
    int total = 0;
#pragma unroll
    for (int k = -2; k <= 2; ++k) {
        const int weight = k == 0 ? 6 : k == 1 || k == -1 ? 4 : 1;
        total += border_index(2 * out + k, fine, border) == sample ? weight : 0;
    }
    return total;
}

template <class C>
struct Ends {
    static constexpr int kDecimate = 4, kExpand = 8, kEntries = kDecimate * 5 + kExpand * 3;

    C decimate[kDecimate][5];  // up's transpose, over the samples 2i - 2 .. 2i + 2
    C expand[kExpand][3];      // down's transpose, over the samples i/2 - 1 .. i/2 + 1

    // The output that end e is of, or one beyond the line; and back.
    __device__ static int output(int e, int margin, int n) { return e < margin ? e : max(n - 2 * margin, 0) + e; }
    __device__ static int end(int i, int margin, int n) { return i < margin ? i : i - max(n - 2 * margin, 0); }
    __device__ static bool is_end(int i, int margin, int n) { return i < margin || i >= max(margin, n - margin); }

    // Entry t of the table.
    __device__ void fill(int t, Extent extent, Border border) {
        if (t < kDecimate * 5) {
            const int i = output(t / 5, kDecimate / 2, extent.low), out = 2 * i - 2 + t % 5;
            const bool exists = i < extent.low && out >= 0 && out < extent.fine;
            decimate[t / 5][t % 5] = exists ? C(up_weight(out, i, extent.low, border)) * C(0.125) : C(0);
        } else if (t < kEntries) {
            const int e = (t - kDecimate * 5) / 3, k = (t - kDecimate * 5) % 3;
            const int i = output(e, kExpand / 2, extent.fine), out = i / 2 - 1 + k;
            const bool exists = i < extent.fine && out >= 0 && out < extent.low;
            expand[e][k] = exists ? C(down_weight(out, i, extent.fine, border)) * C(0.0625) : C(0);
        }
    }
};

template <class C>
struct LevelEnds {
    Ends<C> rows, columns;

    // By all threads of a block, which then wait for one another.
    __device__ void fill(Extent height, Extent width, Border border, int thread, int threads) {
#pragma unroll 1
        for (int t = thread; t < 2 * Ends<C>::kEntries; t += threads) {
            if (t < Ends<C>::kEntries) {
                rows.fill(t, height, border);
            } else {
                columns.fill(t - Ends<C>::kEntries, width, border);
            }
        }
    }
};

// The sum over the taps that have a weight, one after another.
template <int K, class C, class Sample>
__device__ C window_sum(const C (&weight)[K], const Sample& sample) {
    C sum = 0;
#pragma unroll
    for (int k = 0; k < K; ++k)
        if (weight[k] != C(0)) sum += sample(k) * weight[k];
    return sum;
}

// The same, with samples of equal weight paired up where axis.h does so.
template <int K, class C, class Sample>
__device__ C paired_window_sum(const C (&weight)[K], const Sample& sample) {
    C s[K] = {}, w[K] = {};
    int count = 0;
#pragma unroll
    for (int k = 0; k < K; ++k) {
        if (weight[k] == C(0)) continue;
#pragma unroll
        for (int j = 0; j <= k; ++j) {
            s[j] = j == count ? sample(k) : s[j];
            w[j] = j == count ? weight[k] : w[j];
        }
        ++count;
    }
    if constexpr (K == 5) {
        if (count == 5 && w[0] == w[4] && w[1] == w[3]) return pair_up(s[0], s[1], s[2], s[3], s[4], w[0], w[1], w[2]);
    }
    if (count == 3 && w[0] == w[2]) return pair_up(s[0], s[1], s[2], w[0], w[1]);
    if (count == 2 && w[0] == w[1]) return pair_up(s[0], s[1], w[0]);
    C sum = 0;
#pragma unroll
    for (int k = 0; k < K; ++k)
        if (k < count) sum += s[k] * w[k];
    return sum;
}

}  // namespace lapcore::cuda
