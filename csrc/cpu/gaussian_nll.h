// The likelihood of diagonal Gaussians and its gradient, in one pass over memory each.
#pragma once

#include "cpu/gaussian_terms.h"

namespace lapcore::LAPCORE_ISA {
namespace {

constexpr double kLog2Pi = 1.8378770664093454836;

template <class C>
struct Likelihood {
    Input<C> x, mean, logvar;
    std::int64_t length;
    double* parts;
    Sum16 sum{};

    struct Terms {
        const C *x, *mean, *logvar;

        template <class Place, class V = typename Place::V>
        LAPCORE_INLINE V of(const Place& at) const {
            const V l = at.load(logvar);
            const V whitened = scaled(difference<C>(at.load(x), at.load(mean)), root_of<C>(l * C(-0.25)).exp());
            const V square = whitened * whitened;
            // Off its mean a vanishing variance gives no density: +inf, though logvar is -inf.
            return select(square == C(HUGE_VAL), square, square + l);
        }
    };

    Terms read(const RowTile& t) {
        return {x.tile(t.row, t.first, t.n), mean.tile(t.row, t.first, t.n), logvar.tile(t.row, t.first, t.n)};
    }

    void tile(const RowTile& t) {
        const Terms terms = read(t);
        Sum16 local = sum;  // in registers
        over_places<C>(t.n, false, [&](auto at) LAPCORE_INLINE_LAMBDA { local.add(at.i, terms.of(at)); });
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
            void tile(const RowTile& t) {
                const Terms terms = likelihood.read(t);
                lapcore::LAPCORE_ISA::one_by_one<C>(0, t.n, [&](auto at) {
                    const auto of_place = terms.of(at);
                    const C* const lanes = reinterpret_cast<const C*>(&of_place);
                    for (std::size_t i = 0; i < sizeof of_place / sizeof(C); ++i) value = combined(value, lanes[i]);
                });
            }
            void chunk(std::int64_t) {}
        } total{*this};
        over_tiles_and_chunks(length, c, c + 1, total);
        return total.value;
    }
};

template <class C>
void nll(const GaussianCall& call, const Rows& x, const Rows& mean, const Rows& logvar, void* out) {
    std::vector<double> parts(std::size_t(call.rows * chunks_of(call.length)));
    over_chunks(call.rows, call.length, call.threads, [&](std::int64_t first, std::int64_t last) {
        Likelihood<C> likelihood{{call.dtype, x}, {call.dtype, mean}, {call.dtype, logvar}, call.length, parts.data()};
        over_tiles_and_chunks(call.length, first, last, likelihood);
    });
    finish_rows<C>(call, parts, kLog2Pi, out);
}

template <class C>
struct LikelihoodBackward {
    const C* grad;
    Input<C> x, mean, logvar;
    Output<C> d_x, d_mean, d_logvar;
    bool large;

    void tile(const RowTile& t) {
        const C *a = x.tile(t.row, t.first, t.n), *b = mean.tile(t.row, t.first, t.n);
        const C* lv = logvar.tile(t.row, t.first, t.n);
        C *out_x = d_x.tile(t.row, t.first, t.n), *out_mean = d_mean.tile(t.row, t.first, t.n);
        C* out_logvar = d_logvar.tile(t.row, t.first, t.n);
        const C g = grad[t.row];
        const bool used = !(g == 0);
        over_places<C>(t.n, large && aligned(out_x, out_mean, out_logvar), [&](auto at) LAPCORE_INLINE_LAMBDA {
            using V = typename decltype(at)::V;
            const V root = root_of<C>(at.load(lv) * C(-0.25)).exp();
            const V whitened = scaled(difference<C>(at.load(a), at.load(b)), root);
            const V to_x = chain_row<C>(g, used, scaled(whitened, root));
            const V to_logvar = chain_row<C>(g, used, (C(1) - whitened * whitened) * C(0.5));
            at.store(out_x, to_x);
            at.store(out_mean, -to_x);
            at.store(out_logvar, to_logvar);
        });
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
        over_tiles_and_chunks(call.length, first, last, backward);
        if (large) stream_fence();
    });
}

}  // namespace
}  // namespace lapcore::LAPCORE_ISA
