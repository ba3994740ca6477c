// The Laplacian loss on a GPU. The pyramid is that of the difference, and its bands are never stored: each level's pass
// (stream.h) sums up c m |h| as it makes h, and for a gradient stores c m sign(h), whose pyramid is then transposed.
//
// Sums: a lane's rows in float64, its warp's lanes, then all parts of a sample, each in an order that the size of a
// plane alone determines: the same bits for every batch and card.
#include <algorithm>

#include "cuda/image.h"
#include "cuda/laplacian_loss.h"
#include "cuda/launch.h"
#include "cuda/level.h"
#include "cuda/pyramid_level.h"

namespace lapcore::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int V = kColumns<float>;
constexpr int kPairs = 32;  // low rows of a part

enum Tensors { kInput, kTarget, kMask, kLow, kSign, kTensors };

// One term's coefficient of a plane's sample.
struct Coefficients {
    const float* value;
    int terms, term;
    std::int64_t planes_per_sample;
    __device__ float of(std::int64_t plane) const { return value[plane / planes_per_sample * terms + term]; }
};

// T of the images whose difference is taken; on the levels after the first there is but one image.
template <class T>
struct Problem {
    Shape shape;
    Split split;
    std::int64_t planes;
    Leading<kTensors> leading;
    Plane<const T> input, target;
    Plane<const float> mask;
    Plane<float> low, sign;
    Coefficients coefficients;
    double* parts;
};

__device__ float sign_of(float v) { return v > 0 ? 1.0f : v < 0 ? -1.0f : v; }

// The sum over the lanes of a strip; its first lane has it.
__device__ double sum_of_lanes(double value, int place, int lanes) {
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
        const double other = __shfl_down_sync(kWarp, value, d);
        value += place + d < lanes ? other : 0.0;
    }
    return value;
}

template <class T>
struct Difference {
    Reader<T, V> input, target;
    bool has_target;

    struct Packs {
        Pack<T, V> input, target;
    };
    __device__ Packs fetch(int y) const { return {input.fetch(y), target.fetch(y)}; }
    __device__ void unpack(const Packs& packs, float (&v)[V]) const {
        input.unpack(packs.input, v);
        if (!has_target) return;
        float other[V];
        target.unpack(packs.target, other);
#pragma unroll
        for (int c = 0; c < V; ++c) v[c] -= other[c];
    }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 4) loss_kernel(const __grid_constant__ Problem<T> problem) {
    const Shape& shape = problem.shape;
    const Split& split = problem.split;
    const int lane = threadIdx.x % 32;
    const Job job = job_of<V>(split, problem.planes, std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32, lane);

    Plane<const T> input = problem.input, target = problem.target;
    Plane<const float> mask = problem.mask;
    Plane<float> low = problem.low, sign = problem.sign;
    problem.leading.walk(job.plane, [&](int d, std::int64_t i) {
        const auto& stride = problem.leading.stride;
        input.data += i * stride[kInput][d];
        if (target) target.data += i * stride[kTarget][d];
        if (mask) mask.data += i * stride[kMask][d];
        low.data += i * stride[kLow][d];
        if (sign) sign.data += i * stride[kSign][d];
    });
    const Extension extension = fine_extension<true>(shape), none{Border::constant, false};
    const int height = shape.height.fine, width = shape.width.fine;
    const Difference<T> source{
        {input, height, width, extension, job.x}, {target, height, width, extension, job.x}, static_cast<bool>(target)};
    const Reader<float, V> weights(mask, height, width, none, job.x);
    const float coefficient = sign && job.exists ? problem.coefficients.of(job.plane) : 0;

    double sum = 0;
    const auto finish = [&](int i, float (&row)[V / 2]) {
        const bool mine = job.owns && i >= job.first && i < job.first + split.pairs && i < shape.height.low;
        if (mine) write_row<float, V / 2>(low, shape.width.low, i, job.x / 2, row);
    };
    const auto emit = [&](int y, float (&value)[V], const float (&fine)[V]) {
        float weight[V];
        if (mask) weights.read(y, weight);
        float total = 0;
#pragma unroll
        for (int c = 0; c < V; ++c) {
            const float band = fine[c] - value[c], m = mask ? weight[c] : 1.0f;
            total += job.x + c < width ? fabsf(band) * m : 0.0f;
            value[c] = sign_of(band) * m * coefficient;
        }
        if (!job.owns) return;
        sum += total;
        if (sign) write_row<float, V>(sign, width, y, job.x, value);
    };
    const LevelEnds<float>* no_ends = nullptr;
    stream_fine<true, true, V, float>(shape, no_ends, job.x, job.first, split.pairs, source, finish, emit);

    const int place = lane % split.lanes;
    const double all = sum_of_lanes(sum, place, split.lanes);
    if (job.exists && place == 0) problem.parts[job.plane * (split.strips * split.chunks) + job.part] = all;
}

