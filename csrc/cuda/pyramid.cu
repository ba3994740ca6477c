// One pyramid operator on a GPU: separable, one tile of outputs at a time.
//
// A block combines source rows into lines of shared memory, one for each row of its tile, then the samples of each line
// into outputs. Interior outputs have their taps in closed form; those of the few outputs near an end come in a table
// from the host, so that the kernel needs no local memory. Sums are taken in the order of csrc/cpu/rows.h (and compiled
// with -fmad=false): the results are the cpu backend's, to the bit, and do not depend on the batch or on the card.
#include <algorithm>

#include "common/half.h"
#include "cuda/launch.h"
#include "cuda/pyramid.h"

namespace lapcore::cuda {
namespace {

constexpr int kTileW = 32, kTileH = 8, kThreads = 128;
constexpr int kResident = 8;  // blocks that a multiprocessor holds at once, at the least
constexpr int kWaves = 4;  // times that the blocks of a large launch fill the card; each takes tiles until none is left
constexpr int kMaxLeading = 6;
constexpr int kMaxEnds = 8;
constexpr int kPad = 2;

// Outputs [lo, hi) of an axis read a whole stencil inside the line, and no folded border sample lands on them.
struct Interior {
    std::int64_t lo, hi;
    LAPCORE_HD bool has(std::int64_t i) const { return i >= lo && i < hi; }
};

bool decimates(Op op) { return op == Op::down || op == Op::up_adjoint; }
bool is_forward(Op op) { return op == Op::down || op == Op::up; }

Interior interior(Op op, std::int64_t n_dst) {
    const std::int64_t margin = decimates(op) ? 2 : 4;
    return {margin, std::max(margin, n_dst - margin)};
}

template <class C>
struct EndTaps {
    int count;
    bool symmetric;  // samples of equal weight can be paired up
    std::int64_t index[kMaxTaps];
    C weight[kMaxTaps];
};

template <class C>
struct Axis {
    std::int64_t n_src, n_dst;
    Interior inside;
    C unit;  // the weights of the interior are 1, 4 and 6 of these
    EndTaps<C> ends[kMaxEnds];
    std::int64_t pad[2 * kPad];  // the samples that stand before and after the line
};

template <class C>
bool is_symmetric(int count, const C* w) {
    return (count == 5 && w[0] == w[4] && w[1] == w[3]) || (count == 3 && w[0] == w[2]) || (count == 2 && w[0] == w[1]);
}

template <class C>
Axis<C> axis_of(Op op, std::int64_t n_src, std::int64_t n_dst, Border border) {
    Axis<C> axis{n_src, n_dst, interior(op, n_dst), C(op == Op::down || op == Op::down_adjoint ? 1.0 / 16 : 1.0 / 8),
                 {},    {}};
    const std::int64_t inner = axis.inside.hi - axis.inside.lo;
    for (int e = 0; e < kMaxEnds && e < n_dst - inner; ++e) {
        const Taps taps = taps_of(op, e < axis.inside.lo ? e : e + inner, n_src, n_dst, border);
        EndTaps<C>& end = axis.ends[e];
        end.count = taps.count;
        for (int k = 0; k < taps.count; ++k) {
            end.index[k] = taps.index[k];
            end.weight[k] = static_cast<C>(taps.weight[k]);
        }
        end.symmetric = is_symmetric(end.count, end.weight);
    }
    return axis;
}

// Along a row forward operators continue the line by the border rule and are one stencil throughout.
template <class C>
Axis<C> padded_axis_of(Op op, std::int64_t n_src, std::int64_t n_dst, Border border) {
    Axis<C> axis = axis_of<C>(op, n_src, n_dst, border);
    if (is_forward(op)) axis.inside = {0, n_dst};
    for (int p = 0; p < 2 * kPad; ++p) {
        const std::int64_t beyond = p < kPad ? p - kPad : n_src + p - kPad;
        axis.pad[p] = op == Op::up ? up_index(beyond, n_src, border) : border_index(beyond, n_src, border);
    }
    return axis;
}

// The leading dimensions that src and base share.
struct Leading {
    int count = 0;
    std::int64_t size[kMaxLeading], src[kMaxLeading], base[kMaxLeading];
};

Leading merged_leading(const View& src, const View* base) {
    Leading lead;
    for (std::size_t d = 0; d + 2 < src.shape.size(); ++d) {
        const std::int64_t size = src.shape[d], s = src.strides[d], b = base ? base->strides[d] : 0;
        if (size == 1) continue;
        int& n = lead.count;
        if (n > 0 && lead.src[n - 1] == s * size && lead.base[n - 1] == b * size) {
            lead.size[n - 1] *= size;
        } else {
            if (n == kMaxLeading) {
                throw std::invalid_argument("src: more than 6 leading dimensions that cannot be merged");
            }
            lead.size[n++] = size;
        }
        lead.src[n - 1] = s;
        lead.base[n - 1] = b;
    }
    return lead;
}

template <class T>
struct Plane {
    const T* data;
    std::int64_t row_stride, column_stride;
    __device__ Compute<T> operator()(std::int64_t y, std::int64_t x) const {
        return widen(data[y * row_stride + x * column_stride]);
    }
};

template <class T>
struct Problem {
    Axis<Compute<T>> rows, columns;
    Leading leading;
    std::int64_t tiles;
    Plane<T> src, base;  // of the first image; base.data may be null
    Compute<T> alpha;
    T* dst;
};

template <class C>
__device__ C pair_up(C a, C b, C c, C d, C e, C w0, C w1, C w2) {
    return ((a + e) * w0 + (b + d) * w1) + c * w2;
}

template <class C>
__device__ C pair_up(C a, C b, C c, C w0, C w1) {
    return (a + c) * w0 + b * w1;
}

template <class C>
__device__ C pair_up(C a, C b, C w) {
    return (a + b) * w;
}

template <bool kDecimates, class C, class Sample>
__device__ C inner_sum(C unit, std::int64_t i, const Sample& sample) {
    if constexpr (kDecimates) {
        const std::int64_t j = 2 * i;
        return pair_up(sample(j - 2), sample(j - 1), sample(j), sample(j + 1), sample(j + 2), unit, 4 * unit, 6 * unit);
    } else {
        const std::int64_t j = i / 2;
        if (i % 2 == 0) return pair_up(sample(j - 1), sample(j), sample(j + 1), unit, 6 * unit);
        return pair_up(sample(j), sample(j + 1), 4 * unit);
    }
}

template <class C, class Sample>
__device__ C plain_sum(const EndTaps<C>& taps, const Sample& sample) {
    C sum = 0;
#pragma unroll 1
    for (int k = 0; k < taps.count; ++k) sum += sample(taps.index[k]) * taps.weight[k];
    return sum;
}

template <class C, class Sample>
__device__ C paired_sum(const EndTaps<C>& taps, const Sample& sample) {
    if (!taps.symmetric) return plain_sum(taps, sample);
    const auto s = [&](int k) { return sample(taps.index[k]); };
    const C* w = taps.weight;
    if (taps.count == 5) return pair_up(s(0), s(1), s(2), s(3), s(4), w[0], w[1], w[2]);
    if (taps.count == 3) return pair_up(s(0), s(1), s(2), w[0], w[1]);
    return pair_up(s(0), s(1), w[0]);
}

template <class C>
__device__ const EndTaps<C>& end_of(const Axis<C>& axis, std::int64_t i) {
    return axis.ends[i < axis.inside.lo ? i : i - (axis.inside.hi - axis.inside.lo)];
}

// Sample x of the line that output row y is made of.
template <bool kDecimates, class T>
__device__ Compute<T> line_sample(const Axis<Compute<T>>& rows, const Plane<T>& src, std::int64_t y, std::int64_t x) {
    const auto sample = [&](std::int64_t row) { return src(row, x); };
    if (rows.inside.has(y)) return inner_sum<kDecimates>(rows.unit, y, sample);
    return paired_sum(end_of(rows, y), sample);
}

// The sample that stands at x of a line which goes on by kPad at either end; kOutside beyond.
template <class C>
__device__ std::int64_t padded_index(const Axis<C>& axis, std::int64_t x) {
    if (x >= 0 && x < axis.n_src) return x;
    const std::int64_t p = x < 0 ? x + kPad : x - axis.n_src + kPad;
    return p < 2 * kPad ? axis.pad[p] : kOutside;
}

template <class T, bool kDecimates>
__global__ void __launch_bounds__(kThreads, kResident) pyramid_kernel(const __grid_constant__ Problem<T> problem) {
    using C = Compute<T>;
    // What the inner outputs of a tile read of a line.
    constexpr int kSpan = kDecimates ? 2 * kTileW + 3 : kTileW / 2 + 2;
    __shared__ C line[kTileH][kSpan];

    const Axis<C>&rows = problem.rows, &columns = problem.columns;
    const std::int64_t tiles_w = (columns.n_dst + kTileW - 1) / kTileW, tiles_h = (rows.n_dst + kTileH - 1) / kTileH;
    for (std::int64_t tile = blockIdx.x; tile < problem.tiles; tile += gridDim.x) {
        const std::int64_t plane = tile / tiles_w / tiles_h;
        const std::int64_t top = tile / tiles_w % tiles_h * kTileH, left = tile % tiles_w * kTileW;
        const std::int64_t first = kDecimates ? 2 * left - 2 : left / 2 - 1;

        Plane<T> src = problem.src, base = problem.base;
        std::int64_t rest = plane;
        for (int d = problem.leading.count; d-- > 0; rest /= problem.leading.size[d]) {
            const std::int64_t i = rest % problem.leading.size[d];
            src.data += i * problem.leading.src[d];
            if (base.data) base.data += i * problem.leading.base[d];
        }

#pragma unroll 1
        for (int e = threadIdx.x; e < kTileH * kSpan; e += kThreads) {
            const int r = e / kSpan, s = e % kSpan;
            const std::int64_t y = top + r, x = padded_index(columns, first + s);
            line[r][s] = y < rows.n_dst && x != kOutside ? line_sample<kDecimates>(rows, src, y, x) : C(0);
        }
        __syncthreads();

#pragma unroll 1
        for (int e = threadIdx.x; e < kTileH * kTileW; e += kThreads) {
            const int r = e / kTileW;
            const std::int64_t y = top + r, x = left + e % kTileW;
            if (y >= rows.n_dst || x >= columns.n_dst) continue;
            C value;
            if (columns.inside.has(x)) {
                value = inner_sum<kDecimates>(columns.unit, x, [&](std::int64_t j) { return line[r][j - first]; });
            } else {
                // The transpose of a circular border reads the far end of the line, which another tile has.
                value = plain_sum(end_of(columns, x), [&](std::int64_t j) {
                    const bool here = j >= first && j < first + kSpan;
                    return here ? line[r][j - first] : line_sample<kDecimates>(rows, src, y, j);
                });
            }
            if (base.data) value = base(y, x) + problem.alpha * value;
            narrow(value, problem.dst[(plane * rows.n_dst + y) * columns.n_dst + x]);
        }
        __syncthreads();
    }
}

template <class T>
Plane<T> first_plane(const View& view) {
    return {static_cast<const T*>(view.data), view.row_stride(), view.column_stride()};
}

template <class T>
void apply(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, void* dst,
           std::int64_t height, std::int64_t width) {
    using C = Compute<T>;
    const std::int64_t tiles = src.planes() * ((height + kTileH - 1) / kTileH) * ((width + kTileW - 1) / kTileW);
    if (tiles == 0) return;
    const Problem<T> problem{axis_of<C>(op, src.height(), height, call.border),
                             padded_axis_of<C>(op, src.width(), width, call.border),
                             merged_leading(src, base),
                             tiles,
                             first_plane<T>(src),
                             base ? first_plane<T>(*base) : Plane<T>{},
                             static_cast<C>(alpha),
                             static_cast<T*>(dst)};
    const std::int64_t blocks = std::min(tiles, std::int64_t{kWaves} * kResident * multiprocessors());
    launch(decimates(op) ? pyramid_kernel<T, true> : pyramid_kernel<T, false>, blocks, kThreads, call.stream, problem);
}

}  // namespace

void pyramid_apply(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, void* dst,
                   std::int64_t height, std::int64_t width) {
    switch (call.dtype) {
        case DType::float16: return apply<Half>(call, op, src, base, alpha, dst, height, width);
        case DType::bfloat16: return apply<BFloat16>(call, op, src, base, alpha, dst, height, width);
        case DType::float32: return apply<float>(call, op, src, base, alpha, dst, height, width);
        case DType::float64: return apply<double>(call, op, src, base, alpha, dst, height, width);
    }
}

}  // namespace lapcore::cuda
