// One level of a Laplacian pyramid: low-pass and band in one pass over the rows, while those it needs are in the cache.
// Included once per instruction set.
#pragma once

#include <cstdint>

#include "cpu/worker.h"

namespace lapcore::LAPCORE_ISA {

constexpr std::int64_t kFusedWidth = 512;  // of rows that take long enough to be worth their set-up

template <class F>
struct Level {
    Size size, low;
    bool wraps;  // rows need others from the far end
    Operator<F> down, up;
    Level(Size size, Border border)
        : size(size),
          low(size.half()),
          wraps(border == Border::circular),
          down(operator_of<F>(Op::down, size, low, border)),
          up(operator_of<F>(Op::up, low, size, border)) {}
};

// The rows that row m of the low-pass and the two rows of the band before it are made of. False where one lies in a
// border of zeros.
template <class F>
bool find_level_rows(const Level<F>& level, std::int64_t m, const Rows<typename F::Sample>& source,
                     const Rows<typename F::Sample>& low, LevelRows<F>& rows) {
    const std::int64_t before = level.up.rows.source(m - 2);
    if (before == kOutside) return false;
    for (int k = 0; k < 5; ++k) {
        const std::int64_t y = level.down.rows.source(2 * m - 2 + k);
        if (y == kOutside) return false;
        rows.source[k] = source(y);
    }
    rows.low[0] = low(before);
    rows.low[1] = low(m - 1);
    return true;
}

// Row m of the low-pass, into `out`, and the rows 2m - 2 and 2m - 1 of the band.
template <class F>
void level_step(const Level<F>& level, std::int64_t m, Rows<typename F::Sample>& source, Rows<typename F::Sample>& low,
                const Target<typename F::Sample>& out, const Target<typename F::Band>& band, Worker<F>& worker,
                bool streamed) {
    const std::int64_t y = 2 * m - 2;
    if constexpr (kFused<F>) {
        LevelRows<F> rows;
        if (find_level_rows(level, m, source, low, rows)) {
            rows.out = out.row(m, 0);
            for (int r = 0; r < 2; ++r) rows.band[r] = band.row(y + r, r);
            run_level(level.down, level.up, rows, streamed && band.in_place(), source.ahead());
            for (int r = 0; r < 2; ++r) band.done(y + r, rows.band[r]);
            return;
        }
    }
    worker.run(level.down, m, m + 1, source, out);
    worker.run(level.up, -1, y, y + 2, low, source, band, streamed);
}

// A level of a whole plane, whose low-pass goes into a plane of samples or, rounded, of half precision.
// bands.target(begin) is where rows of the band from `begin` on go, and bands.done(begin, end) is called when they are
// there.
template <class F, class Bands>
void level_plane(const Level<F>& level, Rows<typename F::Sample>& source, const Plane& low, Worker<F>& worker,
                 const Bands& bands, bool streamed) {
    using S = typename F::Sample;
    Rows<S> low_rows = worker.rows(low, level.low.w, 1);
    const std::int64_t rows = level.low.h, height = level.size.h;
    const auto run_down = [&](std::int64_t first, std::int64_t last) {
        worker.run(level.down, first, last, source, worker.template target<S>(low, level.low.w));
    };
    const auto run_bands = [&](std::int64_t first, std::int64_t last) {
        worker.run(level.up, -1, first, last, low_rows, source, bands.target(first), streamed);
        bands.done(first, last);
    };
    if (kFused<F> && level.size.w >= kFusedWidth && !level.wraps && low.holds<S>()) {
        run_down(0, 1);
        const Target<S> out = worker.template target<S>(low, level.low.w);
        for (std::int64_t m = 1; m < rows; ++m) {
            level_step(level, m, source, low_rows, out, bands.target(2 * m - 2), worker, streamed);
            bands.done(2 * m - 2, 2 * m);
        }
        return run_bands(2 * rows - 2, height);
    }
    const std::int64_t step = level.wraps ? rows : std::max<std::int64_t>(1, worker.block_rows() / 2);
    const std::int64_t band_step = worker.block_rows();
    for (std::int64_t m = 0, next = 0; m < rows; m += step) {
        const std::int64_t end = std::min(rows, m + step);
        run_down(m, end);
        const std::int64_t limit = end == rows ? height : std::max(next, 2 * (end - 1));
        for (; next < limit; next = std::min(limit, next + band_step))
            run_bands(next, std::min(limit, next + band_step));
    }
}

// The bands of a plane in memory.
template <class F>
struct StoredBands {
    Target<typename F::Band> rows;

    const Target<typename F::Band>& target(std::int64_t) const { return rows; }
    void done(std::int64_t, std::int64_t) const {}
};

}  // namespace lapcore::LAPCORE_ISA
