// One level of a pyramid in one pass: a warp walks down a strip of columns with the rows it needs in registers.
//
//   decimate   low = op(fine), op being down or, of the transposes, up's
//   expand     band = base + alpha * op(low), op being up or down's transpose
// A Laplacian level is a decimation whose result is expanded as it comes, with the fine rows, still at hand, as the
// base: every sample is read once. In backward the same shape serves, total = grad + down^T(below - up^T(grad)).
//
// A lane holds V fine columns and V/2 low ones. Sums have the order of axis.h, and low samples are rounded to their
// type before they are expanded, so that results equal those of single operators to the bit.
#pragma once

#include "cuda/ends.h"
#include "cuda/rows.h"

namespace lapcore::cuda {

struct Shape {
    Extent height, width;
    Border border;
};

template <bool kForward>
__device__ Extension fine_extension(const Shape& shape) {
    return {kForward ? shape.border : Border::constant, false};
}

template <bool kForward>
__device__ Extension low_extension(const Shape& shape) {
    return {kForward ? shape.border : Border::constant, kForward};
}

// Low row i from the fine rows 2i - 2 .. 2i + 2; x is the lane's first fine column.
template <bool kForward, int V, class C>
__device__ void decimate_row(const Shape& shape, const LevelEnds<C>* ends, int i, int x, const C (&window)[5][V],
                             C (&low)[V / 2]) {
    const C unit = C(kForward ? 1.0 / 16 : 1.0 / 8);
    const auto stencil = [&](const auto& s) { return pair_up(s(0), s(1), s(2), s(3), s(4), unit, 4 * unit, 6 * unit); };
    const bool at_end = !kForward && i >= 0 && i < shape.height.low && Ends<C>::is_end(i, 2, shape.height.low);
    const bool cut = kForward && shape.border == Border::constant && (i == 0 || 2 * i + 2 >= shape.height.fine);

    C line[V + 3];
#pragma unroll
    for (int c = 0; c < V; ++c) {
        const auto sample = [&](int k) { return window[k][c]; };
        C& sum = line[c + 2];
        if (at_end) {
            sum = paired_window_sum(ends->rows.decimate[Ends<C>::end(i, 2, shape.height.low)], sample);
        } else if (cut) {
            sum = ((((sample(0) * unit) + sample(1) * (4 * unit)) + sample(2) * (6 * unit)) + sample(3) * (4 * unit)) +
                  sample(4) * unit;
        } else {
            sum = stencil(sample);
        }
    }
    line[0] = from_left(line[V]);
    line[1] = from_left(line[V + 1]);
    line[V + 2] = from_right(line[2]);
#pragma unroll
    for (int c = 0; c < V / 2; ++c) {
        const auto sample = [&](int k) { return line[2 * c + k]; };
        const int column = x / 2 + c;
        if (!kForward && column >= 0 && column < shape.width.low && Ends<C>::is_end(column, 2, shape.width.low)) {
            low[c] = window_sum(ends->columns.decimate[Ends<C>::end(column, 2, shape.width.low)], sample);
        } else {
            low[c] = stencil(sample);
        }
    }
}

// Fine row y from the low rows a, b, c at y/2 - 1 .. y/2 + 1.
template <bool kForward, bool kOdd, int V, class C>
__device__ void expand_row(const Shape& shape, const LevelEnds<C>* ends, int y, int x, const C (&a)[V / 2],
                           const C (&b)[V / 2], const C (&c)[V / 2], C (&fine)[V]) {
    const C unit = C(kForward ? 1.0 / 8 : 1.0 / 16);
    const bool at_end = !kForward && y < shape.height.fine && Ends<C>::is_end(y, 4, shape.height.fine);
    C line[V / 2 + 2];
#pragma unroll
    for (int i = 0; i < V / 2; ++i) {
        if (at_end) {
            line[i + 1] = paired_window_sum(ends->rows.expand[Ends<C>::end(y, 4, shape.height.fine)], [&](int k) {
                return k == 0 ? a[i] : k == 1 ? b[i] : c[i];
            });
        } else {
            line[i + 1] = kOdd ? pair_up(b[i], c[i], 4 * unit) : pair_up(a[i], b[i], c[i], unit, 6 * unit);
        }
    }
    line[0] = from_left(line[V / 2]);
    line[V / 2 + 1] = from_right(line[1]);
#pragma unroll
    for (int i = 0; i < V; ++i) {
        const auto sample = [&](int k) { return line[i / 2 + k]; };
        if (!kForward && x + i >= 0 && x + i < shape.width.fine && Ends<C>::is_end(x + i, 4, shape.width.fine)) {
            fine[i] = window_sum(ends->columns.expand[Ends<C>::end(x + i, 4, shape.width.fine)], sample);
        } else {
            fine[i] = i % 2 ? pair_up(sample(1), sample(2), 4 * unit)
                            : pair_up(sample(0), sample(1), sample(2), unit, 6 * unit);
        }
    }
}

// Low samples one beyond either end of a row just made, by up's rule; a circular border has made them already.
template <int V, class C>
__device__ void extend_row(const Shape& shape, int x, C (&low)[V / 2]) {
    if (shape.border == Border::circular) return;
    const bool zero = shape.border == Border::constant;
    const C left = from_left(low[V / 2 - 1]);
#pragma unroll
    for (int c = 0; c < V / 2; ++c)
        if (x / 2 + c == shape.width.low) low[c] = zero ? C(0) : c > 0 ? low[c - 1] : left;
    const C first = from_right(low[0]), second = from_right(low[1]);
    const bool mirrors = shape.border == Border::reflect && shape.width.low > 1;
    if (x == -V) low[V / 2 - 1] = zero ? C(0) : mirrors ? second : first;
}

template <int N, class C>
__device__ void copy(const C (&from)[N], C (&to)[N]) {
#pragma unroll
    for (int c = 0; c < N; ++c) to[c] = from[c];
}

// Low rows first .. first + pairs - 1 of a lane's columns, and with kExpands the fine rows that belong to them.
//   source.fetch(y), source.unpack(pack, row)   a fine row, in two steps so that it is asked for ahead of its use
//   finish(i, low)                              low row i has been summed: completes, rounds and stores it
//   emit(y, value, fine)                        the expansion of fine row y, and the row itself
template <bool kForward, bool kExpands, int V, class C, class Source, class Finish, class Emit>
__device__ void stream_fine(const Shape& shape, const LevelEnds<C>* ends, int x, int first, int pairs,
                            const Source& source, const Finish& finish, const Emit& emit) {
    const bool substitutes = kForward && shape.border != Border::circular;
    const int margin = kExpands ? 1 : 0;
    C window[5][V], before[V / 2] = {}, middle[V / 2] = {};
#pragma unroll
    for (int k = 0; k < 5; ++k) source.unpack(source.fetch(2 * (first - margin) - 2 + k), window[k]);
#pragma unroll 1
    for (int step = 0; step < pairs + 2 * margin; ++step) {
        const int i = first - margin + step;
        const auto ahead = source.fetch(2 * i + 3), further = source.fetch(2 * i + 4);
        C low[V / 2];
        decimate_row<kForward, V>(shape, ends, i, x, window, low);
        finish(i, low);
        if constexpr (kExpands) {
            if constexpr (kForward) extend_row<V>(shape, x, low);
            const bool zero = shape.border == Border::constant;
#pragma unroll
            for (int c = 0; c < V / 2; ++c)
                if (substitutes && i >= shape.height.low) low[c] = zero ? C(0) : middle[c];
            if (step >= 2) {
                const int y = 2 * (i - 1);
                const bool mirrors = shape.border == Border::reflect && shape.height.low > 1;
#pragma unroll
                for (int c = 0; c < V / 2; ++c)
                    if (substitutes && y == 0) before[c] = zero ? C(0) : mirrors ? low[c] : middle[c];
                C value[V];
                expand_row<kForward, false, V>(shape, ends, y, x, before, middle, low, value);
                if (y < shape.height.fine) emit(y, value, window[0]);
                expand_row<kForward, true, V>(shape, ends, y + 1, x, before, middle, low, value);
                if (y + 1 < shape.height.fine) emit(y + 1, value, window[1]);
            }
            copy(middle, before);
            copy(low, middle);
        }
        copy(window[2], window[0]);
        copy(window[3], window[1]);
        copy(window[4], window[2]);
        source.unpack(ahead, window[3]);
        source.unpack(further, window[4]);
    }
}

// The fine rows 2 first .. 2 (first + pairs) - 1 from low rows that are read: emit(y, value, base), base still packed.
template <bool kForward, int V, class C, class Source, class Base, class Emit>
__device__ void stream_low(const Shape& shape, const LevelEnds<C>* ends, int x, int first, int pairs,
                           const Source& source, const Base& base, const Emit& emit) {
    C a[V / 2], b[V / 2], c[V / 2];
    source.unpack(source.fetch(first - 1), a);
    source.unpack(source.fetch(first), b);
    auto ahead = source.fetch(first + 1);
#pragma unroll 1
    for (int step = 0; step < pairs; ++step) {
        const int y = 2 * (first + step);
        const auto even = base.fetch(y), odd = base.fetch(y + 1);
        source.unpack(ahead, c);
        ahead = source.fetch(first + step + 2);
        C value[V];
        expand_row<kForward, false, V>(shape, ends, y, x, a, b, c, value);
        if (y < shape.height.fine) emit(y, value, even);
        expand_row<kForward, true, V>(shape, ends, y + 1, x, a, b, c, value);
        if (y + 1 < shape.height.fine) emit(y + 1, value, odd);
        copy(b, a);
        copy(c, b);
    }
}

// How a level is dealt out: each warp takes strips of `lanes` lanes, one of which at either side only feeds its
// neighbour; images that are narrower than a warp share one.
struct Split {
    int lanes, strips, chunks, pairs;
    std::int64_t jobs;
    __host__ __device__ int segments() const { return 32 / lanes; }
};

// What a lane is to do of a split.
struct Job {
    std::int64_t plane;
    int x, first;
    bool exists, owns;  // whether there is such a job, and whether its results are this lane's to write
    int part = 0;       // which strip of which chunk of the plane it is
};

template <int V>
__device__ Job job_of(const Split& split, std::int64_t planes, std::int64_t warp, int lane) {
    const int segment = lane / split.lanes, place = lane % split.lanes;
    const std::int64_t number = warp * split.segments() + segment;
    Job job{0, -4 * V, 0, segment < split.segments() && number < split.jobs, false};
    if (!job.exists) return job;
    int strip = 0, chunk;
    if (split.strips == 1) {
        job.plane = number % planes;  // lanes of a warp at the same rows
        chunk = static_cast<int>(number / planes);
    } else {
        strip = static_cast<int>(number % split.strips);
        chunk = static_cast<int>(number / split.strips % split.chunks);
        job.plane = number / split.strips / split.chunks;
    }
    job.part = chunk * split.strips + strip;
    job.x = (strip * (split.lanes - 2) + place - 1) * V;
    job.first = chunk * split.pairs;
    job.owns = place > 0 && place < split.lanes - 1;
    return job;
}

inline Split split_into(const Shape& shape, std::int64_t planes, int columns_per_lane, int pairs) {
    const int packs = (shape.width.fine + columns_per_lane - 1) / columns_per_lane;
    Split split{};
    split.lanes = std::min(32, packs + 2);
    split.strips = (packs + split.lanes - 3) / (split.lanes - 2);
    split.pairs = pairs;
    split.chunks = (shape.height.low + pairs - 1) / pairs;
    split.jobs = planes * split.strips * split.chunks;
    return split;
}

// warps: how many are wanted at least, as far as rows can be divided.
inline Split split_of(const Shape& shape, std::int64_t planes, int columns_per_lane, std::int64_t warps) {
    constexpr int kMost = 128, kLeast = 8;
    for (int pairs = kMost;; pairs /= 2) {
        const Split split = split_into(shape, planes, columns_per_lane, pairs);
        if (pairs == kLeast || split.jobs >= warps * split.segments()) return split;
    }
}

}  // namespace lapcore::cuda
