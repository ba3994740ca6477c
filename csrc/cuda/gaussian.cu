// Diagonal Gaussians on a GPU in one pass over memory: a lane reads four elements of each tensor, draws their noise in
// registers, and writes what comes of them.
//
// Sums: four terms in a tree, a lane's in float64, those of the lanes of a chunk by halves, then a row's chunks, each
// in an order that the length of a row alone determines: the same bits for every batch and card.
#include <initializer_list>

#include "common/floats.h"
#include "cuda/gaussian.h"
#include "cuda/launch.h"
#include "cuda/moments.h"
#include "cuda/noise.h"

namespace lapcore::cuda {
namespace {

constexpr double kLog2Pi = 1.8378770664093454836;

// That a multiprocessor holds at once: in the registers that this leaves nothing spills.
template <class T, bool kPacked>
constexpr int kBlocks = sizeof(T) == 8 ? 4
                        : kPacked      ? 7
                                       : 5;

template <class T>
struct MomentsOf {
    RowsOf<T> mean, logvar, prior_mean, prior_logvar;

    __device__ MomentsOf row(std::int64_t i) const {
        return {mean.row(i), logvar.row(i), prior_mean.row(i), prior_logvar.row(i)};
    }
};

template <class T>
MomentsOf<T> moments_of(const Moments& m) {
    return {rows_of<T>(m.mean), rows_of<T>(m.logvar), rows_of<T>(m.prior_mean), rows_of<T>(m.prior_logvar)};
}

// Where the sums of rows go: `each` for every element is added, and the half of all is the result.
template <class C>
struct Sums {
    C* out;
    double* parts;  // of chunks, where a row has several
    double each;

    __device__ C result(double total, std::int64_t length) const {
        return static_cast<C>((total + each * static_cast<double>(length)) * 0.5);
    }
};

template <class C>
__device__ C sum_of_four(const C (&term)[kFour]) {
    return combined(combined(term[0], term[1]), combined(term[2], term[3]));
}

// Of the lanes of a chunk, whose first writes it. All lanes of the warp come here.
template <class C>
__device__ void store_sum(const Sums<C>& sums, const Chunks& chunks, const ChunkLane& lane, double total) {
#pragma unroll 1
    for (int d = chunks.lanes / 2; d > 0; d /= 2) total = combined(total, __shfl_xor_sync(kWarp, total, d));
    if (!lane.exists || lane.lane != 0) return;
    if (chunks.of_row == 1) {
        sums.out[lane.row] = sums.result(total, chunks.length);
    } else {
        sums.parts[lane.chunk] = total;
    }
}

template <class C>
struct Finish {
    Sums<C> sums;
    std::int64_t of_row, length;
};

// A block for each row: the chunks in each thread's order, then by halves.
template <class C>
__global__ void __launch_bounds__(kChunkThreads) finish_kernel(const __grid_constant__ Finish<C> problem) {
    __shared__ double sums[kChunkThreads];
    const int thread = static_cast<int>(threadIdx.x);
    const double* const parts = problem.sums.parts + std::int64_t{blockIdx.x} * problem.of_row;
    double total = 0;
#pragma unroll 4
    for (std::int64_t i = thread; i < problem.of_row; i += kChunkThreads) total = combined(total, parts[i]);
    sums[thread] = total;
#pragma unroll 1
    for (int half = kChunkThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) sums[thread] = combined(sums[thread], sums[thread + half]);
    }
    if (thread == 0) problem.sums.out[blockIdx.x] = problem.sums.result(sums[0], problem.length);
}

template <class C>
void finish(const GaussianCall& call, const Chunks& chunks, const Sums<C>& sums) {
    if (chunks.of_row == 1) return;
    launch(finish_kernel<C>, chunks.rows, kChunkThreads, call.stream, Finish<C>{sums, chunks.of_row, chunks.length});
}

template <bool kPacked, class T>
__device__ Four<Sum<T>> read_or_zero(const RowsOf<const T>& row, std::int64_t pack, std::int64_t length) {
    return row ? read_four<kPacked>(row, pack, length) : Four<Sum<T>>{};
}

// The moments of four elements.
template <class T, bool kPrior, bool kPacked>
struct FourMoments {
    using C = Sum<T>;
    Four<C> mean, logvar, prior_mean{}, prior_logvar{};

