// Diagonal Gaussians in one pass over memory: every tile of a row is read once, its noise is drawn beside it, and what
// comes of it is written and added up. The formulas are those of lapcore/reference/gaussian.py, with which infinities
// are treated alike; e^x and e^x - 1 both come of one e^(x/4) - 1, so that neither overflows before a product does.
#include "cpu/gaussian.h"

#include <cmath>
#include <optional>
#include <vector>

#include "cpu/gaussian_terms.h"
#include "cpu/noise.h"

namespace lapcore::LAPCORE_ISA {
namespace {

// What the formulas are made of.
template <class C, class V, bool kPrior>
struct Compared {
    V expm1, ratio, whitened, root_lp;  // e^ratio - 1, lq - lp, d e^(-lp/2), e^(-lp/4)

    LAPCORE_INLINE Compared(const V& mq, const V& lq, const V& mp, const V& lp) {
        if constexpr (kPrior) {
            ratio = difference<C>(lq, lp);
            root_lp = root_of<C>(lp * C(-0.25)).exp;
            whitened = scaled(difference<C>(mq, mp), root_lp);
        } else {
            ratio = lq;
            whitened = mq;
        }
        expm1 = expm1_of_quarter<C>(root_of<C>(ratio * C(0.25)).expm1);
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
        : seeds_(seeds), length_(length), end_(elements_before(last_chunk, length)) {}

    const float* at(const RowTile& tile) {
        if (!seeds_.per_row) {
            if (!noise_) noise_.emplace(seeds_.of(0), seeds_.stream, end_);
            return noise_->at(tile.row * length_ + tile.first, tile.n);
        }
        if (tile.row != row_) noise_.emplace(seeds_.of(row_ = tile.row), seeds_.stream, length_);
        return noise_->at(tile.first, tile.n);
    }

private:
    const Seeds& seeds_;
    std::int64_t length_, end_, row_ = -1;
    std::optional<Noise<Normal>> noise_;
};

// Forward ------------------------------------------------------------------------------------------------------------

template <class C, bool kDraw, bool kKl, bool kPrior>
struct Forward {
    MomentInputs<C> moments;
    RowNoise noise;
    Output<C> z;
    bool large;
    double* parts;
    Sum16<C> sum{};

    void tile(const RowTile& t) {
        const MomentTiles<C> m = moments.tile(t.row, t.first, t.n);
        const float* drawn = kDraw ? noise.at(t) : nullptr;
        C* out = z.tile(t.row, t.first, t.n);
        Sum16<C> local = sum;  // in registers
        over_vectors<C>(t.n, kDraw && large && is_aligned(out), [&](auto at) LAPCORE_INLINE_LAMBDA {
            // All is read before anything is written: what both results need is then computed once.
            const auto mean = at.load(m.mean), logvar = at.load(m.logvar);
            if constexpr (kKl) local.add(at.i, compare<kPrior>(at, m, mean, logvar).term());
            if constexpr (kDraw) {
                at.store(out, mean + scaled(load_floats(at, drawn, C{}), root_of<C>(logvar * C(0.25)).exp));
            }
        });
        sum = local;
        z.finish();
    }

    void chunk(std::int64_t c) {
        if constexpr (kKl) {
            parts[c] = sum.total();
            sum = {};
        }
    }
};

template <class C, bool kDraw, bool kKl, bool kPrior>
void run_forward(const GaussianCall& call, const Moments& moments, const Seeds& seeds, void* z, void* kl) {
    std::vector<double> parts(kKl ? std::size_t(call.rows * chunks_of(call.length)) : 0);
    const bool large = streams<C>(call.dtype, call.rows * call.length);
    over_chunks(call.rows, call.length, call.threads, [&](std::int64_t first, std::int64_t last) {
        Forward<C, kDraw, kKl, kPrior> forward{
            {call.dtype, moments}, {seeds, call.length, last}, {call.dtype, {z, call.length}}, large, parts.data()};
        over_tiles_and_chunks(call.length, first, last, forward);
        if (large) stream_fence();
    });
    if constexpr (kKl) finish_rows<C>(call, parts, 0, kl);
}

template <class C>
void forward(const GaussianCall& call, const Moments& m, const Seeds& seeds, void* z, void* kl) {
    const bool prior = m.prior_mean.data || m.prior_logvar.data;
    if (!kl) return run_forward<C, true, false, false>(call, m, seeds, z, kl);
    if (!z)
        return (prior ? run_forward<C, false, true, true> : run_forward<C, false, true, false>)(call, m, seeds, z, kl);
    return (prior ? run_forward<C, true, true, true> : run_forward<C, true, true, false>)(call, m, seeds, z, kl);
}

// Backward -----------------------------------------------------------------------------------------------------------

template <class C, bool kDraw, bool kKl, bool kPrior>
struct Backward {
    MomentInputs<C> moments;
    Input<C> grad_z;
    const C* grad_kl;
    RowNoise noise;
    Output<C> d_mean, d_logvar, d_prior_mean, d_prior_logvar;
    bool large;

