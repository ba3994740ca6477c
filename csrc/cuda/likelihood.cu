// Mixtures of discretised logistics on a GPU: a thread has a pixel, and goes through its components one by one; nothing
// of the size of K images is kept. Forward reads params once and the logits twice, backward all of it twice.
#include <type_traits>

#include "common/floats.h"
#include "common/logistic.h"
#include "cuda/element.h"
#include "cuda/launch.h"
#include "cuda/likelihood.h"
#include "cuda/noise.h"

namespace lapcore::cuda {
namespace {

constexpr int kThreads = 128;  // of a block, whose pixels are of one image

// Images of rows of L pixels.
template <class T>
struct Pixels {
    T* data;
    std::int64_t image, row, pixel;
};

template <class T>
Pixels<const T> pixels_of(const View& view) {
    return {static_cast<const T*>(view.data), view.strides[0], view.strides[1], view.strides[2]};
}

template <class T>
struct Problem {
    Pixels<const T> params;
    Pixels<const Sum<T>> x;
    std::int64_t pixels, blocks, count;  // L, blocks of an image, K
};

// A thread's pixel.
struct Pixel {
    std::int64_t image, pixel;
    bool exists;

    __device__ Pixel(std::int64_t pixels, std::int64_t blocks)
        : image(blockIdx.x / blocks), pixel((blockIdx.x % blocks) * kThreads + threadIdx.x), exists(pixel < pixels) {}
};

template <class T>
struct Reader {
    const T* at;
    std::int64_t stride;

