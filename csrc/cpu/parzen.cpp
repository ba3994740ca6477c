// Parzen windows: LL(x) = logmeanexp_i(-||x - mu_i||^2 / (2 sigma^2)) - D ln(sigma sqrt(2 pi)). The rows of x are the
// lanes of a tile of inner products, the samples stream past them: half a squared distance is
// |x|^2 / 2 + |mu|^2 / 2 - x . mu, x and mu relative to the samples' mean, which keeps what cancels small.
//
// Products are summed up in float32 over kFlush steps at most, everything else is float64 (all of it for float64). A
// row meets the samples in one order, in spans that depend on M alone: its result is the same in every batch and on
// any number of threads.
#include "cpu/parzen.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/floats.h"
#include "cpu/buffer.h"
#include "cpu/convert.h"
#include "cpu/log_sum_exp.h"
#include "cpu/matrix.h"
#include "cpu/threads.h"
#include "cpu/typed_elements.h"

namespace lapcore::LAPCORE_ISA {

namespace {

constexpr std::int64_t kFlush = 256;
constexpr std::int64_t kRowsPerTask = 512;
constexpr std::int64_t kSpanSamples = 4096, kMostSpans = 16;

// dots (tiles * kTileRows, kTileColumns) in float64: of rows of a, whose depth blocks lie one after the other, each
// with all its tiles.
template <class C>
void inner_products(const C* a, std::int64_t tiles, const C* b, std::int64_t depth, double* dots) {
    constexpr std::int64_t size = kTileRows * kTileColumns<C>;
    std::fill_n(dots, tiles * size, 0.0);
    for (std::int64_t k = 0; k < depth; k += kFlush) {
        for (std::int64_t t = 0; t < tiles; ++t) {
            Tile<C> sums{};
            add_product(a + (k / kDepth * tiles + t) * kBlock, tiles * kBlock, b + k * kTileColumns<C>,
                        std::min(kFlush, depth - k), sums);
            C from[size];
            std::memcpy(from, &sums, sizeof from);
            for (std::int64_t i = 0; i < size; ++i) dots[t * size + i] += double(from[i]);
        }
    }
}

// The mean of the rows in the type of the arithmetic, zero where it is not finite.
template <class C>
std::vector<C> centre_of(DType dtype, const View& view, int threads) {
    constexpr std::int64_t columns = 128;
    const std::int64_t depth = view.width();
    std::vector<C> centre(std::size_t(depth), C{});
    parallel_for((depth + columns - 1) / columns, threads, [&](std::int64_t task) {
        const std::int64_t first = task * columns, n = std::min(columns, depth - first);
        C row[columns];
        double total[columns]{};
        for (std::int64_t i = 0; i < view.shape[0]; ++i) {
            load_elements(dtype, view.data, i * view.strides[0] + first, 1, n, row);
            for (std::int64_t k = 0; k < n; ++k) total[k] += double(row[k]);
        }
        for (std::int64_t k = 0; k < n; ++k) {
            const double mean = total[k] / double(view.shape[0]);
            if (std::isfinite(mean)) centre[std::size_t(first + k)] = C(mean);
        }
    });
    return centre;
}

// Rows relative to a centre. norms: |row|^2 / 2; where that is not finite the row counts as zero, infinitely far away.
template <class C>
class Centred {
public:
    Centred(DType dtype, const View& view, const std::vector<C>& centre, int threads)
        : dtype_(dtype), view_(view), centre_(centre), norms_(std::size_t(view.shape[0])) {
        constexpr std::int64_t rows = 64;
        parallel_for((count() + rows - 1) / rows, threads, [&](std::int64_t task) {
            std::vector<C> row(std::size_t(depth()), C{});
            for (std::int64_t i = task * rows; i < std::min(count(), (task + 1) * rows); ++i) {
                load(i, 0, depth(), row.data());
                double square = 0;
                for (const C x : row) square += double(x) * double(x);
                norms_[std::size_t(i)] =
                    C(square) <= std::numeric_limits<C>::max() || std::isnan(square) ? square / 2 : HUGE_VAL;
            }
        });
    }

    std::int64_t count() const { return view_.shape[0]; }
    std::int64_t depth() const { return view_.width(); }
    double norm(std::int64_t i) const { return norms_[std::size_t(i)]; }

    void read(std::int64_t i, std::int64_t first, std::int64_t n, C* to) const {
        if (!std::isfinite(norm(i))) {
            std::fill_n(to, n, C{});
        } else {
            load(i, first, n, to);
        }
    }

    bool any_nan() const {
        return std::any_of(norms_.begin(), norms_.end(), [](double norm) { return std::isnan(norm); });
    }

private:
    void load(std::int64_t i, std::int64_t first, std::int64_t n, C* to) const {
        load_elements(dtype_, view_.data, i * view_.strides[0] + first, 1, n, to);
        const C* const centre = centre_.data() + first;
        for (std::int64_t k = 0; k < n; ++k) to[k] -= centre[k];
    }

    DType dtype_;
    View view_;
    const std::vector<C>& centre_;
    std::vector<double> norms_;
};

template <class C>
class Parzen {
public:
    Parzen(DType dtype, const View& x, const View& samples, const std::vector<double>& sigmas, int threads)
        : threads_(threads),
          centre_(centre_of<C>(dtype, samples, threads)),
          x_(dtype, x, centre_, threads),
          samples_(dtype, samples, centre_, threads),
          windows_(sigmas),
          spans_(std::clamp(samples.shape[0] / kSpanSamples, std::int64_t{1}, kMostSpans)) {}

