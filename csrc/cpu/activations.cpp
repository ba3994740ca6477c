// Gates and concatenated ELUs: one pass over memory.
#include "cpu/activations.h"

#include "cpu/chunks.h"
#include "cpu/elements.h"
#include "cpu/tile_functions.h"

namespace lapcore::LAPCORE_ISA {

const TileFunctions<float> float_functions = kTileFunctions<float>;
const TileFunctions<double> double_functions = kTileFunctions<double>;

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

// The tensors that a function has; the others are null.
struct Arguments {
    Rows in[3], out[2];
};

template <class C>
void one_pass_in(const Images& images, TileFunction<C> function, const Arguments& arguments) {
    over_chunks(images.rows, images.half, images.threads, [&](std::int64_t first, std::int64_t last) {
        const DType dtype = images.dtype;
        Input<C> in[]{{dtype, arguments.in[0]}, {dtype, arguments.in[1]}, {dtype, arguments.in[2]}};
        Output<C> out[]{{dtype, arguments.out[0]}, {dtype, arguments.out[1]}};
        over_tiles(images.half, first, last, [&](const RowTile& t) {
            const C* const from[]{in[0].tile(t.row, t.first, t.n), in[1].tile(t.row, t.first, t.n),
                                  in[2].tile(t.row, t.first, t.n)};
            C* const to[]{out[0].tile(t.row, t.first, t.n), out[1].tile(t.row, t.first, t.n)};
            function(t.n, from, to);
            for (Output<C>& output : out) output.finish();
        });
    });
}

// Of the function that choose(functions) gives, of floats or doubles.
template <class Choose>
void one_pass(const Images& images, const Choose& choose, const Arguments& arguments) {
    with_computed(images.dtype, [&](auto zero) {
        using C = decltype(zero);
        one_pass_in<C>(images, choose(tile_functions<C>()), arguments);
    });
}

}  // namespace

void gated_activation(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half, const void* x,
                      void* y) {
    const Images images{dtype, threads, rows, half};
    one_pass(images, [&](const auto& functions) { return functions.gate[int(first)]; },
             {{images.first(x), images.second(x)}, {images.whole(y)}});
}

void gated_activation_backward(DType dtype, int threads, First first, std::int64_t rows, std::int64_t half,
                               const void* grad, const void* x, void* dx) {
    const Images images{dtype, threads, rows, half};
    one_pass(images, [&](const auto& functions) { return functions.gate_backward[int(first)]; },
             {{images.whole(grad), images.first(x), images.second(x)}, {images.first(dx), images.second(dx)}});
}

void concat_elu(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* x, void* y) {
    const Images images{dtype, threads, rows, half};
    one_pass(images, [](const auto& functions) { return functions.concat_elu; },
             {{images.whole(x)}, {images.first(y), images.second(y)}});
}

void concat_elu_backward(DType dtype, int threads, std::int64_t rows, std::int64_t half, const void* grad,
                         const void* x, void* dx) {
    const Images images{dtype, threads, rows, half};
    one_pass(images, [](const auto& functions) { return functions.concat_elu_backward; },
             {{images.first(grad), images.second(grad), images.whole(x)}, {images.whole(dx)}});
}

}  // namespace lapcore::LAPCORE_ISA
