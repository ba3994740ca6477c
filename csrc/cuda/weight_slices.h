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

    // sum[r] += the sum over k < depth of weights[k * width + thread] * input(k, r); width is the multiple of 4 from
    // `outputs` on. Called by all threads; those beyond the outputs take part in what has to be moved.
    template <int R, class Input>
    __device__ void multiply(const float* weights, int outputs, int depth, const Input& input, float (&sum)[R]) {
        static_assert(R <= kMostRows);
        const int width = (outputs + 3) / 4 * 4, deep = depth_of_slice(width);
        if (depth == 0) return;
        Inputs<R> inputs;
        fetch_weights(weights, width * min(deep, depth), stages_[0]);
        inputs.fetch(input, 0, min(deep, depth));
        inputs.store(min(deep, depth), stages_[0]);
        meet();
#pragma unroll 1
        for (int begin = 0, stage = 0; begin < depth; begin += deep, stage ^= 1) {
            const int next = begin + deep, count = min(deep, depth - next);
            if (count > 0) {
                fetch_weights(weights + std::int64_t{next} * width, width * count, stages_[stage ^ 1]);
                inputs.fetch(input, next, count);
            }
            if (static_cast<int>(threadIdx.x) < outputs)
                accumulate(stages_[stage], width, min(deep, depth - begin), sum);
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

    // Several depths at once, whose inputs are whole vectors.
    template <int R>
    __device__ static void accumulate(const Stage& stage, int width, int count, float (&sum)[R]) {
        constexpr int kDepths = 4;
        const float* const weights = stage.weights + threadIdx.x;
        int k = 0;
#pragma unroll 2
        for (; k + kDepths <= count; k += kDepths) {
            float factors[kDepths], inputs[kDepths * R];
#pragma unroll
            for (int d = 0; d < kDepths; ++d) factors[d] = weights[(k + d) * width];
#pragma unroll
            for (int i = 0; i < R; ++i) {
                const float4 four = reinterpret_cast<const float4*>(stage.inputs + k * R)[i];
                inputs[4 * i] = four.x;
                inputs[4 * i + 1] = four.y;
                inputs[4 * i + 2] = four.z;
                inputs[4 * i + 3] = four.w;
            }
#pragma unroll
            for (int d = 0; d < kDepths; ++d)
#pragma unroll
                for (int r = 0; r < R; ++r) sum[r] = fmaf(factors[d], inputs[d * R + r], sum[r]);
        }
#pragma unroll 1
        for (; k < count; ++k)
#pragma unroll
            for (int r = 0; r < R; ++r) sum[r] = fmaf(weights[k * width], stage.inputs[k * R + r], sum[r]);
    }

    Stage stages_[2];
};

}  // namespace lapcore::cuda
