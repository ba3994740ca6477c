// The activations of tiles. The formulas are in common/activations.h.
#pragma once

#include "common/activations.h"
#include "cpu/activations.h"
#include "cpu/elements.h"

namespace lapcore::LAPCORE_ISA {
namespace {

template <class C, class Body>
LAPCORE_INLINE void over_elements(std::int64_t n, const Body& body) {
    if constexpr (std::is_same_v<C, double>) {
        one_by_one<C>(0, n, body);
    } else {
        over_places<C>(n, false, body);
    }
}

template <class C, First kFirst>
void gate(std::int64_t n, const C* const* in, C* const* out) {
    over_elements<C>(n, [&](const auto& at)
                            LAPCORE_INLINE_LAMBDA { at.store(out[0], gated<kFirst>(at.load(in[0]), at.load(in[1]))); });
}

template <class C, First kFirst>
void gate_backward(std::int64_t n, const C* const* in, C* const* out) {
    over_elements<C>(n, [&](const auto& at) LAPCORE_INLINE_LAMBDA {
        const auto d = gated_backward<kFirst>(at.load(in[0]), at.load(in[1]), at.load(in[2]));
        at.store(out[0], d.first);
        at.store(out[1], d.second);
    });
}

template <class C>
void elu(std::int64_t n, const C* const* in, C* const* out) {
    over_elements<C>(n, [&](const auto& at) LAPCORE_INLINE_LAMBDA {
        const auto both = lapcore::concat_elu(at.load(in[0]));
        at.store(out[0], both.first);
        at.store(out[1], both.second);
    });
}

template <class C>
void elu_backward(std::int64_t n, const C* const* in, C* const* out) {
    over_elements<C>(n, [&](const auto& at) LAPCORE_INLINE_LAMBDA {
        at.store(out[0], lapcore::concat_elu_backward(at.load(in[0]), at.load(in[1]), at.load(in[2])));
    });
}

template <class C>
constexpr TileFunctions<C> kTileFunctions{{gate<C, First::tanh>, gate<C, First::identity>},
                                          {gate_backward<C, First::tanh>, gate_backward<C, First::identity>},
                                          elu<C>,
                                          elu_backward<C>};

}  // namespace
}  // namespace lapcore::LAPCORE_ISA