    void tile(const RowTile& t) {
        const MomentTiles<C> m = moments.tile(t.row, t.first, t.n);
        const float* drawn = kDraw ? noise.at(t) : nullptr;
        const C* dz = grad_z.tile(t.row, t.first, t.n);
        C *out_mean = d_mean.tile(t.row, t.first, t.n), *out_logvar = d_logvar.tile(t.row, t.first, t.n);
        C* out_prior_mean = d_prior_mean.tile(t.row, t.first, t.n);
        C* out_prior_logvar = d_prior_logvar.tile(t.row, t.first, t.n);
        const C g = kKl ? grad_kl[t.row] : C{};
        const bool streamed = large && aligned(out_mean, out_logvar, out_prior_mean, out_prior_logvar);
        const auto run = [&](auto used) LAPCORE_INLINE_LAMBDA {
            constexpr bool kUsed = decltype(used)::value;
            over_vectors<C>(t.n, streamed, [&](auto at) LAPCORE_INLINE_LAMBDA {
                using V = typename decltype(at)::V;
                const V mean = kKl ? at.load(m.mean) : V{}, logvar = at.load(m.logvar);
                V to_mean{}, to_logvar{};
                if constexpr (kDraw) {
                    const V d = at.load(dz), noise = load_floats(at, drawn, C{});
                    to_mean = d;
                    to_logvar = chain<C>(d, scaled(noise, root_of<C>(logvar * C(0.25)).exp) * C(0.5));
                }
                if constexpr (kKl) {
                    const auto c = compare<kPrior>(at, m, mean, logvar);
                    const V of_kl = chain_row<C, kUsed>(g, c.d_mean());
                    if (kPrior && out_prior_mean) at.store(out_prior_mean, -of_kl);
                    if (kPrior && out_prior_logvar) {
                        const V half = (c.expm1 + c.whitened * c.whitened) * C(-0.5);
                        at.store(out_prior_logvar, chain_row<C, kUsed>(g, half));
                    }
                    at.store(out_mean, of_kl + to_mean);
                    to_logvar = to_logvar + chain_row<C, kUsed>(g, c.expm1 * C(0.5));
                }
                at.store(out_logvar, to_logvar);
            });
        };
        if (kKl && g == 0) {
            run(std::false_type{});
        } else {
            run(std::true_type{});
        }
        for (auto* output : {&d_mean, &d_logvar, &d_prior_mean, &d_prior_logvar}) output->finish();
    }

    void chunk(std::int64_t) {}
};

template <class C, bool kDraw, bool kKl, bool kPrior>
void run_backward(const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& moments,
                  const Seeds& seeds, const Moments& gradients) {
    const bool large = streams<C>(call.dtype, call.rows * call.length);
    over_chunks(call.rows, call.length, call.threads, [&](std::int64_t first, std::int64_t last) {
        Backward<C, kDraw, kKl, kPrior> backward{{call.dtype, moments},
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

template <class C>
void backward(const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& m, const Seeds& seeds,
              const Moments& gradients) {
    const bool prior = m.prior_mean.data || m.prior_logvar.data;
    auto run = run_backward<C, true, false, false>;
    if (grad_kl && !grad_z.data) run = prior ? run_backward<C, false, true, true> : run_backward<C, false, true, false>;
    if (grad_kl && grad_z.data) run = prior ? run_backward<C, true, true, true> : run_backward<C, true, true, false>;
    run(call, grad_z, grad_kl, m, seeds, gradients);
}

}  // namespace

extern const GaussianKernels gaussian_kernels;
const GaussianKernels gaussian_kernels{
    [](const GaussianCall& call, const Moments& moments, const Seeds& seeds, void* z, void* kl) {
        (call.dtype == DType::float64 ? forward<double> : forward<float>)(call, moments, seeds, z, kl);
    },
    [](const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& moments, const Seeds& seeds,
       const Moments& gradients) {
        (call.dtype == DType::float64 ? backward<double> : backward<float>)(call, grad_z, grad_kl, moments, seeds,
                                                                            gradients);
    },
    gaussian_nll,
    gaussian_nll_backward,
};

}  // namespace lapcore::LAPCORE_ISA
