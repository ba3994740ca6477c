// What one thread needs to run operators on planes, and how planes are shared out among threads. Included once per
// instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/view.h"
#include "cpu/planes.h"
#include "cpu/stencil.h"
#include "cpu/threads.h"

namespace lapcore::LAPCORE_ISA {

constexpr std::int64_t kElementsPerThread = 1 << 14;  // below this a second thread costs more than it brings
constexpr std::int64_t kPlaneInCache = 1 << 17;   // elements of a plane whose whole pyramid one core keeps in its cache
constexpr std::int64_t kBlockElements = 1 << 12;  // of the lines of a block
constexpr std::int64_t kStripRows = 64;
constexpr std::int64_t kStreamedElements = 1 << 22;  // outputs from here on are not kept in a cache

struct Size {
    std::int64_t h, w;
    std::int64_t count() const { return h * w; }
    Size half() const { return {(h + 1) / 2, (w + 1) / 2}; }
};

inline Size size_of(const View& view) { return {view.height(), view.width()}; }

template <class F>
Operator<F> operator_of(Op op, Size src, Size dst, Border border, std::int64_t channels = 1) {
    return {op, src.h, src.w, dst.h, dst.w, border, channels};
}

// The line, rows and slots for images up to `width` wide, of which blocks are up to `height` rows.
template <class F>
class Worker {
public:
    using S = typename F::Sample;
    using B = typename F::Band;
    using C = typename F::Sum;

    Worker(std::int64_t width, std::int64_t height)
        : block_rows_(
              std::clamp<std::int64_t>(kBlockElements / width, 2, std::clamp<std::int64_t>(height, 2, kMaxBlockRows))),
          width_(width),
          line_(width) {}

    std::int64_t block_rows() const { return block_rows_; }

    // The rows of a plane, converted if need be into the slots number `which`, 0 to 2. While the bands of a Laplacian
    // level are made, the rows are fetched that will be halved next: those from a block's end on, and the stencil's
    // reach.
    Rows<S> rows(const Plane& plane, std::int64_t width, int which) {
        return rows(plane, width, which, block_rows_ + 3);
    }
    Rows<S> rows(const Plane& plane, std::int64_t width, int which, std::int64_t rows_ahead) {
        if (plane.holds<S>())
            return {RowsInPlace<const S>{reinterpret_cast<const S*>(plane.data), plane.row_stride}, rows_ahead};
        converted_[which].plane = plane;
        converted_[which].width = width;
        slots_[which].reset(width, converted_[which]);
        return Rows<S>(slots_[which]);
    }

    // Where the rows of a plane go: one at a time is in use.
    template <class O>
    Target<O> target(const Plane& plane, std::int64_t width) {
        if (plane.holds<O>()) return Target<O>({reinterpret_cast<O*>(plane.data), plane.row_stride});
        if (!scratch_) scratch_ = Buffer<B>(width_ * block_rows_);
        return Target<O>(plane, width, reinterpret_cast<O*>(scratch_.get()));
    }

    // Rows [first, last) of op(source).
    void run(const Operator<F>& op, std::int64_t first, std::int64_t last, Rows<S>& source, const Target<S>& target,
             bool streamed = false) {
        run_blocks<false>(op, 0, first, last, source, nullptr, target, streamed);
    }
    // Rows [first, last) of base + sign * op(source).
    void run(const Operator<F>& op, int sign, std::int64_t first, std::int64_t last, Rows<S>& source, Rows<S>& base,
             const Target<B>& target, bool streamed = false) {
        run_blocks<true>(op, sign, first, last, source, &base, target, streamed);
    }

private:
    template <bool kBase, class O>
    void run_blocks(const Operator<F>& op, int sign, std::int64_t first, std::int64_t last, Rows<S>& source,
                    Rows<S>* base, const Target<O>& target, bool streamed) {
        std::int64_t step = source.block_rows(block_rows_);
        if constexpr (kBase) step = base->block_rows(step);
        Block<F, kBase> block;
        block.spare = reinterpret_cast<O*>(line_.whole());
        block.sign = sign;
        block.ahead = kBase ? base->ahead() : 0;
        block.streamed = streamed && target.in_place();
        for (block.first = first; block.first < last; block.first += step) {
            block.count = std::min(last - block.first, step);
            target.rows(block.first, block.count, block.out);
            if constexpr (kBase) {
                for (std::int64_t r = 0; r < block.count; ++r) block.base[r] = (*base)(block.first + r);
            }
            run_block(op, source, block);
            if (target.in_place()) continue;
            for (std::int64_t r = 0; r < block.count; ++r) target.done(block.first + r, block.out[r]);
        }
    }

