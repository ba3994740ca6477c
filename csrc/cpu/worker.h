// What one thread needs to run operators on planes, and how planes are shared out among threads. Included once per
// instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/view.h"
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

template <class C>
Operator<C> operator_of(Op op, Size src, Size dst, Border border, std::int64_t channels = 1) {
    return {op, src.h, src.w, dst.h, dst.w, border, channels};
}

template <class T>
Plane<T> plane_of(const View& view, std::int64_t p) {
    const std::int64_t column_stride = view.width() == 1 ? 1 : view.column_stride();
    return {static_cast<T*>(view.data) + view.plane_offset(p), view.row_stride(), column_stride};
}

template <class T>
Plane<const T> constant(const Plane<T>& plane) {
    return {plane.data, plane.row_stride, plane.column_stride};
}

// The lines, rows and slots for images up to `width` wide, of which blocks are up to `height` rows.
template <class T>
class Worker {
public:
    using C = Sum<T>;

    Worker(std::int64_t width, std::int64_t height)
        : lines_(width, std::clamp<std::int64_t>(kBlockElements / width, 2,
                                                 std::clamp<std::int64_t>(height, 2, kMaxBlockRows))),
          width_(width),
          rows_(width * lines_.count()) {}

    Lines<C>& lines() { return lines_; }
    C* row() const { return rows_.get(); }  // one row of scratch

    // The rows of a plane, converted if need be into the slots number `which`, 0 to 2. While the bands of a Laplacian
    // level are made, the rows are fetched that will be halved next: those from a block's end on, and the stencil's
    // reach.
    Rows<T> rows(const Plane<const T>& plane, std::int64_t width, int which) {
        return rows(plane, width, which, lines_.count() + 3);
    }
    Rows<T> rows(const Plane<const T>& plane, std::int64_t width, int which, std::int64_t rows_ahead) {
        return {plane, width, slots_[which], rows_ahead};
    }

    // Rows [first, last) of dst = op(source), or of base + sign * op(source).
    template <int sign, class Source, class Base, class O>
    void run(const Operator<C>& op, std::int64_t first, std::int64_t last, Source& source, Base& base,
             const Plane<O>& dst, bool streamed) {
        if constexpr (std::is_same_v<O, C>) {
            if (dst.unit()) {
                apply_rows<sign, C>(
                    op, first, last, source, base, lines_, block_,
                    [&](std::int64_t i, std::int64_t) { return dst.row(i); }, [](std::int64_t, C*) {}, streamed);
                return;
            }
        }
        const std::int64_t n = op.row_size();
        apply_rows<sign, C>(
            op, first, last, source, base, lines_, block_,
            [&](std::int64_t, std::int64_t r) { return rows_.get() + r * width_; },
            [&](std::int64_t i, const C* row) { store_row(row, n, dst.row(i), dst.column_stride); }, false);
    }

private:
    Lines<C> lines_;
    Block<C> block_;
    std::int64_t width_;
    Buffer<C> rows_;
    Slots<C> slots_[3];
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