// The residual g_L: a block for each plane.
struct Residual {
    Leading<3> leading;
    int height, width;
    Plane<const float> image, mask;
    Plane<float> sign;
    Coefficients coefficients;
    double* parts;
};

// In each thread's order, then by halves; all threads have it.
__device__ double sum_of_block(double value) {
    __shared__ double sums[kThreads];
    sums[threadIdx.x] = value;
#pragma unroll 1
    for (int half = kThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    __syncthreads();
    const double total = sums[0];
    __syncthreads();
    return total;
}

__global__ void __launch_bounds__(kThreads) loss_residual_kernel(const __grid_constant__ Residual problem) {
    const std::int64_t plane = blockIdx.x;
    Plane<const float> image = problem.image, mask = problem.mask;
    Plane<float> sign = problem.sign;
    problem.leading.walk(plane, [&](int d, std::int64_t i) {
        image.data += i * problem.leading.stride[0][d];
        if (mask) mask.data += i * problem.leading.stride[1][d];
        if (sign) sign.data += i * problem.leading.stride[2][d];
    });
    const float coefficient = problem.coefficients.of(plane);
    double sum = 0;
#pragma unroll 1
    for (int e = threadIdx.x; e < problem.height * problem.width; e += kThreads) {
        const int y = e / problem.width, x = e % problem.width;
        const float value = *image.at(y, x), m = mask ? *mask.at(y, x) : 1.0f;
        sum += fabsf(value) * m;
        if (sign) *sign.at(y, x) = sign_of(value) * m * coefficient;
    }
    const double all = sum_of_block(sum);
    if (threadIdx.x == 0) problem.parts[plane] = all;
}

// The parts of each term, one term after the other; a block for each sample.
struct Finish {
    const float* coefficients;
    const double* parts;
    float* loss;
    int terms;
    std::int64_t samples, count[kMaxLossLevels];  // parts of one sample
};

__global__ void __launch_bounds__(kThreads) loss_finish_kernel(const __grid_constant__ Finish problem) {
    const std::int64_t sample = blockIdx.x;
    const double* parts = problem.parts;
    double loss = 0;
#pragma unroll 1
    for (int term = 0; term < problem.terms; ++term) {
        const std::int64_t count = problem.count[term];
        double sum = 0;
#pragma unroll 1
        for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += parts[sample * count + i];
        loss += sum_of_block(sum) * problem.coefficients[sample * problem.terms + term];
        parts += problem.samples * count;
    }
    if (threadIdx.x == 0) problem.loss[sample] = static_cast<float>(loss);
}

Shape shape_at(const View& fine, Border border) {
    const auto extent = [](std::int64_t n) { return Extent{static_cast<int>(n), static_cast<int>((n + 1) / 2)}; };
    return {extent(fine.height()), extent(fine.width()), border};
}

std::int64_t parts_of(const View& fine) {
    const Split split = split_into(shape_at(fine, Border::reflect), 1, V, kPairs);
    return fine.planes() * split.strips * split.chunks;
}

const View* at(const Views& views, std::size_t i) { return i < views.size() ? &views[i] : nullptr; }

template <class T>
void level(const PyramidCall& call, const View& input, const View* target, const LossImages& images, int l,
           const Coefficients& coefficients, double* parts) {
    const Shape shape = shape_at(input, call.border);
    const View *mask = at(images.masks, l), *sign = at(images.signs, l), &low = images.lows[l];
    const std::int64_t planes = input.planes();
    const Split split = split_into(shape, planes, V, kPairs);
    const Problem<T> problem{shape,
                             split,
                             planes,
                             leading_of<kTensors>({&input, target, mask, &low, sign}),
                             plane_of<T, const T>(&input, V),
                             plane_of<T, const T>(target, V),
                             plane_of<float, const float>(mask, V),
                             plane_of<float, float>(&low, V / 2),
                             plane_of<float, float>(sign, V),
                             coefficients,
                             parts};
    const std::int64_t per_block = std::int64_t{kWarps} * split.segments();
    launch(loss_kernel<T>, (split.jobs + per_block - 1) / per_block, kThreads, call.stream, problem);
}

void first_level(const PyramidCall& call, const LossImages& images, const Coefficients& coefficients, double* parts) {
    switch (call.dtype) {
        case DType::float16: return level<Half>(call, images.input, &images.target, images, 0, coefficients, parts);
        case DType::bfloat16:
            return level<BFloat16>(call, images.input, &images.target, images, 0, coefficients, parts);
        case DType::float32: return level<float>(call, images.input, &images.target, images, 0, coefficients, parts);
        default: throw std::invalid_argument("dtype: the loss kernels take 16-bit floats and float32");
    }
}

void residual(const PyramidCall& call, const LossImages& images, std::size_t l, const Coefficients& coefficients,
              double* parts) {
    const View *image = &images.fine[l - 1], *mask = at(images.masks, l), *sign = at(images.totals, l);
    const Residual problem{leading_of<3>({image, mask, sign}),
                           static_cast<int>(image->height()),
                           static_cast<int>(image->width()),
                           plane_of<float, const float>(image, V),
                           plane_of<float, const float>(mask, V),
                           plane_of<float, float>(sign, V),
                           coefficients,
                           parts};
    launch(loss_residual_kernel, image->planes(), kThreads, call.stream, problem);
}

}  // namespace

