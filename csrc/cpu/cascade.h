// Several levels of one strip at once, row by row: as soon as a level has the rows that the next one reads, that goes
// on. What lies between two levels are a few rows in the nearest cache. Strips do not wait for each other: each
// computes the rows around it that it reads once more for itself. Included once per instruction set.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/laplacian.h"

namespace lapcore::LAPCORE_ISA {

constexpr std::size_t kCascadeLevels = 3;  // further ones are small, and the rows around a strip double with each

// The latest rows of an image, of which no more than kRows are in use at a time.
template <class C>
class Ring {
public:
    static constexpr std::int64_t kRows = 16;

    explicit Ring(std::int64_t width) : width_(width), rows_(kRows * width) {}
    const C* operator()(std::int64_t y) const { return row(y); }
    C* row(std::int64_t y) const { return rows_.get() + y % kRows * width_; }
    // As a plane in which row y has its place.
    Plane<C> at(std::int64_t y) const { return {row(y) - y * width_, width_, 1}; }
    std::int64_t block_rows() const { return kMaxBlockRows; }
    std::int64_t ahead() const { return 0; }

private:
    std::int64_t width_;
    Buffer<C> rows_;
};

struct Range {
    std::int64_t first, last;
    bool has(std::int64_t i) const { return i >= first && i < last; }
};

// The Laplacian levels of a strip of one plane.
template <class C>
class LaplacianCascade {
public:
    using Levels = std::vector<Level<C>>;

    LaplacianCascade(const Levels& levels, std::size_t count, bool streamed)
        : streamed_(streamed), worker_(levels.front().size.w, 2) {
        for (std::size_t l = 0; l < count; ++l) stages_.emplace_back(levels[l]);
    }

    // Rows [first, last) of the last level's low-pass, and all bands above them.
    void run(Rows<C> source, const std::vector<Plane<C>>& bands, const Plane<C>& low, std::int64_t first,
             std::int64_t last) {
        source_ = &source;
        low_ = low;
        own_ = {first, last};
        std::int64_t begin = first, end = last;  // what the level below reads of a low-pass, besides what the bands do
        for (std::size_t l = stages_.size(); l-- > 0;) {
            Stage& stage = stages_[l];
            const std::int64_t rows = stage.level.low.h;
            stage.band = bands[l];
            stage.own = {first, last};
            stage.made = {std::max<std::int64_t>(0, std::min(first - 1, begin)),
                          std::min(rows, std::max(last + 1, end))};
            stage.next = stage.made.first;
            begin = 2 * stage.made.first - 2;
            end = 2 * stage.made.last + 1;
            first *= 2;
            last = std::min(2 * last, stage.level.size.h);
        }
        advance(0, stages_[0].level.size.h);
    }

    Worker<C>& worker() { return worker_; }

private:
    struct Stage {
        const Level<C>& level;
        Ring<C> low;
        Plane<C> band;
        Range own, made;  // rows of the low-pass: those above which the bands are ours, and those computed
        std::int64_t next = 0;
        explicit Stage(const Level<C>& level) : level(level), low(level.low.w) {}
    };

    // Goes on with level l, of whose source rows there are `available`.
    void advance(std::size_t l, std::int64_t available) {
        Stage& stage = stages_[l];
        const std::int64_t height = stage.level.size.h;
        while (stage.next < stage.made.last && std::min(2 * stage.next + 3, height) <= available) {
            const std::int64_t m = stage.next++;
            l == 0 ? step(stage, m, *source_) : step(stage, m, stages_[l - 1].low);
            if (l + 1 < stages_.size()) {
                advance(l + 1, stage.next);
            } else if (own_.has(m)) {
                std::copy_n(stage.low.row(m), stage.level.low.w, low_.row(m));
            }
        }
    }

    // Row m of the low-pass, and the rows of the band that are complete with it.
    template <class Source>
    void step(Stage& stage, std::int64_t m, Source& source) {
        const Level<C>& level = stage.level;
        NoBase none;
        LevelRows<C> rows;
        const bool completes = m > stage.own.first && m <= stage.own.last;
        const auto band = [&](std::int64_t y) { return stage.band.row(y); };
        if (completes && find_level_rows(level, m, source, stage.low, stage.low.row(m), band, rows)) {
            run_level(level.down, level.up, rows, streamed_, source.ahead());
        } else {
            worker_.template run<0>(level.down, m, m + 1, source, none, stage.low.at(m), false);
            if (completes) run_band(stage, 2 * m - 2, 2 * m, source);
        }
        if (m + 1 == stage.own.last && m + 1 == level.low.h) run_band(stage, 2 * m, level.size.h, source);
    }

    template <class Source>
    void run_band(Stage& stage, std::int64_t first, std::int64_t last, Source& source) {
        worker_.template run<-1>(stage.level.up, first, last, stage.low, source, stage.band, streamed_);
    }

    bool streamed_;
    Worker<C> worker_;
    std::vector<Stage> stages_;
    Rows<C>* source_ = nullptr;
    Plane<C> low_{};
    Range own_{};
};

// Rows of a collapse: c_l = band_l + up(c_{l+1}), as far as the next finer level needs them.
template <class C>
class CollapseCascade {
public:
    using Levels = std::vector<Level<C>>;

    CollapseCascade(const Levels& levels, std::size_t count, bool streamed)
        : streamed_(streamed), worker_(levels.front().size.w, kBlock) {
        for (std::size_t l = 0; l < count; ++l) stages_.emplace_back(levels[l]);
    }

    // Rows [first, last) of the finest level, from the bands and from the coarsest of all, `low`.
    void run(const std::vector<Plane<const C>>& bands, const Plane<const C>& low, const Plane<C>& out,
             std::int64_t first, std::int64_t last) {
        low_ = low;
        for (std::size_t l = 0; l < stages_.size(); ++l) {
            stages_[l].band = bands[l];
            stages_[l].next = first;
            first = std::max<std::int64_t>(0, first / 2 - 1) / kBlock * kBlock;
        }
        while (stages_[0].next < last) step(0, std::min(stages_[0].next + kBlock, last), out);
    }

private:
    static constexpr std::int64_t kRowsAhead = 2;
    static constexpr std::int64_t kBlock = 4;  // rows that lie side by side in a ring

    struct Stage {
        const Level<C>& level;
        Ring<C> rows;
        Plane<const C> band{};
        std::int64_t next = 0;  // the row to be made
        explicit Stage(const Level<C>& level) : level(level), rows(level.size.w) {}
    };

    // Rows of level l up to `end`.
    void step(std::size_t l, std::int64_t end, const Plane<C>& out) {
        Stage& stage = stages_[l];
        Rows<C> band = worker_.rows(stage.band, stage.level.size.w, 0, kRowsAhead);
        if (l + 1 == stages_.size()) {
            Rows<C> low = worker_.rows(low_, stage.level.low.w, 1);
            worker_.template run<1>(stage.level.up, stage.next, end, low, band, out, streamed_ && l == 0);
        } else {
            Stage& coarse = stages_[l + 1];
            const std::int64_t needed = std::min((end - 1) / 2 + 2, stage.level.low.h);
            while (coarse.next < needed)
                step(l + 1, std::min(coarse.next + kBlock, coarse.level.size.h), coarse.rows.at(coarse.next));
            worker_.template run<1>(stage.level.up, stage.next, end, coarse.rows, band, out, streamed_ && l == 0);
        }
        stage.next = end;
    }

    bool streamed_;
    Worker<C> worker_;
    std::vector<Stage> stages_;
    Plane<const C> low_{};
};

}  // namespace lapcore::LAPCORE_ISA
