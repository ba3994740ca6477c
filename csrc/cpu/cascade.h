// Several levels of one strip at once, row by row: as soon as a level has the rows that the next one reads, that goes
// on. What lies between two levels are a few rows in the nearest cache. Strips do not wait for each other: each
// computes the rows around it that it reads once more for itself. Included once per instruction set.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/laplacian.h"

namespace lapcore::LAPCORE_ISA {

constexpr std::size_t kCascadeLevels = 3;  // further ones are small, and the rows around a strip double with each

// A row as it reads once it has been stored in a dtype.
template <class S>
void round_row(DType dtype, std::int64_t n, S* row) {
    if constexpr (std::is_same_v<S, float>) {
        if (dtype == DType::float32) return;
        constexpr std::int64_t kPart = 64;
        Half part[kPart];
        const Plane stored{reinterpret_cast<char*>(part), dtype, 0, 1};
        for (std::int64_t i = 0; i < n; i += kPart) {
            const std::int64_t count = std::min(kPart, n - i);
            store_samples(row + i, count, stored, 0);
            load_samples(stored, 0, count, row + i);
        }
    }
}

// The latest rows of an image, of which no more than kRows are in use at a time.
template <class S>
class Ring {
public:
    static constexpr std::int64_t kRows = 16;

    explicit Ring(std::int64_t width) : memory_(kRows * width), rows_{memory_.get(), width, kRows - 1} {}
    S* row(std::int64_t y) const { return rows_(y); }
    Target<S> target() const { return Target<S>(rows_); }
    Rows<S> rows() const { return {RowsInPlace<const S>{rows_.data, rows_.stride, rows_.mask}, 0}; }

private:
    Buffer<S> memory_;
    RowsInPlace<S> rows_;
};

struct Range {
    std::int64_t first, last;
    bool has(std::int64_t i) const { return i >= first && i < last; }
};

// The Laplacian levels of a strip of one plane, of an image of dtype `stored`.
template <class F>
class LaplacianCascade {
public:
    using S = typename F::Sample;
    using B = typename F::Band;
    LaplacianCascade(const Level<F>* levels, std::size_t count, DType stored, bool streamed)
        : stored_(stored), streamed_(streamed), worker_(levels->size.w, 2) {
        for (std::size_t l = 0; l < count; ++l) stages_.emplace_back(levels[l]);
    }

    // Rows [first, last) of the last level's low-pass, and all bands above them.
    void run(const Plane& image, const std::vector<Plane>& bands, const Plane& low, std::int64_t first,
             std::int64_t last) {
        Rows<S> source = worker_.rows(image, stages_[0].level.size.w, 0);
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

private:
    struct Stage {
        const Level<F>& level;
        Ring<S> ring;
        Rows<S> rows;
        Plane band{};
        Range own{}, made{};  // rows of the low-pass: those above which the bands are ours, and those computed
        std::int64_t next = 0;
        explicit Stage(const Level<F>& level) : level(level), ring(level.low.w), rows(ring.rows()) {}
    };

    // Goes on with level l, of whose source rows there are `available`.
    void advance(std::size_t l, std::int64_t available) {
        Stage& stage = stages_[l];
        const std::int64_t height = stage.level.size.h;
        while (stage.next < stage.made.last && std::min(2 * stage.next + 3, height) <= available) {
            const std::int64_t m = stage.next++;
            step(stage, m, l == 0 ? *source_ : stages_[l - 1].rows);
            if (l + 1 < stages_.size()) {
                advance(l + 1, stage.next);
            } else if (own_.has(m)) {
                store_samples(stage.ring.row(m), stage.level.low.w, low_, m);
            }
        }
    }

    // Row m of the low-pass, and the rows of the band that are complete with it.
    void step(Stage& stage, std::int64_t m, Rows<S>& source) {
        const Level<F>& level = stage.level;
        const bool completes = m > stage.own.first && m <= stage.own.last;
        const bool rounds = stored_ == DType::float16 || stored_ == DType::bfloat16;
        const auto band = [&] { return worker_.template target<B>(stage.band, level.size.w); };
        if (completes && !rounds) {
            level_step(level, m, source, stage.rows, stage.ring.target(), band(), worker_, streamed_);
        } else {
            worker_.run(level.down, m, m + 1, source, stage.ring.target());
            round_row(stored_, level.low.w, stage.ring.row(m));
            if (completes) worker_.run(level.up, -1, 2 * m - 2, 2 * m, stage.rows, source, band(), streamed_);
        }
        if (m + 1 == stage.own.last && m + 1 == level.low.h)
            worker_.run(level.up, -1, 2 * m, level.size.h, stage.rows, source, band(), streamed_);
    }

    DType stored_;
    bool streamed_;
    Worker<F> worker_;
    std::vector<Stage> stages_;
    Rows<S>* source_ = nullptr;
    Plane low_{};
    Range own_{};
};

// Rows of a collapse: c_l = band_l + up(c_{l+1}), as far as the next finer level needs them.
template <class F>
class CollapseCascade {
public:
    using S = typename F::Sample;
    CollapseCascade(const Level<F>* levels, std::size_t count, DType stored, bool streamed)
        : stored_(stored), streamed_(streamed), worker_(levels->size.w, kBlock) {
        for (std::size_t l = 0; l < count; ++l) stages_.emplace_back(levels[l]);
    }

    // Rows [first, last) of the finest level, from the bands and from the coarsest of all, `low`.
    void run(const std::vector<Plane>& bands, const Plane& low, const Plane& out, std::int64_t first,
             std::int64_t last) {
        low_ = low;
        for (std::size_t l = 0; l < stages_.size(); ++l) {
            stages_[l].band = bands[l];
            stages_[l].next = first;
            first = std::max<std::int64_t>(0, first / 2 - 1) / kBlock * kBlock;
        }
        const Target<S> target = worker_.template target<S>(out, stages_[0].level.size.w);
        while (stages_[0].next < last) step(0, std::min(stages_[0].next + kBlock, last), target);
    }

private:
    static constexpr std::int64_t kRowsAhead = 2;
    static constexpr std::int64_t kBlock = 4;

    struct Stage {
        const Level<F>& level;
        Ring<S> ring;
        Plane band{};
        std::int64_t next = 0;  // the row to be made
        explicit Stage(const Level<F>& level) : level(level), ring(level.size.w) {}
    };

    // Rows of level l up to `end`.
    void step(std::size_t l, std::int64_t end, const Target<S>& target) {
        Stage& stage = stages_[l];
        const Level<F>& level = stage.level;
        if (l + 1 < stages_.size()) {
            Stage& coarse = stages_[l + 1];
            const std::int64_t needed = std::min((end - 1) / 2 + 2, level.low.h);
            while (coarse.next < needed) {
                const std::int64_t begin = coarse.next, limit = std::min(begin + kBlock, coarse.level.size.h);
                step(l + 1, limit, coarse.ring.target());
                for (std::int64_t y = begin; y < limit; ++y) round_row(stored_, level.low.w, coarse.ring.row(y));
            }
        }
        Rows<S> low = l + 1 < stages_.size() ? stages_[l + 1].ring.rows() : worker_.rows(low_, level.low.w, 1);
        Rows<S> band = worker_.rows(stage.band, level.size.w, 0, kRowsAhead);
        worker_.run(level.up, 1, stage.next, end, low, band, target, streamed_ && l == 0);
        stage.next = end;
    }

    DType stored_;
    bool streamed_;
    Worker<F> worker_;
    std::vector<Stage> stages_;
    Plane low_{};
};

}  // namespace lapcore::LAPCORE_ISA