    __device__ FourMoments(const MomentsOf<const T>& m, std::int64_t pack, std::int64_t length)
        : mean(read_four<kPacked>(m.mean, pack, length)), logvar(read_four<kPacked>(m.logvar, pack, length)) {
        if constexpr (kPrior) {
            prior_mean = read_or_zero<kPacked>(m.prior_mean, pack, length);
            prior_logvar = read_or_zero<kPacked>(m.prior_logvar, pack, length);
        }
    }
    __device__ Compared<C, kPrior> compare(int k) const {
        return {mean.e[k], logvar.e[k], prior_mean.e[k], prior_logvar.e[k]};
    }
};

template <class T>
struct Forward {
    Chunks chunks;
    Noise noise;
    MomentsOf<const T> moments;
    RowsOf<T> z;
    Sums<Sum<T>> kl;
};

template <class T, bool kPrior, bool kPacked>
__global__ void __launch_bounds__(kChunkThreads, kBlocks<T, kPacked>)
    forward_kernel(const __grid_constant__ Forward<T> problem) {
    using C = Sum<T>;
    const Chunks& chunks = problem.chunks;
    const ChunkLane lane(chunks);
    const RowNoise noise(problem.noise, lane.row, chunks.length, lane.exists);
    const MomentsOf<const T> moments = problem.moments.row(lane.row);
    const RowsOf<T> z_row = problem.z.row(lane.row);
    double total = 0;
    lane.each(chunks, [&](std::int64_t pack) {
        const FourMoments<T, kPrior, kPacked> m(moments, pack, chunks.length);
        Four<C> root;
        C term[kFour];
#pragma unroll
        for (int k = 0; k < kFour; ++k) {
            const auto compared = m.compare(k);
            term[k] = compared.term();
            root.e[k] = compared.root_of_logvar(m.logvar.e[k]);
        }
        total += static_cast<double>((term[0] + term[1]) + (term[2] + term[3]));
        if (!z_row) return;
        const auto drawn = noise.template draw<Distribution::normal, kPacked>(pack);
        Four<C> z;
#pragma unroll
        for (int k = 0; k < kFour; ++k) z.e[k] = m.mean.e[k] + scaled(C(drawn.e[k]), root.e[k]);
        write_four<kPacked>(z_row, pack, chunks.length, z);
    });
    if (problem.kl.out) store_sum(problem.kl, chunks, lane, total);
}

template <class T>
struct Backward {
    Chunks chunks;
    Noise noise;
    MomentsOf<const T> moments;
    RowsOf<const T> grad_z;
    const Sum<T>* grad_kl;
    MomentsOf<T> gradients;
};

template <class T, bool kPrior, bool kPacked>
__global__ void __launch_bounds__(kChunkThreads, kBlocks<T, kPacked> - kPrior)
    backward_kernel(const __grid_constant__ Backward<T> problem) {
    using C = Sum<T>;
    const Chunks& chunks = problem.chunks;
    const ChunkLane lane(chunks);
    const MomentsOf<T> gradients = problem.gradients.row(lane.row);
    const RowsOf<const T> grad_z = problem.grad_z.row(lane.row);
    const RowNoise noise(problem.noise, lane.row, chunks.length, lane.exists);
    const MomentsOf<const T> moments = problem.moments.row(lane.row);
    const C grad = problem.grad_kl && lane.exists ? problem.grad_kl[lane.row] : C(0);
    lane.each(chunks, [&](std::int64_t pack) {
        const auto write = [&](const RowsOf<T>& row, const Four<C>& four) {
            if (row) write_four<kPacked>(row, pack, chunks.length, four);
        };
        const FourMoments<T, kPrior, kPacked> m(moments, pack, chunks.length);
        Four<C> to_mean, to_logvar, to_prior_mean, to_prior_logvar, root;
#pragma unroll
        for (int k = 0; k < kFour; ++k) {
            const auto compared = m.compare(k);
            to_mean.e[k] = chain(grad, compared.d_mean());
            to_logvar.e[k] = chain(grad, compared.expm1 * C(0.5));
            to_prior_mean.e[k] = -to_mean.e[k];
            to_prior_logvar.e[k] = chain(grad, C(-0.5) * (compared.expm1 + compared.whitened * compared.whitened));
            root.e[k] = compared.root_of_logvar(m.logvar.e[k]);
        }
        if constexpr (kPrior) {
            write(gradients.prior_mean, to_prior_mean);
            write(gradients.prior_logvar, to_prior_logvar);
        }
        if (grad_z) {
            const auto drawn = noise.template draw<Distribution::normal, kPacked>(pack);
            const auto dz = read_four<kPacked>(grad_z, pack, chunks.length);
#pragma unroll
            for (int k = 0; k < kFour; ++k) {
                to_mean.e[k] += dz.e[k];
                to_logvar.e[k] += chain(dz.e[k], scaled(C(drawn.e[k]), root.e[k]) * C(0.5));
            }
        }
        write(gradients.mean, to_mean);
        write(gradients.logvar, to_logvar);
    });
}

// x, mean and logvar of a likelihood.
template <class T>
struct Likelihood {
    Chunks chunks;
    RowsOf<const T> x, mean, logvar;

