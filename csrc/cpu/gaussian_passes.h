// Diagonal Gaussians in one pass over memory: every tile of a row is read once, its noise is drawn beside it, and what
// comes of it is written and added up. The formulas are those of lapcore/reference/gaussian.py, with which infinities
// are treated alike; e^x and e^x - 1 both come of one e^(x/4) - 1, so that neither overflows before a product does.
#pragma once

#include <cmath>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/gaussian_terms.h"

namespace lapcore::LAPCORE_ISA {
namespace {

// What the formulas are made of.
template <class C, class V, bool kPrior>
struct Compared {
    Root<C, V> root;                    // e^(ratio/4)
    V expm1, ratio, whitened, root_lp;  // e^ratio - 1, lq - lp, d e^(-lp/2), e^(-lp/4)

    LAPCORE_INLINE Compared(const V& mq, const V& lq, const V& mp, const V& lp) {
        if constexpr (kPrior) {
            ratio = difference<C>(lq, lp);
            root_lp = root_of<C>(lp * C(-0.25)).exp();
            whitened = scaled(difference<C>(mq, mp), root_lp);
        } else {
            ratio = lq;
            whitened = mq;
        }
        root = root_of<C>(ratio * C(0.25));
        expm1 = expm1_of_quarter<C>(root.expm1());
    }

    // e^(lq/4), which is e^(ratio/4) without a prior.
    LAPCORE_INLINE V root_of_logvar(const V& lq) const {
        if constexpr (kPrior) return root_of<C>(lq * C(0.25)).exp();
        return root.exp();
    }
    // e^ratio - 1 - ratio, never below 0, and the square.
    LAPCORE_INLINE V term() const {
        const V most = V{} + std::numeric_limits<C>::max();
        return maximum(V{}, expm1 - minimum(most, ratio)) + whitened * whitened;
    }
    LAPCORE_INLINE V d_mean() const { return kPrior ? scaled(whitened, root_lp) : whitened; }
};

template <class C>
struct MomentTiles {
    const C *mean, *logvar, *prior_mean, *prior_logvar;
};

template <class C>
struct MomentInputs {
    Input<C> mean, logvar, prior_mean, prior_logvar;
    MomentInputs(DType dtype, const Moments& m)
        : mean(dtype, m.mean),
          logvar(dtype, m.logvar),
          prior_mean(dtype, m.prior_mean),
          prior_logvar(dtype, m.prior_logvar) {}
    MomentTiles<C> tile(std::int64_t row, std::int64_t first, std::int64_t n) {
        return {mean.tile(row, first, n), logvar.tile(row, first, n), prior_mean.tile(row, first, n),
                prior_logvar.tile(row, first, n)};
    }
};

template <bool kPrior, class C, class Place, class V = typename Place::V>
LAPCORE_INLINE Compared<C, V, kPrior> compare(const Place& at, const MomentTiles<C>& m, const V& mean,
                                              const V& logvar) {
    const V prior_mean = kPrior && m.prior_mean ? at.load(m.prior_mean) : V{};
    const V prior_logvar = kPrior && m.prior_logvar ? at.load(m.prior_logvar) : V{};
    return {mean, logvar, prior_mean, prior_logvar};
}

// The noise of tiles that come in order.
class RowNoise {
public:
    // For the chunks before `last_chunk`.
    RowNoise(const Seeds& seeds, std::int64_t length, std::int64_t last_chunk)
        : seeds_(seeds), length_(length), end_(seeds.per_row ? length : elements_before(last_chunk, length)) {}

    const float* at(const RowTile& tile) {
        const std::int64_t row = seeds_.per_row ? tile.row : 0;
        const std::int64_t first = tile.first + (seeds_.per_row ? 0 : tile.row * length_);
        if (row != row_ || first < begin_ || first + tile.n > filled_) fill(row, first);
        return tile_ + (first - begin_);
    }

private:
    void fill(std::int64_t row, std::int64_t first) {
        row_ = row;
        begin_ = first / 4 * 4;
        filled_ = std::min(end_, first + kNoiseTile);
        kernels().random.normals(seeds_.of(row), seeds_.stream, begin_, filled_ - begin_, tile_);
    }

