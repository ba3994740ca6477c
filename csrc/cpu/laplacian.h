// One level of a Laplacian pyramid: low-pass and band in one pass over the rows, while those it needs are in the cache.
// Included once per instruction set.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/worker.h"

namespace lapcore::LAPCORE_ISA {

constexpr std::int64_t kFusedWidth = 512;  // of rows that take long enough to be worth their set-up

template <class C>
struct Level {
    Size size, low;
    bool wraps;  // rows need others from the far end
    Operator<C> down, up;
    Level(Size size, Border border)
        : size(size),
          low(size.half()),
          wraps(border == Border::circular),
          down(operator_of<C>(Op::down, size, low, border)),
          up(operator_of<C>(Op::up, low, size, border)) {}
};

// The rows of the low-pass that a strip reads: its own, and a few others that it computes once more for itself, so that
// strips need not wait for each other.
template <class T>
class LowRows {
public:
    using C = Sum<T>;

    explicit LowRows(Rows<T> own) : own_(own) {}

    const C* operator()(std::int64_t m) {
        for (const auto& other : others_)
            if (other.row == m) return other.data.get();
        return own_(m);
    }

    std::int64_t block_rows() const { return own_.block_rows(); }

    bool has(std::int64_t m) const {
        for (const auto& other : others_)
            if (other.row == m) return true;
        return false;
    }

    C* add(std::int64_t m, std::int64_t width) {
        others_.push_back({m, Buffer<C>(width)});
        return others_.back().data.get();
    }

private:
    struct Other {
        std::int64_t row;
        Buffer<C> data;
    };
    Rows<T> own_;
    std::vector<Other> others_;
};

// A row of sums as it reads once it has been stored as T.
template <class T>
void round_row(Sum<T>* row, std::int64_t n) {
    if constexpr (!std::is_same_v<T, Sum<T>>) {
        T stored;
        for (std::int64_t i = 0; i < n; ++i) {
            put(row[i], stored);
            load_strided<1>(&stored, 1, row + i);
        }
    }
}

// The low-pass rows outside [first, last), or further ahead than the strip will be, that rows of the band read.
template <class T, class Source>
void add_other_rows(const Level<Sum<T>>& level, std::int64_t first, std::int64_t last, Source& source, LowRows<T>& low,
                    Worker<T>& worker) {
    if (first == 0 && last == level.low.h && !level.wraps) return;
    const std::int64_t begin = 2 * first, end = std::min(2 * last, level.size.h);
    for (std::int64_t i = begin; i < end; i = (i == begin + 1 && end - begin > 4) ? end - 2 : i + 1) {
        const ShiftedTaps taps = level.up.rows(i);
        for (int k = 0; k < taps.count(); ++k) {
            const std::int64_t m = taps.index(k);
            if ((m >= first && m < last && m <= i / 2 + 1) || low.has(m)) continue;
            NoBase none;
            const Plane<Sum<T>> row{low.add(m, level.low.w) - m * level.low.w, level.low.w, 1};
            worker.template run<0>(level.down, m, m + 1, source, none, row, false);
            round_row<T>(row.row(m), level.low.w);
        }
    }
}

// The rows that row m of the low-pass and the two rows of the band before it are made of, `band(y)` giving the place of
// the band's row y. False where one lies in a border of zeros.
template <class C, class Source, class Low, class BandRow>
bool find_level_rows(const Level<C>& level, std::int64_t m, Source& source, Low& low_rows, C* out, const BandRow& band,
                     LevelRows<C>& rows) {
    const std::int64_t before = level.up.rows.source(m - 2);
    if (before == kOutside) return false;
    for (int k = 0; k < 5; ++k) {
        const std::int64_t y = level.down.rows.source(2 * m - 2 + k);
        if (y == kOutside) return false;
        rows.source[k] = source(y);
    }
    rows.low[0] = low_rows(before);
    rows.low[1] = low_rows(m - 1);
    rows.out = out;
    rows.band[0] = band(2 * m - 2);
    rows.band[1] = band(2 * m - 1);
    return true;
}

// Rows [first, last) of the low-pass, and the rows of the band above them: bands.run(begin, end, low_rows) is to make
// rows of it whose low-pass is there; where bands.row(y) may be written to directly, they are made together with the
// low-pass, and bands.done(begin, end) is called.
template <class T, class Source, class Bands>
void level_strip(const Level<Sum<T>>& level, Source& source, const Plane<T>& low, std::int64_t first, std::int64_t last,
                 Worker<T>& worker, const Bands& bands, bool streamed) {
    using C = Sum<T>;
    LowRows<T> low_rows(worker.rows(constant(low), level.low.w, 1));
    add_other_rows(level, first, last, source, low_rows, worker);
    NoBase none;
    const std::int64_t end = std::min(2 * last, level.size.h);
    if constexpr (std::is_same_v<T, C>) {
        if (level.size.w >= kFusedWidth && !level.wraps && low.unit() && bands.direct()) {
            worker.template run<0>(level.down, first, first + 1, source, none, low, false);
            for (std::int64_t m = first + 1; m < last; ++m) {
                LevelRows<C> rows;
                const auto row = [&](std::int64_t y) { return bands.row(y); };
                if (find_level_rows(level, m, source, low_rows, low.row(m), row, rows)) {
                    run_level(level.down, level.up, rows, streamed, source.ahead());
                    bands.done(2 * m - 2, 2 * m);
                } else {
                    worker.template run<0>(level.down, m, m + 1, source, none, low, false);
                    bands.run(2 * m - 2, 2 * m, low_rows);
                }
            }
            return bands.run(2 * last - 2, end, low_rows);
        }
    }
    const std::int64_t step = std::max<std::int64_t>(1, worker.lines().count() / 2);
    for (std::int64_t m = first, next = 2 * first; m < last; m += step) {
        const std::int64_t m_end = std::min(last, m + step);
        worker.template run<0>(level.down, m, m_end, source, none, low, false);
        const std::int64_t limit = m_end == last ? end : std::max(next, 2 * (m_end - 1));
        bands.run(next, limit, low_rows);
        next = limit;
    }
}

// The same with the bands written to memory.
template <class T, class Source>
void laplacian_strip(const Level<Sum<T>>& level, Source& source, const Plane<Band<T>>& band, const Plane<T>& low,
                     std::int64_t first, std::int64_t last, Worker<T>& worker, bool streamed) {
    struct Bands {
        const Level<Sum<T>>& level;
        Source& source;
        const Plane<Band<T>>& band;
        Worker<T>& worker;
        bool streamed;

        bool direct() const { return band.unit(); }
        Band<T>* row(std::int64_t y) const { return band.row(y); }
        void done(std::int64_t, std::int64_t) const {}
        void run(std::int64_t begin, std::int64_t end, LowRows<T>& low_rows) const {
            worker.template run<-1>(level.up, begin, end, low_rows, source, band, streamed);
        }
    };
    level_strip<T>(level, source, low, first, last, worker, Bands{level, source, band, worker, streamed}, streamed);
}

}  // namespace lapcore::LAPCORE_ISA
