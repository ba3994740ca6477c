// Diagonal Gaussians in one pass over memory: every tile of a row is read once, its noise is drawn beside it, and what
// comes of it is written and added up. The formulas are those of lapcore/reference/gaussian.py, with which infinities
// are treated alike; e^x and e^x - 1 both come of one e^(x/4) - 1, so that neither overflows before a product does.
#include "cpu/gaussian.h"

#include <cmath>
#include <optional>
#include <vector>

#include "cpu/chunks.h"
#include "cpu/elements.h"
#include "cpu/memory.h"
#include "cpu/noise.h"

namespace lapcore::LAPCORE_ISA {
namespace {

constexpr double kLog2Pi = 1.8378770664093454836;

// Below, V is one vector of the computation's type C or several (common/several.h).

// e^q and e^q - 1 with q held where e^q is a normal number.
template <class V>
struct Root {
    V exp, expm1;
};

template <class C, class V>
LAPCORE_INLINE Root<V> root_of(const V& q) {
    if constexpr (std::is_same_v<C, float>) {
        const auto e = exponential(clamped(q, -87.0f, 87.0f));
        const auto scale = power_of_two<V>(e.n);
        return {(e.p + 1.0f) * scale, e.p * scale + (scale - 1.0f)};
    } else {
        Root<V> root;
        double* const exp = reinterpret_cast<double*>(&root.exp);
        double* const expm1 = reinterpret_cast<double*>(&root.expm1);
        for (std::size_t i = 0; i < sizeof q / sizeof(double); ++i) {
            const double x = reinterpret_cast<const double*>(&q)[i], held = x < -708 ? -708 : x > 708 ? 708 : x;
            exp[i] = std::exp(held);
            expm1[i] = std::expm1(held);
        }
        return root;
    }
}

// e^x - 1 of p = e^(x/4) - 1, exact to a few roundings near 0 as well: (1 + p)^4 - 1.
template <class C, class V>
LAPCORE_INLINE V expm1_of_quarter(const V& p) {
    return p * (p * (p * (p + C(4)) + C(6)) + C(4));
}

// d e^(x/2) of e^(x/4), in two steps: d may bring back into range what e^(x/2) alone would leave.
template <class V>
LAPCORE_INLINE V scaled(const V& d, const V& root) {
    return d * root * root;
}

template <class C, class V>
LAPCORE_INLINE auto is_infinite(const V& v) {
    if constexpr (std::is_same_v<C, float>) {
        return (same_bits<Integers<V>>(v) & 0x7fffffff) == 0x7f800000;
    } else {
        return (same_bits<Integers<V>>(v) & 0x7fffffffffffffff) == 0x7ff0000000000000;
    }
}

// a - b, and 0 between equal infinities.
template <class C, class V>
LAPCORE_INLINE V difference(const V& a, const V& b) {
    return select(is_infinite<C>(a) & (a == b), V{}, a - b);
}

// grad * derivative; what is not used has no gradient, even where its derivative is infinite.
template <class C, class V>
LAPCORE_INLINE V chain(const V& grad, const V& derivative) {
    return grad * select(is_infinite<C>(derivative) & (grad == C(0)), V{}, derivative);
}

// The same where all of a row is used, or none of it.
template <class C, bool kUsed, class V>
LAPCORE_INLINE V chain_row(C grad, const V& derivative) {
    if constexpr (kUsed) return derivative * grad;
    return select(is_infinite<C>(derivative), V{}, derivative) * grad;
}

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

// A row's part in a task: elements [first, first + n) of `row`, which belong to the chunk number `chunk` of all.
struct Tile {
    std::int64_t chunk, row, first, n;
};

// Calls task.tile(tile) for all tiles of a run of chunks in order, and task.chunk(number) after each chunk.
template <class Task>
void over_tiles(std::int64_t length, std::int64_t first_chunk, std::int64_t last_chunk, Task& task) {
    const std::int64_t chunks = chunks_of(length);
    for (std::int64_t c = first_chunk; c < last_chunk; ++c) {
        const std::int64_t row = c / chunks, begin = c % chunks * kChunk, end = std::min(begin + kChunk, length);
        for (std::int64_t e = begin; e < end; e += kTile) task.tile({c, row, e, std::min(kTile, end - e)});
        task.chunk(c);
    }
}

// The noise of tiles that come in order.
class RowNoise {
public:
    // For the chunks before `last_chunk`.
    RowNoise(const Seeds& seeds, std::int64_t length, std::int64_t last_chunk)
        : seeds_(seeds), length_(length), end_(elements_before(last_chunk, length)) {}