    template <bool kBase>
    void run_block(const Operator<F>& op, Rows<S>& source, Block<F, kBase>& block) {
        if constexpr (kFused<F>) {
            const bool in_registers = op.rows.forward() && !(kBase && op.rows.decimates());
            if (in_registers && find_window(op, source, block))
                return op.narrow.vectors ? run_narrow(op, block) : run_window(op, block);
        }
        const S* rows[kMaxTaps];
        for (std::int64_t r = 0; r < block.count; ++r) {
            const ShiftedTaps taps = op.rows(block.first + r);
            for (int k = 0; k < taps.count(); ++k) rows[k] = source(taps.index(k));
            run_line(op, taps, rows, line_, block, r);
        }
    }

    std::int64_t block_rows_, width_;
    Line<C> line_;
    Buffer<B> scratch_;
    ConvertedRows<S> converted_[3];
    Slots<S> slots_[3];
};

inline int useful_threads(int threads, std::int64_t elements) {
    return static_cast<int>(std::min<std::int64_t>(threads, 1 + elements / kElementsPerThread));
}

// Whether planes go one to a thread, with all that is done to them; otherwise each is cut into strips for all threads.
inline bool plane_by_plane(std::int64_t planes, Size size, int threads) {
    if (useful_threads(threads, planes * size.count()) == 1) return size.count() <= kPlaneInCache;
    return planes >= 2 * threads && (size.count() <= kPlaneInCache || planes >= 16 * threads);
}

// Calls task(first, last) for chunks of planes.
template <class Task>
void over_planes(std::int64_t planes, Size size, int threads, const Task& task) {
    threads = useful_threads(threads, planes * size.count());
    const std::int64_t chunks = std::min<std::int64_t>(planes, threads == 1 ? 1 : 4 * threads);
    parallel_for(chunks, threads, [&](std::int64_t c) { task(c * planes / chunks, (c + 1) * planes / chunks); });
}

// Calls task(plane, first_row, last_row) for strips of rows. Where the planes of `view` are channels of interleaved
// pixels, which lie in the same memory, one thread does a strip of each in turn while that is in its cache.
template <class Task>
void over_strips(const View& view, std::int64_t rows, std::int64_t width, int threads, const Task& task) {
    const std::int64_t planes = view.planes(), dims = std::int64_t(view.shape.size());
    if (planes == 0) return;
    const bool interleaved = dims > 2 && view.column_stride() != 1 && view.strides[dims - 3] == 1;
    const std::int64_t channels = interleaved ? view.shape[dims - 3] : 1;
    std::int64_t strip = kStripRows;
    if (interleaved) strip = std::clamp<std::int64_t>(kPlaneInCache / (view.width() * channels), 8, kStripRows);
    threads = useful_threads(threads, planes * rows * width);
    const bool whole = threads == 1 && planes * rows * width < kPlaneInCache;
    const std::int64_t stacks = planes / channels;
    std::int64_t strips = whole ? 1 : (rows + strip - 1) / strip;
    while (stacks * strips % threads != 0 && strips < rows) ++strips;  // as many for each thread
    parallel_for(stacks * strips, threads, [&](std::int64_t i) {
        const std::int64_t first = i % strips * rows / strips, last = (i % strips + 1) * rows / strips;
        for (std::int64_t c = 0; c < channels; ++c) task(i / strips * channels + c, first, last);
    });
}

}  // namespace lapcore::LAPCORE_ISA
