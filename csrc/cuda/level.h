// A level as a kernel's job, for the files that launch them: one level of large images, or all levels of small ones.
#pragma once

#include <cstdint>

#include "common/view.h"
#include "cuda/stream.h"

namespace lapcore::cuda {

enum class Mode { level, decimate, expand };

template <class T>
constexpr int kColumns = 16 / sizeof(T);

template <class T>
__device__ Compute<T> rounded(Compute<T> v) {
    return loaded(stored<T>(v));
}

// The images of one plane: `fine` is decimated, or the base of the expansion; `below` is expanded, or the base of what
// was decimated. The factors are those of the operators where a base is added.
template <class T>
struct LevelImages {
    Plane<const T> fine, below;
    Plane<T> low, band;
    Compute<T> low_factor, band_factor;
};

template <class T, Mode kMode, bool kForward>
__device__ void run_level(const Shape& shape, const LevelEnds<Compute<T>>* ends, const Job& job, int pairs,
                          const LevelImages<T>& images) {
    using C = Compute<T>;
    constexpr int V = kColumns<T>;
    const auto write = [&](int y, C(&value)[V], const C(&base)[V]) {
#pragma unroll
        for (int c = 0; c < V; ++c) value[c] = base[c] + images.band_factor * value[c];
        if (job.owns) write_row<T, V>(images.band, shape.width.fine, y, job.x, value);
    };
    if constexpr (kMode == Mode::expand) {
        const Reader<T, V / 2> source(images.below, shape.height.low, shape.width.low, low_extension<kForward>(shape),
                                      job.x / 2);
        const Reader<T, V> base(images.fine, shape.height.fine, shape.width.fine, {Border::constant, false}, job.x);
        const auto emit = [&](int y, C(&value)[V], const Pack<T, V>& pack) {
            if (!images.fine) {
                if (job.owns) write_row<T, V>(images.band, shape.width.fine, y, job.x, value);
                return;
            }
            C row[V];
            base.unpack(pack, row);
            write(y, value, row);
        };
        stream_low<kForward, V, C>(shape, ends, job.x, job.first, pairs, source, base, emit);
    } else {
        const Reader<T, V> source(images.fine, shape.height.fine, shape.width.fine, fine_extension<kForward>(shape),
                                  job.x);
        const Reader<T, V / 2> added(images.below, shape.height.low, shape.width.low, {Border::constant, false},
                                     job.x / 2);
        const auto finish = [&](int i, C(&row)[V / 2]) {
            if (images.low_factor != 0) {  // without an image below, zeros
                C base[V / 2];
                added.read(i, base);
#pragma unroll
                for (int c = 0; c < V / 2; ++c) row[c] = base[c] + images.low_factor * row[c];
            }
#pragma unroll
            for (int c = 0; c < V / 2; ++c) row[c] = rounded<T>(row[c]);
            const bool mine = job.owns && i >= job.first && i < job.first + pairs && i < shape.height.low;
            if (images.low && mine) write_row<T, V / 2>(images.low, shape.width.low, i, job.x / 2, row);
        };
        stream_fine<kForward, kMode == Mode::level, V, C>(shape, ends, job.x, job.first, pairs, source, finish, write);
    }
}

constexpr std::int64_t kMostSide = 1 << 30;

// Whether a row of the image falls into aligned Packs of N samples; the strides of single rows and columns mean
// nothing.
template <class T>
bool is_packed(const View& view, int n) {
    const auto whole = [&](std::int64_t stride, std::int64_t size) { return size <= 1 || stride % n == 0; };
    bool packed = (view.column_stride() == 1 || view.width() == 1) && view.width() % n == 0 &&
                  whole(view.row_stride(), view.height()) &&
                  reinterpret_cast<std::uintptr_t>(view.data) % (sizeof(T) * n) == 0;
    for (std::size_t d = 0; d + 2 < view.shape.size(); ++d) packed = packed && whole(view.strides[d], view.shape[d]);
    return packed;
}

template <class T, class Sample>
Plane<Sample> plane_of(const View* view, int n) {
    if (!view) return {};
    const auto stride = [](std::int64_t size, std::int64_t s) { return size > 1 ? static_cast<int>(s) : 0; };
    return {static_cast<Sample*>(view->data), stride(view->height(), view->row_stride()),
            stride(view->width(), view->column_stride()), is_packed<T>(*view, n)};
}

inline bool is_small(const View* view) {
    const auto fits = [](std::int64_t size, std::int64_t stride) {
        return size <= 1 || (stride <= kMostSide && stride >= -kMostSide);
    };
    return !view || (view->height() <= kMostSide && view->width() <= kMostSide &&
                     fits(view->height(), view->row_stride()) && fits(view->width(), view->column_stride()));
}

inline bool is_even(const View& view) { return view.height() % 2 == 0 && view.width() % 2 == 0; }

inline Shape shape_of(const View& fine, const View& low, Border border) {
    const auto side = [](std::int64_t n) { return static_cast<int>(n); };
    return {{side(fine.height()), side(low.height())}, {side(fine.width()), side(low.width())}, border};
}

}  // namespace lapcore::cuda
