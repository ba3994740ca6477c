// Parzen windows: a streaming logsumexp over tiles of the product with the samples. Half a squared distance is
// |x|^2 / 2 plus the score |mu|^2 / 2 - x . mu. The sample of least score is the nearest for every sigma, so that one
// running least serves the sums of sixteen sigmas: of the sixteen lanes that share a row, each keeps that of its own.
// Then the parts of the samples that blocks went through are added up in their order. A thread's leasts and sums lie in
// shared memory, for the product takes the registers.
//
// Where depth is small the exponentials bound it, one for each row, sample and sigma.
#include <cfloat>
#include <cmath>
#include <stdexcept>

#include "common/math.h"
#include "cuda/launch.h"
#include "cuda/parzen.h"
#include "cuda/tile_product.h"

namespace lapcore::cuda {
namespace {

constexpr int kSigmas = kTileLanes;  // of one launch

template <class S>
constexpr S kFar = sizeof(S) == 8 ? S(DBL_MAX) : S(FLT_MAX);

template <class S>
struct Problem {
    Matrix<S> rows, samples;
    int depth, row_tiles;
    bool packed;
    Parts parts;
    const S *row_norms, *sample_norms;
    int sigmas;
    S precision[kSigmas];                              // 1 / sigma^2
    double exact_precision[kSigmas], offset[kSigmas];  // the latter -D ln(sigma sqrt(2 pi)) - ln M
    S *least, *sums, *likelihoods;                     // (parts, N), (parts, sigmas, N), (sigmas, N)
};

// How much a term whose score exceeds the least counts.
template <class S>
__device__ S share(S excess, S precision) {
    return exp_of(-(excess * precision));
}

template <class S>
__device__ S least_of_lanes(S value) {
#pragma unroll
    for (int d = kTileLanes / 2; d > 0; d /= 2) {
        const S other = __shfl_xor_sync(kWarp, value, d);
        value = other < value ? other : value;
    }
    return value;
}

template <class S>
__device__ S sum_of_lanes(S value) {
#pragma unroll
    for (int d = kTileLanes / 2; d > 0; d /= 2) value += __shfl_xor_sync(kWarp, value, d);
    return value;
}

// Takes one tile's scores of a row into its least and into the sum of this lane's sigma. broken: NaN if a sample of
// this lane's is, else 0.
template <class S, int kMine>
__device__ void add_up(const Problem<S>& problem, const S (&score)[kMine], S broken, S& least, S& sum) {
    S lower = kFar<S>;
#pragma unroll
    for (int j = 0; j < kMine; ++j) lower = score[j] < lower ? score[j] : lower;
    lower = least_of_lanes(lower);
    lower = lower < least ? lower : least;
    const int lane = threadIdx.x % kTileLanes;
    S mine = sum * share(least - lower, problem.precision[lane]);
    least = lower;
#pragma unroll 1
    for (int s = 0; s < problem.sigmas; ++s) {
        S tile = broken;
#pragma unroll
        for (int j = 0; j < kMine; ++j) tile += share(score[j] - lower, problem.precision[s]);
        tile = sum_of_lanes(tile);
        mine += lane == s ? tile : S(0);
    }
    sum = mine;
}

template <class S>
__global__ void __launch_bounds__(kTileThreads, 2) parzen_kernel(const __grid_constant__ Problem<S> problem) {
    using Product = TileProduct<S>;
    constexpr int kMine = Product::kMine;
    __shared__ typename Product::Memory memory;
    __shared__ S least[kMine][kTileThreads], sums[kMine][kTileThreads];  // what each thread alone writes and reads
    const TileJob job(problem.parts, problem.row_tiles);
    const int across = threadIdx.x % kTileLanes, down = threadIdx.x / kTileLanes;
    Product product(memory, problem.rows, problem.samples, problem.depth, problem.packed);
#pragma unroll
    for (int i = 0; i < kMine; ++i) least[i][threadIdx.x] = kFar<S>, sums[i][threadIdx.x] = 0;
#pragma unroll 1
    for (int tile = job.first; tile < job.end; ++tile) {
        S score[kMine][kMine];
        product.multiply(job.row, tile, score);
        S broken = 0;
#pragma unroll
        for (int j = 0; j < kMine; ++j) {
            const std::int64_t sample = std::int64_t{tile} * Product::kSide + Product::place(across, j);
            const S infinity = HUGE_VALF;
            const S norm = sample < problem.samples.rows ? problem.sample_norms[sample] : infinity;
            broken = norm == norm ? broken : norm;
#pragma unroll
            for (int i = 0; i < kMine; ++i) {
                const S value = norm - score[i][j];
                score[i][j] = fabs(value) <= kFar<S> ? value : infinity;  // out of reach, or not there
            }
        }
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
            add_up(problem, score[i], broken, least[i][threadIdx.x], sums[i][threadIdx.x]);
        }
    }
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
        const std::int64_t rows = problem.rows.rows;
        const std::int64_t row = std::int64_t{job.row} * Product::kSide + Product::place(down, i);
        if (row >= rows) continue;
        if (across == 0) problem.least[job.part * rows + row] = least[i][threadIdx.x];
        if (across < problem.sigmas) {
            problem.sums[(std::int64_t{job.part} * problem.sigmas + across) * rows + row] = sums[i][threadIdx.x];
        }
    }
}

