// Gates and concatenated ELUs: one pass over memory, four neighbouring values of each half at a time.
#include "common/floats.h"
#include "cuda/activations.h"
#include "cuda/chunks.h"
#include "cuda/launch.h"

namespace lapcore::cuda {
namespace {

template <First kFirst>
struct Gate {
    static constexpr int kInputs = 2, kOutputs = 1;
    template <class S>
    __device__ static void apply(const S (&in)[kInputs], S (&out)[kOutputs]) {
        out[0] = gated<kFirst>(in[0], in[1]);
    }
};

template <First kFirst>
struct GateBackward {
    static constexpr int kInputs = 3, kOutputs = 2;
    template <class S>
    __device__ static void apply(const S (&in)[kInputs], S (&out)[kOutputs]) {
        const Halves<S> d = gated_backward<kFirst>(in[0], in[1], in[2]);
        out[0] = d.first;
        out[1] = d.second;
    }
};

struct ConcatElu {
    static constexpr int kInputs = 1, kOutputs = 2;
    template <class S>
    __device__ static void apply(const S (&in)[kInputs], S (&out)[kOutputs]) {
        const Halves<S> y = lapcore::concat_elu(in[0]);
        out[0] = y.first;
        out[1] = y.second;
    }
};

struct ConcatEluBackward {
    static constexpr int kInputs = 3, kOutputs = 1;
    template <class S>
    __device__ static void apply(const S (&in)[kInputs], S (&out)[kOutputs]) {
        out[0] = lapcore::concat_elu_backward(in[0], in[1], in[2]);
    }
};

template <class Function, class T>
struct Problem {
    std::int64_t packs, packs_of_row, length;
    RowsOf<const T> in[Function::kInputs];
    RowsOf<T> out[Function::kOutputs];
};

constexpr int kThreads = 256;

// A thread has a pack of neighbouring values, or, where these are not aligned, one value.
template <class Function, bool kPacked, class T>
__global__ void __launch_bounds__(kThreads) activation_kernel(const __grid_constant__ Problem<Function, T> p) {
    constexpr int kInputs = Function::kInputs, kOutputs = Function::kOutputs, kWidth = kPacked ? kFour : 1;
    const std::int64_t number = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
    if (number >= p.packs) return;
    // A 64-bit division would take longer than all else here.
    const bool small = (number | p.packs_of_row) >> 32 == 0;
    const std::int64_t row = small ? static_cast<std::uint32_t>(number) / static_cast<std::uint32_t>(p.packs_of_row)
                                   : number / p.packs_of_row;
    const std::int64_t pack = number - row * p.packs_of_row;
    Sum<T> in[kWidth][kInputs], out[kWidth][kOutputs];
#pragma unroll
    for (int i = 0; i < kInputs; ++i) {
        if constexpr (kPacked) {
            const Four<Sum<T>> four = read_four<true>(p.in[i].row(row), pack, p.length);
#pragma unroll
            for (int k = 0; k < kFour; ++k) in[k][i] = four.e[k];
        } else {
            in[0][i] = loaded(p.in[i].row(row).data[pack]);
        }
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) Function::apply(in[k], out[k]);
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
        if constexpr (kPacked) {
            Four<Sum<T>> four;
#pragma unroll
            for (int k = 0; k < kFour; ++k) four.e[k] = out[k][o];
            write_four<true>(p.out[o].row(row), pack, p.length, four);
        } else {
            p.out[o].row(row).data[pack] = stored<T>(out[0][o]);
        }
    }
}

// The halves of rows, as many as there are.
template <class T, int kCount>
struct HalvesOf {
    Rows rows;
    static constexpr int count = kCount;
    RowsOf<T> half(int i, std::int64_t length) const { return {static_cast<T*>(rows.data) + i * length, rows.stride}; }
};

template <class Function, class T, class... Inputs, class Output>
void run(const ActivationCall& call, const Output& output, const Inputs&... inputs) {
    Problem<Function, T> p{};
    int count = 0;
    const auto add = [&](const auto& rows) {
        for (int i = 0; i < rows.count; ++i) p.in[count++] = rows.half(i, call.length);
    };
    (add(inputs), ...);
    for (int i = 0; i < output.count; ++i) p.out[i] = output.half(i, call.length);
    const auto start = [&](auto* kernel, int width) {
        p.length = call.length;
        p.packs_of_row = call.length / width;
        p.packs = call.rows * p.packs_of_row;
        launch(kernel, (p.packs + kThreads - 1) / kThreads, kThreads, call.stream, p);
    };
    if constexpr (sizeof(T) < sizeof(double)) {  // of which a pack's values would not fit in the registers
        const bool whole = (packed<T>(inputs.rows, call.length) && ... && packed<T>(output.rows, call.length));
        if (whole) return start(activation_kernel<Function, true, T>, kFour);
    }
    start(activation_kernel<Function, false, T>, 1);
}

template <class T, int kCount>
HalvesOf<T, kCount> made(const ActivationCall& call, void* data) {
    return {{data, kCount * call.length}};
}

}  // namespace

void gated_activation(const ActivationCall& call, First first, const Rows& x, void* y) {
    with_float(call.dtype, [&](auto t) {
        using T = decltype(t);
        const HalvesOf<const T, 2> in{x};
        const auto out = made<T, 1>(call, y);
        first == First::tanh ? run<Gate<First::tanh>, T>(call, out, in) : run<Gate<First::identity>, T>(call, out, in);
    });
}

void gated_activation_backward(const ActivationCall& call, First first, const Rows& grad, const Rows& x, void* dx) {
    with_float(call.dtype, [&](auto t) {
        using T = decltype(t);
        const HalvesOf<const T, 1> d_y{grad};
        const HalvesOf<const T, 2> in{x};
        const auto out = made<T, 2>(call, dx);
        first == First::tanh ? run<GateBackward<First::tanh>, T>(call, out, d_y, in)
                             : run<GateBackward<First::identity>, T>(call, out, d_y, in);
    });
}

void concat_elu(const ActivationCall& call, const Rows& x, void* y) {
    with_float(call.dtype, [&](auto t) {
        using T = decltype(t);
        run<ConcatElu, T>(call, made<T, 2>(call, y), HalvesOf<const T, 1>{x});
    });
}

void concat_elu_backward(const ActivationCall& call, const Rows& grad, const Rows& x, void* dx) {
    with_float(call.dtype, [&](auto t) {
        using T = decltype(t);
        run<ConcatEluBackward, T>(call, made<T, 1>(call, dx), HalvesOf<const T, 2>{grad}, HalvesOf<const T, 1>{x});
    });
}

}  // namespace lapcore::cuda