std::int64_t loss_parts(const View& input, const Views& fine, int terms) {
    std::int64_t total = 0;
    for (int l = 0; l < terms; ++l) {
        const View& image = l == 0 ? input : fine[l - 1];
        total += l < static_cast<int>(fine.size()) ? parts_of(image) : image.planes();
    }
    return total;
}

void laplacian_loss(const PyramidCall& call, const LossImages& images, const LossSums& sums) {
    const int levels = static_cast<int>(images.lows.size());
    const std::int64_t planes = images.input.planes();
    if (planes == 0) throw std::invalid_argument("input: expected at least one plane");
    Finish finish{sums.coefficients, sums.parts, sums.loss, sums.terms, sums.samples, {}};
    double* parts = sums.parts;
    for (int l = 0; l < sums.terms; ++l) {
        const View& image = l == 0 ? images.input : images.fine[l - 1];
        const Coefficients coefficients{sums.coefficients, sums.terms, l, planes / sums.samples};
        const std::int64_t count = l < levels ? parts_of(image) : planes;
        finish.count[l] = count / sums.samples;
        if (l == levels) {
            residual(call, images, l, coefficients, parts);
        } else if (l == 0) {
            first_level(call, images, coefficients, parts);
        } else {
            level<float>(call, image, nullptr, images, l, coefficients, parts);
        }
        parts += count;
    }
    launch(loss_finish_kernel, sums.samples, kThreads, call.stream, finish);

    const PyramidCall single{DType::float32, call.border, call.stream};
    for (std::size_t l = images.signs.size(); l-- > 0;) {
        laplacian_level_adjoint(single, images.signs[l], images.below[l], images.below[l], images.totals[l]);
    }
}

}  // namespace lapcore::cuda
