// Mixtures of discretised logistics on CPUs: blocks of pixels, every parameter of a block a row, and vectors of pixels.
// likelihood.cpp has them in float32, likelihood_double.cpp in float64.
//
// A block is the same pixels whatever the batch, the threads and the instruction set; its pixels are added up in
// float64 one after the other, and so are the blocks of an image.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "common/logistic.h"
#include "cpu/dispatch.h"
#include "cpu/likelihood.h"
#include "cpu/simd.h"
#include "cpu/threads.h"
#include "cpu/typed_elements.h"

namespace lapcore::LAPCORE_ISA {
namespace {

constexpr std::int64_t kBlock = 64;

// float comes in vectors, double goes through the C++ library one by one.
template <class S>
using Lane = std::conditional_t<std::is_same_v<S, float>, Vector<float>, double>;

LAPCORE_INLINE Vector<float> load_lane(const float* p) { return load(p); }
LAPCORE_INLINE double load_lane(const double* p) { return *p; }
LAPCORE_INLINE void store_lane(float* p, Vector<float> v) { store(p, v); }
LAPCORE_INLINE void store_lane(double* p, double v) { *p = v; }

template <class V>
LAPCORE_INLINE V larger(V a, V b) {
    return a > b ? a : b;
}

struct Block {
    std::int64_t image, index, first, count;
};

// Images of L pixels, read as S.
template <class S>
struct Pixels {
    DType dtype;
    const void* data;
    std::int64_t image, row, pixel;

    Pixels(DType dtype, const View& view)
        : dtype(dtype), data(view.data), image(view.strides[0]), row(view.strides[1]), pixel(view.strides[2]) {}

    std::int64_t first_of(std::int64_t r, const Block& block) const {
        return block.image * image + r * row + block.first * pixel;
    }
    void read(std::int64_t r, const Block& block, S* to) const {
        load_elements(dtype, data, first_of(r, block), pixel, block.count, to);
    }
};

template <class S>
constexpr DType kComputed = std::is_same_v<S, double> ? DType::float64 : DType::float32;

// Calls work(worker, block) for every block of every image; a task has a worker of its own.
template <class Make, class Work>
void over_blocks(const View& params, int threads, const Make& make, const Work& work) {
    const std::int64_t pixels = params.shape[2], each = (pixels + kBlock - 1) / kBlock, total = params.shape[0] * each;
    const std::int64_t tasks = std::min<std::int64_t>(total, threads > 1 ? 8 * threads : 1);
    parallel_for(tasks, threads, [&](std::int64_t task) {
        auto worker = make();
        for (std::int64_t b = total * task / tasks; b < total * (task + 1) / tasks; ++b) {
            const std::int64_t first = b % each * kBlock;
            work(worker, Block{b / each, b % each, first, std::min(kBlock, pixels - first)});
        }
    });
}

// A block's parameters and image channels, in rows of kBlock; and what is kept of each component.
template <class S, int C>
struct ParamRows {
    using V = Lane<S>;
    static constexpr std::int64_t kStep = sizeof(V) / sizeof(S);

    std::int64_t size, count;
    std::vector<S> params, x;
    std::vector<S> exponents, qs, slopes;

    explicit ParamRows(std::int64_t size)
        : size(size),
          count(components_of(size, C)),
          params(size * kBlock),
          x(C * kBlock),
          exponents(count * kStep),
          qs(count * kStep),
          slopes(count * C * kStep) {}

    // Beyond the block's last pixel lie those of the block before it, or zeros: numbers like any others.
    void fetch(const Pixels<S>& from, const Pixels<S>& image, const Block& block) {
        for (std::int64_t r = 0; r < size; ++r) from.read(r, block, &params[r * kBlock]);
        for (std::int64_t c = 0; c < C; ++c) image.read(c, block, &x[c * kBlock]);
    }

    V read(std::int64_t row, std::int64_t i) const { return load_lane(&params[row * kBlock + i]); }
    void write(std::int64_t row, std::int64_t i, V v) { store_lane(&params[row * kBlock + i], v); }