    void run(C* result) {
        const std::int64_t rows = x_.count(), each = rows_per_task(), blocks = (rows + each - 1) / each;
        const std::int64_t shares = blocks < threads_ ? spans_ : 1;  // of the spans, each for a task
        std::vector<LogSums<C>> found(std::size_t(blocks * shares), LogSums<C>(0, 0));
        parallel_for(blocks * shares, threads_, [&](std::int64_t task) {
            const std::int64_t first = task / shares * each, share = task % shares;
            found[std::size_t(task)] =
                sums(first, std::min(each, rows - first), share * spans_ / shares, (share + 1) * spans_ / shares);
            if (shares == 1) finish(first, found[std::size_t(task)], result);
        });
        for (std::int64_t task = 0; shares > 1 && task < blocks * shares; ++task) {
            LogSums<C>& total = found[std::size_t(task / shares * shares)];
            if (task % shares) total.merge(windows_, found[std::size_t(task)]);
            if (task % shares + 1 == shares) finish(task / shares * each, total, result);
        }
    }

private:
    std::int64_t rows_per_task() const {
        const std::int64_t fair = (x_.count() + 2 * threads_ - 1) / (2 * threads_), tile = kTileColumns<C>;
        return std::clamp((fair + tile - 1) / tile * tile, tile, kRowsPerTask);
    }

    // The sums of `count` rows over some of the spans, merged in order.
    LogSums<C> sums(std::int64_t first, std::int64_t count, std::int64_t first_span, std::int64_t last_span) const {
        const std::int64_t depth = x_.depth(), panels = (count + kTileColumns<C> - 1) / kTileColumns<C>;
        const std::int64_t panel = blocks_of(depth) * kDepth * kTileColumns<C>;
        const Buffer<C> columns(panels * panel), rows(kGroup / kTileRows * blocks_of(depth) * kBlock);
        for (std::int64_t p = 0; p < panels; ++p) {
            const std::int64_t from = first + p * kTileColumns<C>;
            pack_columns(std::min(kTileColumns<C>, first + count - from), depth, columns.get() + p * panel,
                         [&](std::int64_t i, std::int64_t k, std::int64_t n, C* to) { x_.read(from + i, k, n, to); });
        }
        const std::int64_t groups = (samples_.count() + kGroup - 1) / kGroup;
        LogSums<C> total(panels * kTileColumns<C>, windows_.size());
        for (std::int64_t span = first_span; span < last_span; ++span) {
            LogSums<C> part(total.rows, windows_.size());
            for (std::int64_t group = span * groups / spans_; group < (span + 1) * groups / spans_; ++group)
                add_group(first, count, group * kGroup, columns.get(), panel, rows.get(), part);
            total.merge(windows_, part);
        }
        return total;
    }

    // The terms of kGroup samples, or of fewer at the end.
    void add_group(std::int64_t first, std::int64_t count, std::int64_t sample, const C* columns, std::int64_t panel,
                   C* rows, LogSums<C>& sums) const {
        constexpr std::int64_t tiles = kGroup / kTileRows;
        const std::int64_t depth = x_.depth(), left = std::min(kGroup, samples_.count() - sample);
        pack_rows(left, kGroup, depth, kBlock, tiles * kBlock, rows,
                  [&](std::int64_t i, std::int64_t k, std::int64_t n, C* to) { samples_.read(sample + i, k, n, to); });
        alignas(kVectorBytes) double dots[kGroup * kTileColumns<C>];
        alignas(kVectorBytes) C halves[kGroup * kTileColumns<C>];
        for (std::int64_t p = 0; p * kTileColumns<C> < count; ++p) {
            inner_products(rows, tiles, columns + p * panel, depth, dots);
            const std::int64_t from = first + p * kTileColumns<C>;
            double norms[kTileColumns<C>]{};
            for (std::int64_t j = 0; j < std::min(kTileColumns<C>, first + count - from); ++j)
                norms[j] = x_.norm(from + j);
            for (std::int64_t i = 0; i < kGroup; ++i) {
                const double norm = i < left ? samples_.norm(sample + i) : HUGE_VAL;
                for (std::int64_t j = 0; j < kTileColumns<C>; ++j) {
                    const double half = norms[j] + norm - dots[i * kTileColumns<C> + j];
                    halves[i * kTileColumns<C> + j] = C(half > 0 ? half : 0);
                }
            }
            sums.add(windows_, halves, p * kTileColumns<C>);
        }
    }

    void finish(std::int64_t first, LogSums<C>& sums, C* result) const {
        const bool broken = samples_.any_nan();
        for (std::int64_t s = 0; s < windows_.size(); ++s) {
            const double scale =
                double(x_.depth()) * (std::log(windows_.sigma(s)) + kHalfLogTwoPi) + std::log(double(samples_.count()));
            for (std::int64_t i = 0; i < std::min(sums.rows, x_.count() - first); ++i) {
                const double exponent = -double(sums.least[std::size_t(i)]) * windows_.precision(s);
                const bool nan = broken || std::isnan(x_.norm(first + i));
                result[windows_.place(s) * x_.count() + first + i] =
                    nan ? std::numeric_limits<C>::quiet_NaN() : C(exponent + std::log(sums.sums_of(s)[i]) - scale);
            }
        }
    }

    static constexpr double kHalfLogTwoPi = 0.91893853320467274178;

    int threads_;
    std::vector<C> centre_;
    Centred<C> x_, samples_;
    Windows<C> windows_;
    std::int64_t spans_;
};

}  // namespace

extern const ParzenKernels parzen_kernels;
const ParzenKernels parzen_kernels{
    [](DType dtype, int threads, const View& x, const View& samples, const std::vector<double>& sigmas, void* result) {
        with_computed(dtype, [&](auto zero) {
            using C = decltype(zero);
            Parzen<C>(dtype, x, samples, sigmas, threads).run(static_cast<C*>(result));
        });
    },
};

}  // namespace lapcore::LAPCORE_ISA