    const Seeds& seeds_;
    std::int64_t length_, end_, row_ = -1, begin_ = 0, filled_ = 0;
    alignas(64) float tile_[kNoiseTile + 4 + kNoiseBeyond];
};

// Forward ------------------------------------------------------------------------------------------------------------

// The noise of z, where z is wanted, and the divergence's terms, where it is.
template <class C, bool kPrior>
struct Forward {
    MomentInputs<C> moments;
    RowNoise noise;
    Output<C> z;
    bool draws, large;
    double* parts;
    Sum16 sum{};

    void tile(const RowTile& t) {
        const MomentTiles<C> m = moments.tile(t.row, t.first, t.n);
        const float* drawn = draws ? noise.at(t) : nullptr;
        C* out = z.tile(t.row, t.first, t.n);
        Sum16 local = sum;  // in registers
        const auto run = [&](auto with_kl, auto with_z) LAPCORE_INLINE_LAMBDA {
            over_places<C>(t.n, drawn && large && is_aligned(out), [&](auto at) LAPCORE_INLINE_LAMBDA {
                // All is read before anything is written: what both results need is then computed once.
                using V = typename decltype(at)::V;
                const V mean = at.load(m.mean), logvar = at.load(m.logvar);
                V root;
                if constexpr (with_kl) {
                    const auto compared = compare<kPrior>(at, m, mean, logvar);
                    local.add(at.i, compared.term());
                    if constexpr (with_z) root = compared.root_of_logvar(logvar);
                } else {
                    root = root_of<C>(logvar * C(0.25)).exp();
                }
                if constexpr (with_z) at.store(out, mean + scaled(load_noise(at, drawn, C{}), root));
            });
        };
        if (drawn && parts) {
            run(std::true_type{}, std::true_type{});
        } else if (parts) {
            run(std::true_type{}, std::false_type{});
        } else if constexpr (!kPrior) {
            run(std::false_type{}, std::true_type{});
        }
        sum = local;
        z.finish();
    }

    void chunk(std::int64_t c) {
        if (parts) parts[c] = sum.total();
        sum = {};
    }
};

template <class C, bool kPrior>
void run_forward(const GaussianCall& call, const Moments& moments, const Seeds& seeds, void* z, void* kl) {
    std::vector<double> parts(kl ? std::size_t(call.rows * chunks_of(call.length)) : 0);
    const bool large = streams<C>(call.dtype, call.rows * call.length);
    over_chunks(call.rows, call.length, call.threads, [&](std::int64_t first, std::int64_t last) {
        Forward<C, kPrior> forward{
            {call.dtype, moments},      {seeds, call.length, last}, {call.dtype, {z, call.length}}, z != nullptr, large,
            kl ? parts.data() : nullptr};
        over_tiles_and_chunks(call.length, first, last, forward);
        if (large) stream_fence();
    });
    if (kl) finish_rows<C>(call, parts, 0, kl);
}

// Backward -----------------------------------------------------------------------------------------------------------

// The gradient of z, where there is one, and of the divergence, where there is one.
template <class C, bool kPrior>
struct Backward {
    MomentInputs<C> moments;
    Input<C> grad_z;
    const C* grad_kl;
    RowNoise noise;
    Output<C> d_mean, d_logvar, d_prior_mean, d_prior_logvar;
    bool large;

