// Products of a panel of weights with a few rows of inputs, by a block of threads, each of which has an output: both
// pass through shared memory in slices of the depth, of which the next arrives while the present one is multiplied.
//
// An output is one chain of multiply-adds from +0 on, in ascending depth.
#pragma once

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/pixelcnn_sampler.h"

namespace lapcore::cuda {

constexpr int kSliceThreads = kPanelOutputs;

// Lies in shared memory, aligned to 16 bytes.
class WeightSlices {
public:
    static constexpr int kMostRows = 8;

    // Lets the first slice of weights come.
    __device__ void begin(const float* weights, int outputs, int depth) {
        const int width = width_of(outputs);
        fetch_weights(weights, width * min(depth_of_slice(width), depth), stages_[0]);
    }

    // sum[r] += the sum over k < depth of weights[k * width + thread] * input(k, r); width is the multiple of 4 from
    // `outputs` on. Called by all threads; those beyond the outputs take part in what has to be moved. begun: whether
    // the last call was begin(weights, outputs, depth).
    template <int R, class Input>
    __device__ void multiply(const float* weights, int outputs, int depth, const Input& input, float (&sum)[R],
                             bool begun) {
        static_assert(R <= kMostRows);
        const int width = width_of(outputs), deep = depth_of_slice(width);
        if (depth == 0) return;
        Inputs<R> inputs;
        if (!begun) begin(weights, outputs, depth);
        inputs.fetch(input, 0, min(deep, depth));
        inputs.store(min(deep, depth), stages_[0]);
        meet();
#pragma unroll 1
        for (int at = 0, stage = 0; at < depth; at += deep, stage ^= 1) {
            const int next = at + deep, count = min(deep, depth - next);
            if (count > 0) {
                fetch_weights(weights + std::int64_t{next} * width, width * count, stages_[stage ^ 1]);
                inputs.fetch(input, next, count);
            }
            if (static_cast<int>(threadIdx.x) < outputs) accumulate(stages_[stage], width, min(deep, depth - at), sum);
            if (count > 0) inputs.store(count, stages_[stage ^ 1]);
            meet();
        }
    }

private:
    static constexpr int kNumbers = 8192, kDeepest = 128, kCopied = 4;

    struct Stage {
        alignas(16) float weights[kNumbers];             // (depth, width)
        alignas(16) float inputs[kDeepest * kMostRows];  // (depth, rows)
    };

    __device__ static int width_of(int outputs) { return (outputs + kCopied - 1) / kCopied * kCopied; }

    // The fewer outputs, the deeper.
    __device__ static int depth_of_slice(int width) {
        constexpr int few = kNumbers / kDeepest;
        return width <= few ? kDeepest : width <= 2 * few ? kDeepest / 2 : kDeepest / 4;
    }

    __device__ static void fetch_weights(const float* from, int count, Stage& stage) {
#pragma unroll 4
        for (int i = static_cast<int>(threadIdx.x) * kCopied; i < count; i += kSliceThreads * kCopied)
            __pipeline_memcpy_async(stage.weights + i, from + i, kCopied * sizeof(float));
        __pipeline_commit();
    }

    // What a thread fetches of a slice's inputs, neighbours neighbouring rows and depths.
    template <int R>
    struct Inputs {
        static constexpr int kValues = (kDeepest * R + kSliceThreads - 1) / kSliceThreads;
        float values[kValues] = {};

        template <class Input>
        __device__ void fetch(const Input& input, int begin, int count) {
#pragma unroll
            for (int v = 0; v < kValues; ++v) {
                const int i = static_cast<int>(threadIdx.x) + v * kSliceThreads;
                if (i < count * R) values[v] = input(begin + i / R, i % R);
            }
        }

        __device__ void store(int count, Stage& stage) const {
#pragma unroll
            for (int v = 0; v < kValues; ++v) {
                const int i = static_cast<int>(threadIdx.x) + v * kSliceThreads;
                if (i < count * R) stage.inputs[i] = values[v];
            }
        }
    };

    // What was fetched is there, for all.
    __device__ static void meet() {
        __pipeline_wait_prior(0);
        __syncthreads();
    }

    // Some depths: as many as make a chain that is longer than it takes to read the next ones.
    template <int R>
    struct Depths {
        static constexpr int kCount = R == 1 ? 16 : R == 2 ? 8 : 4;
        float factors[kCount], inputs[kCount * R];

        __device__ void load(const Stage& stage, int width, int k) {
#pragma unroll
            for (int d = 0; d < kCount; ++d) factors[d] = stage.weights[(k + d) * width + threadIdx.x];
#pragma unroll
            for (int i = 0; i < kCount * R; i += kCopied) {
                const float4 four = *reinterpret_cast<const float4*>(stage.inputs + k * R + i);
                inputs[i] = four.x;
                inputs[i + 1] = four.y;
                inputs[i + 2] = four.z;
                inputs[i + 3] = four.w;
            }
        }

        __device__ void accumulate(float (&sum)[R]) const {
#pragma unroll
            for (int d = 0; d < kCount; ++d)
#pragma unroll
                for (int r = 0; r < R; ++r) sum[r] = fmaf(factors[d], inputs[d * R + r], sum[r]);
        }
    };

    template <int R>
    __device__ static void accumulate(const Stage& stage, int width, int count, float (&sum)[R]) {
        constexpr int kCount = Depths<R>::kCount;
        const int whole = count / kCount * kCount;
        if (whole > 0) {
            Depths<R> now, next;
            now.load(stage, width, 0);
#pragma unroll 2
            for (int k = 0; k < whole; k += kCount) {
                next.load(stage, width, min(k + kCount, whole - kCount));
                now.accumulate(sum);
                now = next;
            }
        }
#pragma unroll 1
        for (int k = whole; k < count; ++k) {
            const float factor = stage.weights[k * width + threadIdx.x];
#pragma unroll
            for (int r = 0; r < R; ++r) sum[r] = fmaf(factor, stage.inputs[k * R + r], sum[r]);
        }
    }

    Stage stages_[2];
};

}  // namespace lapcore::cuda