    __device__ Likelihood row(std::int64_t i) const { return {chunks, x.row(i), mean.row(i), logvar.row(i)}; }
};

// logvar, (x - mean) e^(-logvar/2) and e^(-logvar/4) of four elements.
template <class T, bool kPacked>
struct Whitened {
    using C = Sum<T>;
    Four<C> logvar, whitened, root;

    __device__ Whitened(const Likelihood<T>& row, std::int64_t pack)
        : logvar(read_four<kPacked>(row.logvar, pack, row.chunks.length)) {
        const auto x = read_four<kPacked>(row.x, pack, row.chunks.length);
        const auto mean = read_four<kPacked>(row.mean, pack, row.chunks.length);
#pragma unroll
        for (int k = 0; k < kFour; ++k) {
            root.e[k] = root_of(logvar.e[k] * C(-0.25)).exp;
            whitened.e[k] = scaled(difference(x.e[k], mean.e[k]), root.e[k]);
        }
    }
};

template <class T>
struct Nll {
    Likelihood<T> given;
    Sums<Sum<T>> nll;
};

template <class T, bool kPacked>
__global__ void __launch_bounds__(kChunkThreads, kBlocks<T, kPacked>)
    nll_kernel(const __grid_constant__ Nll<T> problem) {
    using C = Sum<T>;
    const Chunks& chunks = problem.given.chunks;
    const ChunkLane lane(chunks);
    const Likelihood<T> given = problem.given.row(lane.row);
    double total = 0;
    lane.each(chunks, [&](std::int64_t pack) {
        const Whitened<T, kPacked> it(given, pack);
        C term[kFour];
        // Off its mean a vanishing variance gives no density: inf, though logvar is -inf.
#pragma unroll
        for (int k = 0; k < kFour; ++k) term[k] = combined(it.whitened.e[k] * it.whitened.e[k], it.logvar.e[k]);
        total = combined(total, static_cast<double>(sum_of_four(term)));
    });
    store_sum(problem.nll, chunks, lane, total);
}

template <class T>
struct NllBackward {
    Likelihood<T> given;
    const Sum<T>* grad;
    RowsOf<T> d_x, d_mean, d_logvar;
};

template <class T, bool kPacked>
__global__ void __launch_bounds__(kChunkThreads, kBlocks<T, kPacked>)
    nll_backward_kernel(const __grid_constant__ NllBackward<T> problem) {
    using C = Sum<T>;
    const Chunks& chunks = problem.given.chunks;
    const ChunkLane lane(chunks);
    const Likelihood<T> given = problem.given.row(lane.row);
    const RowsOf<T> d_x = problem.d_x.row(lane.row), d_mean = problem.d_mean.row(lane.row);
    const RowsOf<T> d_logvar = problem.d_logvar.row(lane.row);
    const C grad = lane.exists ? problem.grad[lane.row] : C(0);
    lane.each(chunks, [&](std::int64_t pack) {
        const Whitened<T, kPacked> it(given, pack);
        Four<C> to_x, to_mean, to_logvar;
#pragma unroll
        for (int k = 0; k < kFour; ++k) {
            const C whitened = it.whitened.e[k];
            to_x.e[k] = chain(grad, scaled(whitened, it.root.e[k]));
            to_mean.e[k] = -to_x.e[k];
            to_logvar.e[k] = chain(grad, (1 - whitened * whitened) * C(0.5));
        }
        write_four<kPacked>(d_x, pack, chunks.length, to_x);
        write_four<kPacked>(d_mean, pack, chunks.length, to_mean);
        write_four<kPacked>(d_logvar, pack, chunks.length, to_logvar);
    });
}

template <class T>
bool all_packed(std::initializer_list<Rows> tensors, std::int64_t length) {
    for (const Rows& rows : tensors)
        if (rows.data && !packed<T>(rows, length)) return false;
    return true;
}

template <class T>
void forward(const GaussianCall& call, const Moments& m, const Seeds& seeds, void* z, void* kl, double* parts) {
    const Chunks chunks = chunks_of(call.rows, call.length);
    const Rows out{z, call.length};
    const bool prior = m.prior_mean.data || m.prior_logvar.data;
    const bool whole = all_packed<T>({m.mean, m.logvar, m.prior_mean, m.prior_logvar, out}, call.length);
    const Sums<Sum<T>> sums{static_cast<Sum<T>*>(kl), parts, 0};
    const Forward<T> problem{chunks, noise_of(seeds), moments_of<const T>(m), rows_of<T>(out), sums};
    const auto kernel = prior ? (whole ? forward_kernel<T, true, true> : forward_kernel<T, true, false>)
                              : (whole ? forward_kernel<T, false, true> : forward_kernel<T, false, false>);
    launch(kernel, chunks.blocks(), kChunkThreads, call.stream, problem);
    if (kl) finish(call, chunks, sums);
}

template <class T>
void backward(const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& m, const Seeds& seeds,
              const Moments& out) {
    const Chunks chunks = chunks_of(call.rows, call.length);
    const bool prior = m.prior_mean.data || m.prior_logvar.data;
    const bool whole = all_packed<T>({grad_z, m.mean, m.logvar, m.prior_mean, m.prior_logvar, out.mean, out.logvar,
                                      out.prior_mean, out.prior_logvar},
                                     call.length);
    const Backward<T> problem{chunks,
                              noise_of(seeds),
                              moments_of<const T>(m),
                              rows_of<const T>(grad_z),
                              static_cast<const Sum<T>*>(grad_kl),
                              moments_of<T>(out)};
    const auto kernel = prior ? (whole ? backward_kernel<T, true, true> : backward_kernel<T, true, false>)
                              : (whole ? backward_kernel<T, false, true> : backward_kernel<T, false, false>);
    launch(kernel, chunks.blocks(), kChunkThreads, call.stream, problem);
}

template <class T>
void nll(const GaussianCall& call, const Rows& x, const Rows& mean, const Rows& logvar, void* out, double* parts) {
    const Chunks chunks = chunks_of(call.rows, call.length);
    const Sums<Sum<T>> sums{static_cast<Sum<T>*>(out), parts, kLog2Pi};
    const Nll<T> problem{{chunks, rows_of<const T>(x), rows_of<const T>(mean), rows_of<const T>(logvar)}, sums};
    const bool whole = all_packed<T>({x, mean, logvar}, call.length);
    launch(whole ? nll_kernel<T, true> : nll_kernel<T, false>, chunks.blocks(), kChunkThreads, call.stream, problem);
    finish(call, chunks, sums);
}

template <class T>
void nll_backward(const GaussianCall& call, const void* grad, const Rows& x, const Rows& mean, const Rows& logvar,
                  const Rows& d_x, const Rows& d_mean, const Rows& d_logvar) {
    const Chunks chunks = chunks_of(call.rows, call.length);
    const NllBackward<T> problem{{chunks, rows_of<const T>(x), rows_of<const T>(mean), rows_of<const T>(logvar)},
                                 static_cast<const Sum<T>*>(grad),
                                 rows_of<T>(d_x),
                                 rows_of<T>(d_mean),
                                 rows_of<T>(d_logvar)};
    const bool whole = all_packed<T>({x, mean, logvar, d_x, d_mean, d_logvar}, call.length);
    launch(whole ? nll_backward_kernel<T, true> : nll_backward_kernel<T, false>, chunks.blocks(), kChunkThreads,
           call.stream, problem);
}

}  // namespace