// A thread for each row and sigma.
template <class S>
__global__ void __launch_bounds__(kTileThreads) likelihood_kernel(const __grid_constant__ Problem<S> problem) {
    const std::int64_t rows = problem.rows.rows, at = std::int64_t{blockIdx.x} * kTileThreads + threadIdx.x;
    if (at >= rows * problem.sigmas) return;
    const std::int64_t row = at % rows;
    const int s = static_cast<int>(at / rows);
    const S precision = problem.precision[s];
    S least = kFar<S>;
#pragma unroll 4
    for (int part = 0; part < problem.parts.count; ++part) {
        const S other = problem.least[part * rows + row];
        least = other < least ? other : least;
    }
    double sum = 0;
#pragma unroll 4
    for (int part = 0; part < problem.parts.count; ++part) {
        const S scale = share(problem.least[part * rows + row] - least, precision);
        sum += double(problem.sums[(std::int64_t{part} * problem.sigmas + s) * rows + row]) * double(scale);
    }
    const S norm = problem.row_norms[row];
    const double distance = double(least) + double(norm);
    double half = least < kFar<S> ? (distance < 0 ? 0 : distance) : HUGE_VAL;
    half = norm == norm ? half : double(norm);
    problem.likelihoods[at] = static_cast<S>(log(sum) + problem.offset[s] - half * problem.exact_precision[s]);
}

// As the Python reference: inside the normal numbers, so that it makes no NaN of a zero or of an infinity.
template <class S>
S precision_of(double sigma) {
    constexpr double kLeast = sizeof(S) == 8 ? DBL_MIN : FLT_MIN, kMost = kFar<S>;
    const double precision = 1 / sigma / sigma;
    return static_cast<S>(precision < kLeast ? kLeast : precision > kMost ? kMost : precision);
}

template <class S>
std::int64_t bytes_of_work(std::int64_t rows, std::int64_t samples, std::int64_t sigmas) {
    const std::int64_t at_once = sigmas < kSigmas ? sigmas : kSigmas;
    return sizeof(S) * (rows + samples + Parts::of<S>(samples).count * rows * (1 + at_once));
}

template <class S>
void norms_of(void* stream, const Matrix<S>& matrix, int depth, S* norms) {
    const HalfNorms<S> half{matrix, depth, norms};
    launch(half_norms_kernel<S>, (matrix.rows + kTileThreads - 1) / kTileThreads, kTileThreads, stream, half);
}

template <class S>
void likelihood(void* stream, const View& x, const View& samples, const std::vector<double>& sigmas, S* out, S* work) {
    Problem<S> problem{};
    problem.rows = matrix_of<S>(x);
    problem.samples = matrix_of<S>(samples);
    problem.depth = static_cast<int>(x.width());
    problem.row_tiles = static_cast<int>(tiles_of<S>(problem.rows.rows));
    problem.packed = problem.rows.packed() && problem.samples.packed();
    problem.parts = Parts::of<S>(problem.samples.rows);
    const std::int64_t rows = problem.rows.rows;
    problem.row_norms = work;
    problem.sample_norms = work + rows;
    problem.least = work + rows + problem.samples.rows;
    problem.sums = problem.least + problem.parts.count * rows;
    norms_of(stream, problem.rows, problem.depth, work);
    norms_of(stream, problem.samples, problem.depth, work + rows);
    for (std::size_t first = 0; first < sigmas.size(); first += kSigmas) {
        const std::size_t left = sigmas.size() - first;
        problem.sigmas = static_cast<int>(left < kSigmas ? left : kSigmas);
        for (int s = 0; s < problem.sigmas; ++s) {
            const double sigma = sigmas[first + s], dimensions = problem.depth;
            constexpr double kHalfLogTwoPi = 0.91893853320467274178;
            problem.precision[s] = precision_of<S>(sigma);
            problem.exact_precision[s] = precision_of<double>(sigma);
            problem.offset[s] = -dimensions * (std::log(sigma) + kHalfLogTwoPi) - std::log(problem.samples.rows);
        }
        problem.likelihoods = out + static_cast<std::int64_t>(first) * rows;
        launch(parzen_kernel<S>, std::int64_t{problem.row_tiles} * problem.parts.count, kTileThreads, stream, problem);
        const std::int64_t results = rows * problem.sigmas;
        launch(likelihood_kernel<S>, (results + kTileThreads - 1) / kTileThreads, kTileThreads, stream, problem);
    }
}

// run(S{}) for the S of dtype.
template <class Run>
auto with_type(DType dtype, const Run& run) {
    switch (dtype) {
        case DType::float32: return run(float{});
        case DType::float64: return run(double{});
        default: throw std::invalid_argument("dtype: the Parzen kernels take float32 and float64");
    }
}

}  // namespace

std::int64_t parzen_work(DType dtype, std::int64_t rows, std::int64_t samples, std::int64_t sigmas) {
    return with_type(dtype, [&](auto s) { return bytes_of_work<decltype(s)>(rows, samples, sigmas); });
}

void parzen_log_likelihood(DType dtype, void* stream, const View& x, const View& samples,
                           const std::vector<double>& sigmas, void* out, void* work) {
    with_type(dtype, [&](auto s) {
        using S = decltype(s);
        likelihood<S>(stream, x, samples, sigmas, static_cast<S*>(out), static_cast<S*>(work));
    });
}

}  // namespace lapcore::cuda