    V top_logit(std::int64_t i) const {
        V top = read(0, i);
        for (std::int64_t k = 1; k < count; ++k) top = larger(read(k, i), top);
        return top;
    }
};

template <class V>
struct Normalisers {
    V best, weights, top, logits;
};

// The sums over components of the pixels i, i + 1, ..; keep(k, joint) takes what a gradient needs.
template <bool kGradient, class S, int C, class Keep>
LAPCORE_INLINE auto sums_over_components(ParamRows<S, C>& rows, const Place<typename ParamRows<S, C>::V> (&at)[C],
                                         std::int64_t i, bool official, const Keep& keep) {
    using V = typename ParamRows<S, C>::V;
    constexpr std::int64_t kStep = ParamRows<S, C>::kStep;
    const V top = rows.top_logit(i);
    V best = V{} - kLargest<V>, logits{}, weights{};
    for (std::int64_t k = 0; k < rows.count; ++k) {
        logits += exp_of(rows.read(k, i) - top);
        const auto read = [&](std::int64_t row) LAPCORE_INLINE_LAMBDA { return rows.read(row, i); };
        const auto joint = joint_of<C, kGradient, V>(at, read, rows.count, k, top, official);
        store_lane(&rows.exponents[k * kStep], joint.exponent);
        store_lane(&rows.qs[k * kStep], joint.q);
        best = larger(joint.exponent, best);
        keep(k, joint);
    }
    for (std::int64_t k = 0; k < rows.count; ++k) {
        const V q = load_lane(&rows.qs[k * kStep]) * exp_of(load_lane(&rows.exponents[k * kStep]) - best);
        store_lane(&rows.qs[k * kStep], q);
        weights += q;
    }
    return Normalisers<V>{best, weights, top, logits};
}

template <class S, int C>
LAPCORE_INLINE void places(const ParamRows<S, C>& rows, std::int64_t i, Place<typename ParamRows<S, C>::V> (&at)[C]) {
    for (int c = 0; c < C; ++c) at[c] = place_of(load_lane(&rows.x[c * kBlock + i]));
}

template <class S, int C>
double block_nll(ParamRows<S, C>& rows, std::int64_t count, bool official) {
    using V = typename ParamRows<S, C>::V;
    S values[kBlock];
    for (std::int64_t i = 0; i < count; i += ParamRows<S, C>::kStep) {
        Place<V> at[C];
        places(rows, i, at);
        const auto sums = sums_over_components<false>(rows, at, i, official, [](auto, const auto&) {});
        store_lane(values + i, pixel_nll(sums.best, sums.weights, sums.logits));
    }
    double total = 0;
    for (std::int64_t i = 0; i < count; ++i) total += values[i];
    return total;
}

template <class S, int C>
void nll_of(const MixtureCall& call, const View& params, const View& x, void* nll) {
    const std::int64_t images = params.shape[0], each = (params.shape[2] + kBlock - 1) / kBlock;
    const Pixels<S> from(call.dtype, params), image(kComputed<S>, x);
    std::vector<double> sums(images * each);
    over_blocks(
        params, call.threads, [&] { return ParamRows<S, C>(params.shape[1]); },
        [&](ParamRows<S, C>& rows, const Block& block) {
            rows.fetch(from, image, block);
            sums[block.image * each + block.index] = block_nll(rows, block.count, call.official);
        });
    for (std::int64_t n = 0; n < images; ++n) {
        double total = 0;
        for (std::int64_t b = 0; b < each; ++b) total += sums[n * each + b];
        static_cast<S*>(nll)[n] = static_cast<S>(total);
    }
}

// The rows of the parameters become those of their gradient, and x that of its own.
template <class S, int C>
void block_gradient(ParamRows<S, C>& rows, std::int64_t count, bool official, S grad) {
    using V = typename ParamRows<S, C>::V;
    constexpr std::int64_t kStep = ParamRows<S, C>::kStep, kGroups = groups_of(C);
    for (std::int64_t i = 0; i < count; i += kStep) {
        Place<V> at[C];
        places(rows, i, at);
        const std::int64_t components = rows.count;
        const auto keep = [&](std::int64_t k, const Joint<C, V>& joint) LAPCORE_INLINE_LAMBDA {
            const Slopes<C, V> slopes = slopes_of<C, V>(joint, at);
            for (int c = 0; c < C; ++c) {
                const std::int64_t row = components * (1 + kGroups * c) + k;
                rows.write(row, i, joint.terms[c].d_mean);
                rows.write(row + components, i, joint.terms[c].d_log_scale);
                if constexpr (C == 3) rows.write(row + 2 * components, i, slopes.coefficients[c]);
                store_lane(&rows.slopes[(k * C + c) * kStep], slopes.x[c]);
            }
        };
        const auto sums = sums_over_components<true>(rows, at, i, official, keep);
        const V prior = (V{} + grad) / sums.logits, scale = (V{} - grad) / sums.weights;
        V d_x[C] = {};
        for (std::int64_t k = 0; k < components; ++k) {
            const V share = scale * load_lane(&rows.qs[k * kStep]);
            rows.write(k, i, prior * exp_of(rows.read(k, i) - sums.top) + share);
            for (std::int64_t r = 1; r <= C * kGroups; ++r) {
                rows.write(components * r + k, i, share * rows.read(components * r + k, i));
            }
            for (int c = 0; c < C; ++c) d_x[c] += share * load_lane(&rows.slopes[(k * C + c) * kStep]);
        }
        for (int c = 0; c < C; ++c) store_lane(&rows.x[c * kBlock + i], d_x[c]);
    }
}

template <class S, int C>
void nll_backward_of(const MixtureCall& call, const void* grad, const View& params, const View& x, void* d_params,
                     void* d_x) {
    const std::int64_t size = params.shape[1], pixels = params.shape[2];
    const Pixels<S> from(call.dtype, params), image(kComputed<S>, x);
    over_blocks(
        params, call.threads, [&] { return ParamRows<S, C>(size); },
        [&](ParamRows<S, C>& rows, const Block& block) {
            rows.fetch(from, image, block);
            block_gradient(rows, block.count, call.official, static_cast<const S*>(grad)[block.image]);
            for (std::int64_t r = 0; r < size; ++r) {
                store_elements(call.dtype, &rows.params[r * kBlock], block.count, d_params,
                               (block.image * size + r) * pixels + block.first);
            }
            if (!d_x) return;
            S* const out_x = static_cast<S*>(d_x) + block.image * C * pixels + block.first;
            for (std::int64_t c = 0; c < C; ++c) std::copy_n(&rows.x[c * kBlock], block.count, out_x + c * pixels);
        });
}

// Uniforms of the elements e, e + 1, .. of a seed's stream.
class UniformRow {
public:
    void draw(std::uint64_t seed, std::uint64_t stream, std::uint64_t e, std::int64_t count) {
        first_ = std::int64_t(e % 4);
        kernels().random.uniforms(seed, stream, std::int64_t(e) - first_, first_ + count, u_);
    }
    void get(std::int64_t i, Vector<float>& u) const { u = load(u_ + first_ + i); }
    void get(std::int64_t i, double& u) const { u = u_[first_ + i]; }

private:
    std::int64_t first_ = 0;
    alignas(64) float u_[kBlock + 4 + kNoiseBeyond];
};

template <class S, int C>
struct Draws {
    UniformRow u;
    S logits[kBlock] = {}, scores[kBlock], chosen[kBlock], values[C * groups_of(C)][kBlock] = {}, out[C][kBlock];
};

// The component of every pixel of a block: the first of the largest scores.
template <class S, int C, class Noises>
void choose(Draws<S, C>& draws, const Pixels<S>& from, const Block& block, std::int64_t count, const Noises& noises) {
    using V = Lane<S>;
    for (std::int64_t k = 0; k < count; ++k) {
        from.read(k, block, draws.logits);
        noises(k);
        for (std::int64_t i = 0; i < block.count; i += ParamRows<S, C>::kStep) {
            V u;
            draws.u.get(i, u);
            const V score = gumbel_score(load_lane(draws.logits + i), u);
            const V best = load_lane(draws.scores + i), chosen = load_lane(draws.chosen + i);
            const auto better = k == 0 ? score == score : score > best;
            store_lane(draws.scores + i, better ? score : best);
            store_lane(draws.chosen + i, better ? V{} + S(k) : chosen);
        }
    }
}

template <class S, int C>
void draw_block(Draws<S, C>& draws, const Pixels<S>& from, std::int64_t size, std::int64_t pixels, const Seeds& seeds,
                bool snap, const Block& block) {
    using V = Lane<S>;
    constexpr int kGroups = groups_of(C);
    const std::int64_t count = components_of(size, C);
    const auto noises = [&](std::int64_t row) {
        const std::int64_t image = seeds.per_row ? 0 : block.image;
        draws.u.draw(seeds.of(block.image), seeds.stream, (image * (count + C) + row) * pixels + block.first,
                     block.count);
    };
    std::fill_n(draws.scores, kBlock, -kLargest<V>);
    std::fill_n(draws.chosen, kBlock, 0);
    choose(draws, from, block, count, noises);
    std::int64_t places[kBlock];
    for (std::int64_t i = 0; i < block.count; ++i)
        places[i] = std::int64_t(draws.chosen[i]) * from.row + i * from.pixel;
    for (int r = 0; r < C * kGroups; ++r) {
        gather_elements(from.dtype, from.data, from.first_of(count * (1 + r), block), 1, places, block.count,
                        draws.values[r]);
    }
    for (int c = 0; c < C; ++c) {
        noises(count + c);
        for (std::int64_t i = 0; i < block.count; i += ParamRows<S, C>::kStep) {
            V u, mean = load_lane(draws.values[kGroups * c] + i);
            draws.u.get(i, u);
            for (int b = 0; b < c; ++b) {
                const int which = c - 1 + b;  // c0 is of green on red, c1 and c2 of blue on red and green
                const V factor = coefficient_of(load_lane(draws.values[kGroups * which + kGroups - 1] + i)).value;
                mean += factor * load_lane(draws.out[b] + i);
            }
            store_lane(draws.out[c] + i, logistic_draw(mean, load_lane(draws.values[kGroups * c + 1] + i), u, snap));
        }
    }
}

template <class S, int C>
void sample_of(const MixtureCall& call, const View& params, const Seeds& seeds, bool snap, void* out) {
    const std::int64_t size = params.shape[1], pixels = params.shape[2];
    const Pixels<S> from(call.dtype, params);
    over_blocks(
        params, call.threads, [] { return std::make_unique<Draws<S, C>>(); },
        [&](std::unique_ptr<Draws<S, C>>& draws, const Block& block) {
            draw_block(*draws, from, size, pixels, seeds, snap, block);
            S* const to = static_cast<S*>(out) + block.image * C * pixels + block.first;
            for (std::int64_t c = 0; c < C; ++c) std::copy_n(draws->out[c], block.count, to + c * pixels);
        });
}

template <class S>
constexpr LikelihoodKernels likelihood_kernels_of{
    [](const MixtureCall& call, const View& params, const View& x, void* nll) {
        (call.channels == 3 ? nll_of<S, 3> : nll_of<S, 1>)(call, params, x, nll);
    },
    [](const MixtureCall& call, const void* grad, const View& params, const View& x, void* d_params, void* d_x) {
        (call.channels == 3 ? nll_backward_of<S, 3> : nll_backward_of<S, 1>)(call, grad, params, x, d_params, d_x);
    },
    [](const MixtureCall& call, const View& params, const Seeds& seeds, bool snap, void* out) {
        (call.channels == 3 ? sample_of<S, 3> : sample_of<S, 1>)(call, params, seeds, snap, out);
    }};

}  // namespace
}  // namespace lapcore::LAPCORE_ISA