    void tile(const RowTile& t) {
        const MomentTiles<C> m = moments.tile(t.row, t.first, t.n);
        const float* drawn = grad_z ? noise.at(t) : nullptr;
        const C* dz = grad_z.tile(t.row, t.first, t.n);
        C *out_mean = d_mean.tile(t.row, t.first, t.n), *out_logvar = d_logvar.tile(t.row, t.first, t.n);
        C* out_prior_mean = d_prior_mean.tile(t.row, t.first, t.n);
        C* out_prior_logvar = d_prior_logvar.tile(t.row, t.first, t.n);
        const C g = grad_kl ? grad_kl[t.row] : C{};
        const bool used = !(g == 0);
        const bool streamed = large && aligned(out_mean, out_logvar, out_prior_mean, out_prior_logvar);
        const auto run = [&](auto with_kl, auto with_z) LAPCORE_INLINE_LAMBDA {
            over_places<C>(t.n, streamed, [&](auto at) LAPCORE_INLINE_LAMBDA {
                using V = typename decltype(at)::V;
                const V mean = with_kl ? at.load(m.mean) : V{}, logvar = at.load(m.logvar);
                const auto of_noise = [&](const V& d, const V& root) LAPCORE_INLINE_LAMBDA {
                    return chain<C>(d, scaled(load_noise(at, drawn, C{}), root) * C(0.5));
                };
                if constexpr (with_kl) {
                    const auto compared = compare<kPrior>(at, m, mean, logvar);
                    V to_mean{}, to_logvar{};
                    if constexpr (with_z) {
                        to_mean = at.load(dz);
                        to_logvar = of_noise(to_mean, compared.root_of_logvar(logvar));
                    }
                    const V of_kl = chain_row<C>(g, used, compared.d_mean());
                    if (kPrior && out_prior_mean) at.store(out_prior_mean, -of_kl);
                    if (kPrior && out_prior_logvar) {
                        const V half = (compared.expm1 + compared.whitened * compared.whitened) * C(-0.5);
                        at.store(out_prior_logvar, chain_row<C>(g, used, half));
                    }
                    at.store(out_mean, of_kl + to_mean);
                    at.store(out_logvar, to_logvar + chain_row<C>(g, used, compared.expm1 * C(0.5)));
                } else {
                    at.store(out_logvar, of_noise(at.load(dz), root_of<C>(logvar * C(0.25)).exp()));
                }
            });
        };
        if (drawn && grad_kl) {
            run(std::true_type{}, std::true_type{});
        } else if (grad_kl) {
            run(std::true_type{}, std::false_type{});
        } else if constexpr (!kPrior) {
            run(std::false_type{}, std::true_type{});
        }
        for (auto* output : {&d_mean, &d_logvar, &d_prior_mean, &d_prior_logvar}) output->finish();
    }

    void chunk(std::int64_t) {}
};

template <class C, bool kPrior>
void run_backward(const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& moments,
                  const Seeds& seeds, const Moments& gradients) {
    const bool large = streams<C>(call.dtype, call.rows * call.length);
    over_chunks(call.rows, call.length, call.threads, [&](std::int64_t first, std::int64_t last) {
        Backward<C, kPrior> backward{{call.dtype, moments},
                                     {call.dtype, grad_z},
                                     static_cast<const C*>(grad_kl),
                                     {seeds, call.length, last},
                                     {call.dtype, gradients.mean},
                                     {call.dtype, gradients.logvar},
                                     {call.dtype, gradients.prior_mean},
                                     {call.dtype, gradients.prior_logvar},
                                     large};
        over_tiles_and_chunks(call.length, first, last, backward);
        if (large) stream_fence();
    });
}

bool has_prior(const Moments& m) { return m.prior_mean.data || m.prior_logvar.data; }

template <class C>
void forward(const GaussianCall& call, const Moments& m, const Seeds& seeds, void* z, void* kl) {
    (has_prior(m) ? run_forward<C, true> : run_forward<C, false>)(call, m, seeds, z, kl);
}

template <class C>
void backward(const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& m, const Seeds& seeds,
              const Moments& gradients) {
    (has_prior(m) ? run_backward<C, true> : run_backward<C, false>)(call, grad_z, grad_kl, m, seeds, gradients);
}

}  // namespace
}  // namespace lapcore::LAPCORE_ISA