    const float* at(const Tile& tile) {
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

// Whether outputs of that many elements are written past the caches, where their addresses allow it.
template <class C>
bool streams(DType dtype, std::int64_t elements) {
    return in_place<C>(dtype) && elements * std::int64_t(sizeof(C)) >= std::int64_t{1} << 23;
}
template <class C, class... Others>
bool aligned(const C* first, const Others*... others) {
    return is_aligned(first) && (is_aligned(others) && ...);
}

// inf - inf is inf here: a row has no density off a point mass, however much of it there is elsewhere.
double combined(double a, double b) {
    const double sum = a + b;
    return std::isnan(sum) && !std::isnan(a) && !std::isnan(b) ? HUGE_VAL : sum;
}

// Half of each row's sum of its chunks, and of `each` for every element.
template <class C>
void finish_rows(const GaussianCall& call, const std::vector<double>& parts, double each, void* out) {
    const std::int64_t chunks = chunks_of(call.length);
    for (std::int64_t row = 0; row < call.rows; ++row) {
        double sum = 0;
        for (std::int64_t c = 0; c < chunks; ++c) sum = combined(sum, parts[std::size_t(row * chunks + c)]);
        static_cast<C*>(out)[row] = C((sum + each * double(call.length)) / 2);
    }
}

// Forward ------------------------------------------------------------------------------------------------------------

template <class C, bool kDraw, bool kKl, bool kPrior>
struct Forward {
    MomentInputs<C> moments;
    RowNoise noise;
    Output<C> z;
    bool large;
    double* parts;
    Sum16<C> sum{};

    void tile(const Tile& t) {
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
        over_tiles(call.length, first, last, forward);
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

    void tile(const Tile& t) {
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
        over_tiles(call.length, first, last, backward);
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

// Likelihood ---------------------------------------------------------------------------------------------------------

template <class C>
struct Likelihood {
    Input<C> x, mean, logvar;
    std::int64_t length;
    double* parts;
    Sum16<C> sum{};

    // Calls take(i, terms) for the elements i and on of a tile.
    template <class Take>
    LAPCORE_INLINE void each_term(const Tile& t, const Take& take) {
        const C *a = x.tile(t.row, t.first, t.n), *b = mean.tile(t.row, t.first, t.n);
        const C* lv = logvar.tile(t.row, t.first, t.n);
        over_vectors<C>(t.n, false, [&](auto at) LAPCORE_INLINE_LAMBDA {
            using V = typename decltype(at)::V;
            const V l = at.load(lv);
            const V whitened = scaled(difference<C>(at.load(a), at.load(b)), root_of<C>(l * C(-0.25)).exp);
            const V square = whitened * whitened;
            // Off its mean a vanishing variance gives no density: +inf, though logvar is -inf.
            take(at.i, select(square == C(HUGE_VAL), square, square + l));
        });
    }

    void tile(const Tile& t) {
        Sum16<C> local = sum;  // in registers
        each_term(t, [&](std::int64_t i, const auto& terms) LAPCORE_INLINE_LAMBDA { local.add(i, terms); });
        sum = local;
    }

    void chunk(std::int64_t c) {
        const double total = sum.total();
        parts[c] = std::isnan(total) ? one_by_one(c) : total;
        sum = {};
    }

    double one_by_one(std::int64_t c) {
        struct Total {
            Likelihood& likelihood;
            double value = 0;
            void tile(const Tile& t) {
                likelihood.each_term(t, [&](std::int64_t, const auto& terms) {
                    const C* const lanes = reinterpret_cast<const C*>(&terms);
                    for (std::size_t i = 0; i < sizeof terms / sizeof(C); ++i) value = combined(value, lanes[i]);
                });
            }
            void chunk(std::int64_t) {}
        } total{*this};
        over_tiles(length, c, c + 1, total);
        return total.value;
    }
};

template <class C>
void nll(const GaussianCall& call, const Rows& x, const Rows& mean, const Rows& logvar, void* out) {
    std::vector<double> parts(std::size_t(call.rows * chunks_of(call.length)));
    over_chunks(call.rows, call.length, call.threads, [&](std::int64_t first, std::int64_t last) {
        Likelihood<C> likelihood{{call.dtype, x}, {call.dtype, mean}, {call.dtype, logvar}, call.length, parts.data()};
        over_tiles(call.length, first, last, likelihood);
    });
    finish_rows<C>(call, parts, kLog2Pi, out);
}

template <class C>
struct LikelihoodBackward {
    const C* grad;
    Input<C> x, mean, logvar;
    Output<C> d_x, d_mean, d_logvar;
    bool large;

    void tile(const Tile& t) {
        const C *a = x.tile(t.row, t.first, t.n), *b = mean.tile(t.row, t.first, t.n);
        const C* lv = logvar.tile(t.row, t.first, t.n);
        C *out_x = d_x.tile(t.row, t.first, t.n), *out_mean = d_mean.tile(t.row, t.first, t.n);
        C* out_logvar = d_logvar.tile(t.row, t.first, t.n);
        const C g = grad[t.row];
        const auto run = [&](auto used) LAPCORE_INLINE_LAMBDA {
            constexpr bool kUsed = decltype(used)::value;
            over_vectors<C>(t.n, large && aligned(out_x, out_mean, out_logvar), [&](auto at) LAPCORE_INLINE_LAMBDA {
                using V = typename decltype(at)::V;
                const V root = root_of<C>(at.load(lv) * C(-0.25)).exp;
                const V whitened = scaled(difference<C>(at.load(a), at.load(b)), root);
                const V to_x = chain_row<C, kUsed>(g, scaled(whitened, root));
                const V to_logvar = chain_row<C, kUsed>(g, (C(1) - whitened * whitened) * C(0.5));
                at.store(out_x, to_x);
                at.store(out_mean, -to_x);
                at.store(out_logvar, to_logvar);
            });
        };
        if (g == 0) {
            run(std::false_type{});
        } else {
            run(std::true_type{});
        }
        for (auto* output : {&d_x, &d_mean, &d_logvar}) output->finish();
    }

    void chunk(std::int64_t) {}
};

template <class C>
void nll_backward(const GaussianCall& call, const void* grad, const Rows& x, const Rows& mean, const Rows& logvar,
                  void* d_x, void* d_mean, void* d_logvar) {
    const bool large = streams<C>(call.dtype, call.rows * call.length);
    over_chunks(call.rows, call.length, call.threads, [&](std::int64_t first, std::int64_t last) {
        LikelihoodBackward<C> backward{static_cast<const C*>(grad),
                                       {call.dtype, x},
                                       {call.dtype, mean},
                                       {call.dtype, logvar},
                                       {call.dtype, {d_x, call.length}},
                                       {call.dtype, {d_mean, call.length}},
                                       {call.dtype, {d_logvar, call.length}},
                                       large};
        over_tiles(call.length, first, last, backward);
        if (large) stream_fence();
    });
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
    [](const GaussianCall& call, const Rows& x, const Rows& mean, const Rows& logvar, void* out) {
        (call.dtype == DType::float64 ? nll<double> : nll<float>)(call, x, mean, logvar, out);
    },
    [](const GaussianCall& call, const void* grad, const Rows& x, const Rows& mean, const Rows& logvar, void* d_x,
       void* d_mean, void* d_logvar) {
        (call.dtype == DType::float64 ? nll_backward<double> : nll_backward<float>)(call, grad, x, mean, logvar, d_x,
                                                                                    d_mean, d_logvar);
    },
};

}  // namespace lapcore::LAPCORE_ISA