std::int64_t gaussian_parts(std::int64_t rows, std::int64_t length) {
    const Chunks chunks = chunks_of(rows, length);
    return chunks.of_row == 1 ? 0 : chunks.count();
}

void gaussian_forward(const GaussianCall& call, const Moments& moments, const Seeds& seeds, void* z, void* kl,
                      double* parts) {
    with_float(call.dtype, [&](auto v) { forward<decltype(v)>(call, moments, seeds, z, kl, parts); });
}

void gaussian_backward(const GaussianCall& call, const Rows& grad_z, const void* grad_kl, const Moments& moments,
                       const Seeds& seeds, const Moments& gradients) {
    with_float(call.dtype, [&](auto v) { backward<decltype(v)>(call, grad_z, grad_kl, moments, seeds, gradients); });
}

void gaussian_nll(const GaussianCall& call, const Rows& x, const Rows& mean, const Rows& logvar, void* out,
                  double* parts) {
    with_float(call.dtype, [&](auto v) { nll<decltype(v)>(call, x, mean, logvar, out, parts); });
}

void gaussian_nll_backward(const GaussianCall& call, const void* grad, const Rows& x, const Rows& mean,
                           const Rows& logvar, void* d_x, void* d_mean, void* d_logvar) {
    const auto out = [&](void* data) { return Rows{data, call.length}; };
    with_float(call.dtype, [&](auto v) {
        nll_backward<decltype(v)>(call, grad, x, mean, logvar, out(d_x), out(d_mean), out(d_logvar));
    });
}

}  // namespace lapcore::cuda
