// Gates and concatenated ELUs: one pass over memory. The formulas are in common/activations.h.
#include "common/activations.h"

#include "cpu/chunks.h"
#include "cpu/masked_conv_terms.h"

namespace lapcore::LAPCORE_ISA {
namespace {

// Images in rows, each of two halves of `half` elements, or of one.
struct Images {
    DType dtype;
    int threads;
    std::int64_t rows, half;

    Rows whole(const void* data) const { return {const_cast<void*>(data), half}; }
    Rows first(const void* data) const { return {const_cast<void*>(data), 2 * half}; }
    Rows second(const void* data) const {
        return {static_cast<char*>(const_cast<void*>(data)) + half * bytes_of(dtype), 2 * half};
    }
};

// Calls body(place, in, out) for all elements of rows, with the pointers to tiles of them.
template <class C, std::size_t kIn, std::size_t kOut, class Body>
void one_pass_in(const Images& images, const Rows (&in)[kIn], const Rows (&out)[kOut], const Body& body) {
    over_chunks(images.rows, images.half, images.threads, [&](std::int64_t first, std::int64_t last) {
        std::vector<Input<C>> inputs;
        std::vector<Output<C>> outputs;
        inputs.reserve(kIn);
        outputs.reserve(kOut);
        for (const Rows& rows : in) inputs.emplace_back(images.dtype, rows);
        for (const Rows& rows : out) outputs.emplace_back(images.dtype, rows);
        over_tiles(images.half, first, last, [&](const RowTile& tile) {
            const C* from[kIn];
            C* to[kOut];
            for (std::size_t i = 0; i < kIn; ++i) from[i] = inputs[i].tile(tile.row, tile.first, tile.n);
            for (std::size_t i = 0; i < kOut; ++i) to[i] = outputs[i].tile(tile.row, tile.first, tile.n);
            over_places<C>(tile.n, [&](const auto& place) LAPCORE_INLINE_LAMBDA { body(place, from, to); });
            for (Output<C>& output : outputs) output.finish();
        });
    });
}

template <std::size_t kIn, std::size_t kOut, class Body>
void one_pass(const Images& images, const Rows (&in)[kIn], const Rows (&out)[kOut], const Body& body) {
    if (images.dtype == DType::float64) return one_pass_in<double>(images, in, out, body);
    one_pass_in<float>(images, in, out, body);
}

template <First kFirst>
void gate(const Images& images, const void* x, void* y) {
    one_pass(images, {images.first(x), images.second(x)}, {images.whole(y)},
             [](const auto& at, const auto* const* in, auto* const* out)
                 LAPCORE_INLINE_LAMBDA { at.store(out[0], gated<kFirst>(at.load(in[0]), at.load(in[1]))); });
}

template <First kFirst>
void gate_backward(const Images& images, const void* grad, const void* x, void* dx) {
    one_pass(images, {images.whole(grad), images.first(x), images.second(x)}, {images.first(dx), images.second(dx)},
             [](const auto& at, const auto* const* in, auto* const* out) LAPCORE_INLINE_LAMBDA {
                 const auto d = gated_backward<kFirst>(at.load(in[0]), at.load(in[1]), at.load(in[2]));
                 at.store(out[0], d.first);
                 at.store(out[1], d.second);
             });
}

}  // namespace

void gated_activation(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half, const void* x,
                      void* y) {
    const Images images{dtype, threads, rows, half};
    first == First::tanh ? gate<First::tanh>(images, x, y) : gate<First::identity>(images, x, y);
}

void gated_activation_backward(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half,
                               const void* grad, const void* x, void* dx) {
    const Images images{dtype, threads, rows, half};
    first == First::tanh ? gate_backward<First::tanh>(images, grad, x, dx)
                         : gate_backward<First::identity>(images, grad, x, dx);
}

void concat_elu(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* x, void* y) {
    const Images images{dtype, threads, rows, half};
    one_pass(images, {images.whole(x)}, {images.first(y), images.second(y)},
             [](const auto& at, const auto* const* in, auto* const* out) LAPCORE_INLINE_LAMBDA {
                 const auto elu = lapcore::concat_elu(at.load(in[0]));
                 at.store(out[0], elu.first);
                 at.store(out[1], elu.second);
             });
}

void concat_elu_backward(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* grad,
                         const void* x, void* dx) {
    const Images images{dtype, threads, rows, half};
    one_pass(images, {images.first(grad), images.second(grad), images.whole(x)}, {images.whole(dx)},
             [](const auto& at, const auto* const* in, auto* const* out) LAPCORE_INLINE_LAMBDA {
                 at.store(out[0], lapcore::concat_elu_backward(at.load(in[0]), at.load(in[1]), at.load(in[2])));
             });
}

}  // namespace lapcore::LAPCORE_ISA