    __device__ Reader(const Pixels<const T>& from, const Pixel& pixel)
        : at(from.data + pixel.image * from.image + pixel.pixel * from.pixel), stride(from.row) {}
    __device__ Sum<T> operator()(std::int64_t row) const { return loaded(at[row * stride]); }
};

template <class S>
struct Normalisers {
    S top, logits, best, weights;
};

// The sums over components, each time a larger exponent comes measured anew.
template <int C, bool kOfficial, class T, class S>
__device__ Normalisers<S> normalisers_of(const Place<S> (&at)[C], const Reader<T>& read, std::int64_t count) {
    Normalisers<S> n{read(0), 0, -kLargest<S>, 0};
#pragma unroll 1
    for (std::int64_t k = 1; k < count; ++k) {
        const S logit = read(k);
        n.top = logit > n.top ? logit : n.top;
    }
#pragma unroll 1
    for (std::int64_t k = 0; k < count; ++k) {
        n.logits += exp_of(read(k) - n.top);
        const auto joint = joint_of<C, false, S>(at, read, count, k, n.top, kOfficial);
        const S larger = joint.exponent > n.best ? joint.exponent : n.best;
        n.weights = n.weights * exp_of(n.best - larger) + joint.q * exp_of(joint.exponent - larger);
        n.best = larger;
    }
    return n;
}

template <int C, class S>
__device__ void places(const Pixels<const S>& x, const Pixel& pixel, Place<S> (&at)[C]) {
    const Reader<S> read(x, pixel);
#pragma unroll
    for (int c = 0; c < C; ++c) at[c] = place_of<S>(read(c));
}

// By halves; the first thread has it.
__device__ double sum_of_block(double value) {
    __shared__ double sums[kThreads];
    sums[threadIdx.x] = value;
#pragma unroll 1
    for (int half = kThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return threadIdx.x == 0 ? sums[0] : 0;
}

template <class T, int C, bool kOfficial>
__global__ void __launch_bounds__(kThreads, 4)
    mixture_nll_kernel(const __grid_constant__ Problem<T> problem, double* const parts) {
    using S = Sum<T>;
    const Pixel pixel(problem.pixels, problem.blocks);
    S value = 0;
    if (pixel.exists) {
        Place<S> at[C];
        places(problem.x, pixel, at);
        const auto n = normalisers_of<C, kOfficial>(at, Reader<T>(problem.params, pixel), problem.count);
        value = pixel_nll(n.best, n.weights, n.logits);
    }
    const double total = sum_of_block(value);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

// The parts of an image; a block for each.
template <class S>
__global__ void __launch_bounds__(kThreads, 4)
    mixture_finish_kernel(const double* const parts, std::int64_t count, S* const nll) {
    double sum = 0;
#pragma unroll 1
    for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += parts[blockIdx.x * count + i];
    const double total = sum_of_block(sum);
    if (threadIdx.x == 0) nll[blockIdx.x] = static_cast<S>(total);
}

template <class T>
struct Gradients {
    const Sum<T>* grad;
    T* params;
    Sum<T>* x;
};

template <class T, int C, bool kOfficial>
__global__ void __launch_bounds__(kThreads, 4)
    mixture_backward_kernel(const __grid_constant__ Problem<T> problem, const __grid_constant__ Gradients<T> out) {
    using S = Sum<T>;
    constexpr int kGroups = groups_of(C);
    const Pixel pixel(problem.pixels, problem.blocks);
    if (!pixel.exists) return;
    const Reader<T> read(problem.params, pixel);
    Place<S> at[C];
    places(problem.x, pixel, at);
    const std::int64_t count = problem.count;
    const Normalisers<S> n = normalisers_of<C, kOfficial>(at, read, count);
    const S grad = out.grad[pixel.image], prior = grad / n.logits, scale = -grad / n.weights;
    T* const d_params = out.params + pixel.image * (count * (1 + C * kGroups)) * problem.pixels + pixel.pixel;
    const auto put = [&](std::int64_t row, S value) { d_params[row * problem.pixels] = stored<T>(value); };
    S d_x[C] = {};
#pragma unroll 1
    for (std::int64_t k = 0; k < count; ++k) {
        const auto joint = joint_of<C, true, S>(at, read, count, k, n.top, kOfficial);
        const auto slopes = slopes_of<C, S>(joint, at);
        const S share = scale * (joint.q * exp_of(joint.exponent - n.best));
        put(k, prior * exp_of(read(k) - n.top) + share);
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const std::int64_t row = count * (1 + kGroups * c) + k;
            put(row, share * joint.terms[c].d_mean);
            put(row + count, share * joint.terms[c].d_log_scale);
            if constexpr (C == 3) put(row + 2 * count, share * slopes.coefficients[c]);
            d_x[c] += share * slopes.x[c];
        }
    }
    if (!out.x) return;
#pragma unroll
    for (int c = 0; c < C; ++c) out.x[(pixel.image * C + c) * problem.pixels + pixel.pixel] = d_x[c];
}

template <class T, int C>
__global__ void __launch_bounds__(kThreads, 4)
    mixture_sample_kernel(const __grid_constant__ Problem<T> problem, const __grid_constant__ Noise noise, bool snap,
                          Sum<T>* const out) {
    using S = Sum<T>;
    constexpr int kGroups = groups_of(C);
    const Pixel pixel(problem.pixels, problem.blocks);
    if (!pixel.exists) return;
    const Reader<T> read(problem.params, pixel);
    const std::int64_t count = problem.count;
    const std::uint64_t key = noise.key(pixel.image);
    const std::int64_t first = (noise.seeds ? 0 : pixel.image * (count + C) * problem.pixels) + pixel.pixel;
    const auto uniform = [&](std::int64_t row) -> S {
        return uniform_at(key, noise.stream, static_cast<std::uint64_t>(first + row * problem.pixels));
    };
    std::int64_t chosen = 0;
    S best = gumbel_score<S>(read(0), uniform(0));
#pragma unroll 1
    for (std::int64_t k = 1; k < count; ++k) {
        const S score = gumbel_score<S>(read(k), uniform(k));
        if (score > best) {
            best = score;
            chosen = k;
        }
    }
    S drawn[C];
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const std::int64_t row = count * (1 + kGroups * c) + chosen;
        S mean = read(row);
#pragma unroll
        for (int b = 0; b < c; ++b) {
            // c0 is of green on red, c1 and c2 of blue on red and green.
            const std::int64_t which = count * (kGroups * (c + b)) + chosen;
            mean = mean + coefficient_of<S>(read(which)).value * drawn[b];
        }
        drawn[c] = logistic_draw<S>(mean, read(row + count), uniform(count + c), snap);
        out[(pixel.image * C + c) * problem.pixels + pixel.pixel] = drawn[c];
    }
}

template <class T>
Problem<T> problem_of(const MixtureCall& call, const View& params, const View* x) {
    const std::int64_t pixels = params.shape[2];
    return {pixels_of<T>(params), x ? pixels_of<Sum<T>>(*x) : Pixels<const Sum<T>>{}, pixels, mixture_parts(pixels),
            components_of(params.shape[1], call.channels)};
}

// run(T{}, channels, official) with all as types.
template <class T, class Run>
void with_mode(const MixtureCall& call, const Run& run) {
    const auto with_channels = [&](auto channels) {
        return call.official ? run(T{}, channels, std::true_type{}) : run(T{}, channels, std::false_type{});
    };
    return call.channels == 3 ? with_channels(std::integral_constant<int, 3>{})
                              : with_channels(std::integral_constant<int, 1>{});
}

template <class Run>
void with_types(const MixtureCall& call, const Run& run) {
    with_float(call.dtype, [&](auto t) { with_mode<decltype(t)>(call, run); });
}

}  // namespace

std::int64_t mixture_parts(std::int64_t pixels) { return (pixels + kThreads - 1) / kThreads; }

void mixture_nll(const MixtureCall& call, const View& params, const View& x, double* parts, void* nll) {
    with_types(call, [&](auto t, auto channels, auto official) {
        using T = decltype(t);
        const Problem<T> problem = problem_of<T>(call, params, &x);
        const std::int64_t images = params.shape[0];
        launch(mixture_nll_kernel<T, decltype(channels)::value, decltype(official)::value>, images * problem.blocks,
               kThreads, call.stream, problem, parts);
        launch(mixture_finish_kernel<Sum<T>>, images, kThreads, call.stream, static_cast<const double*>(parts),
               problem.blocks, static_cast<Sum<T>*>(nll));
    });
}

void mixture_nll_backward(const MixtureCall& call, const void* grad, const View& params, const View& x, void* d_params,
                          void* d_x) {
    with_types(call, [&](auto t, auto channels, auto official) {
        using T = decltype(t);
        const Problem<T> problem = problem_of<T>(call, params, &x);
        const Gradients<T> out{static_cast<const Sum<T>*>(grad), static_cast<T*>(d_params), static_cast<Sum<T>*>(d_x)};
        launch(mixture_backward_kernel<T, decltype(channels)::value, decltype(official)::value>,
               params.shape[0] * problem.blocks, kThreads, call.stream, problem, out);
    });
}

void mixture_sample(const MixtureCall& call, const View& params, const Seeds& seeds, bool snap, void* out) {
    const MixtureCall exact{call.dtype, call.channels, false, call.stream};
    with_types(exact, [&](auto t, auto channels, auto) {
        using T = decltype(t);
        const Problem<T> problem = problem_of<T>(call, params, nullptr);
        launch(mixture_sample_kernel<T, decltype(channels)::value>, params.shape[0] * problem.blocks, kThreads,
               call.stream, problem, noise_of(seeds), snap, static_cast<Sum<T>*>(out));
    });
}

}  // namespace lapcore::cuda
