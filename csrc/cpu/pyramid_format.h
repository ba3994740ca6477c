// All operations of pyramids on one format. Included once per instruction set, by the file of each format.
#pragma once

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "cpu/cascade.h"
#include "cpu/laplacian.h"
#include "cpu/memory.h"
#include "cpu/pyramid_formats.h"
#include "cpu/small.h"
#include "cpu/stencil_kernels.h"
#include "cpu/worker.h"

namespace lapcore::LAPCORE_ISA {

inline DType band_dtype(DType dtype) {
    const bool integers = dtype == DType::uint8 || dtype == DType::int16 || dtype == DType::uint16;
    return integers ? DType::int16 : dtype;
}

// How many channels of an image lie side by side in memory, where forward operators take so many at once; or 1.
inline std::int64_t interleaved(const View& view) {
    const std::size_t dims = view.shape.size();
    if (dims < 3 || view.strides[dims - 3] != 1 || view.column_stride() != view.shape[dims - 3]) return 1;
    return view.shape[dims - 3] == 3 || view.shape[dims - 3] == 4 ? view.shape[dims - 3] : 1;
}

// Such images as planes of rows of all their channels.
inline View side_by_side(const View& view) {
    const std::size_t dims = view.shape.size();
    View joined{view.data, {}, {}};
    for (std::size_t d = 0; d < dims; ++d) {
        if (d + 3 == dims) continue;
        joined.shape.push_back(view.shape[d]);
        joined.strides.push_back(view.strides[d]);
    }
    joined.shape.back() *= view.column_stride();
    joined.strides.back() = 1;
    return joined;
}

// dst = op(src), or base + sign * op(src), plane by plane or strip by strip.
template <class F>
void apply_operator(const Operator<F>& op, const PyramidCall& call, const View& src, const View* base, int sign,
                    const View& dst) {
    using S = typename F::Sample;
    using B = typename F::Band;
    const Size from = size_of(src), to = size_of(dst);
    const DType out = base ? band_dtype(call.dtype) : call.dtype;
    const bool streamed = prefer_streaming(dst, bytes_of(out));
    const auto task = [&](Worker<F>& worker, std::int64_t p, std::int64_t first, std::int64_t last) {
        Rows<S> source = worker.rows(plane_of(src, call.dtype, p), from.w, 0);
        const Plane target = plane_of(dst, out, p);
        if (base) {
            Rows<S> added = worker.rows(plane_of(*base, call.dtype, p), to.w, 1);
            worker.run(op, sign, first, last, source, added, worker.template target<B>(target, to.w), streamed);
        } else {
            worker.run(op, first, last, source, worker.template target<S>(target, to.w), streamed);
        }
    };
    const std::int64_t width = std::max(from.w, to.w), planes = dst.planes();
    if (plane_by_plane(planes, to, call.threads)) {
        over_planes(planes, to, call.threads, [&](std::int64_t first, std::int64_t last) {
            Worker<F> worker(width, to.h);
            for (std::int64_t p = first; p < last; ++p) task(worker, p, 0, to.h);
        });
        return;
    }
    over_strips(src, to.h, to.w, call.threads, [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
        Worker<F> worker(width, last - first);
        task(worker, plane, first, last);
        if (streamed) stream_fence();
    });
}

template <class F>
void apply(const PyramidCall& call, Op op, const View& src, const View* base, int sign, const View& dst) {
    const Size from = size_of(src), to = size_of(dst);
    const std::int64_t channels = interleaved(src);
    const bool forward = op == Op::down || op == Op::up;
    if (kFused<F> && channels > 1 && interleaved(dst) == channels && forward && !base &&
        call.border != Border::constant) {
        const auto operation = operator_of<F>(op, from, to, call.border, channels);
        return apply_operator(operation, call, side_by_side(src), nullptr, 0, side_by_side(dst));
    }
    apply_operator(operator_of<F>(op, from, to, call.border), call, src, base, sign, dst);
}

template <class F>
std::vector<Level<F>> levels_of(Size size, std::size_t count, Border border) {
    std::vector<Level<F>> levels;
    levels.reserve(count);
    for (std::size_t l = 0; l < count; ++l, size = size.half()) levels.emplace_back(size, border);
    return levels;
}

template <class F>
void gaussian_pyramid(const PyramidCall& call, const View& x, const std::vector<View>& out) {
    using S = typename F::Sample;
    const Size size = size_of(x);
    const auto source_of = [&](std::size_t l) -> const View& { return l ? out[l - 1] : x; };
    std::vector<Operator<F>> downs;
    for (std::size_t l = 0; l < out.size(); ++l)
        downs.push_back(operator_of<F>(Op::down, size_of(source_of(l)), size_of(out[l]), call.border));
    const auto task = [&](Worker<F>& worker, std::size_t l, std::int64_t p, std::int64_t first, std::int64_t last) {
        Rows<S> source = worker.rows(plane_of(source_of(l), call.dtype, p), source_of(l).width(), 0);
        const Plane target = plane_of(out[l], call.dtype, p);
        worker.run(downs[l], first, last, source, worker.template target<S>(target, out[l].width()));
    };
    if (plane_by_plane(x.planes(), size, call.threads)) {
        over_planes(x.planes(), size, call.threads, [&](std::int64_t first, std::int64_t last) {
            Worker<F> worker(size.w, size.h);
            for (std::int64_t p = first; p < last; ++p)
                for (std::size_t l = 0; l < out.size(); ++l) task(worker, l, p, 0, out[l].height());
        });
        return;
    }
    for (std::size_t l = 0; l < out.size(); ++l)
        over_strips(source_of(l), out[l].height(), out[l].width(), call.threads,
                    [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
                        Worker<F> worker(source_of(l).width(), last - first);
                        task(worker, l, plane, first, last);
                    });
}

// The images between two levels: in the caller's memory, or in our own. Two are in use at a time.
class Between {
public:
    Between(const std::vector<void*>& given, DType dtype, std::int64_t planes)
        : given_(given), dtype_(dtype), planes_(planes) {}

    View image(std::size_t index, Size size) {
        void* data;
        if (index < given_.size()) {
            data = given_[index];
        } else {
            own_[index % 2] = std::make_unique<lapcore::Block>(planes_ * size.count() * bytes_of(dtype_));
            data = own_[index % 2]->data();
        }
        return {data, {planes_, size.h, size.w}, {size.count(), size.w, 1}};
    }

private:
    const std::vector<void*>& given_;
    DType dtype_;
    std::int64_t planes_;
    std::unique_ptr<lapcore::Block> own_[2];
};

inline bool unit_rows(const View& view) { return view.width() == 1 || view.column_stride() == 1; }
inline bool unit_rows(const std::vector<View>& views) {
    return std::all_of(views.begin(), views.end(), [](const View& view) { return unit_rows(view); });
}

// Small images in groups; false where there is no such kernel for them.
template <class F>
bool laplacian_groups(const std::vector<Level<F>>& levels, const PyramidCall& call, const View& x,
                      const std::vector<View>& out) {
    if constexpr (kHasNarrow && kFused<F>) {
        if (call.dtype != dtype_of<typename F::Sample>() || !unit_rows(out) || !unit_rows(x)) return false;
        const std::int64_t planes = x.planes();
        for (std::int64_t images = std::min(kMaxGroup, planes); images > 0; images = images > 4 ? 4 : images / 2) {
            const SmallPyramids<F> groups(levels, images);
            if (!groups.is_ready()) continue;
            const Size size = levels.front().size;
            over_planes(
                planes / images, {images * size.h, size.w}, call.threads,
                [&](std::int64_t first, std::int64_t last) { groups.run(x, out, images * first, images * last); });
            const std::int64_t rest = planes % images;
            if (rest) SmallPyramids<F>(levels, 1).run(x, out, planes - rest, planes);
            return true;
        }
    }
    return false;
}

template <class F>
void laplacian_small(const std::vector<Level<F>>& levels, const PyramidCall& call, const View& x,
                     const std::vector<View>& out) {
    using S = typename F::Sample;
    using B = typename F::Band;
    if (laplacian_groups<F>(levels, call, x, out)) return;
    const Size size = levels.front().size;
    const DType bands = band_dtype(call.dtype);
    over_planes(x.planes(), size, call.threads, [&](std::int64_t first, std::int64_t last) {
        Worker<F> worker(size.w, size.h);
        const Buffer<S> memory[2]{Buffer<S>(levels.front().low.count()), Buffer<S>(levels.front().low.count())};
        for (std::int64_t p = first; p < last; ++p) {
            Plane image = plane_of(x, call.dtype, p);
            for (std::size_t l = 0; l < levels.size(); ++l) {
                const Level<F>& level = levels[l];
                const bool is_last = l + 1 == levels.size();
                Plane low{reinterpret_cast<char*>(memory[l % 2].get()), call.dtype, level.low.w, 1};
                if (is_last && bands == call.dtype) low = plane_of(out[l + 1], bands, p);
                Rows<S> source = worker.rows(image, level.size.w, l % 2 ? 0 : 2);
                const StoredBands<F> stored{worker.template target<B>(plane_of(out[l], bands, p), level.size.w)};
                level_plane(level, source, low, worker, stored, false);
                if (is_last && bands != call.dtype) {
                    const Rows<S> rows = worker.rows(low, level.low.w, 0);
                    const Plane residual = plane_of(out[l + 1], bands, p);
                    for (std::int64_t y = 0; y < level.low.h; ++y) store_samples(rows(y), level.low.w, residual, y);
                }
                image = low;
            }
        }
    });
}

// How many levels from the finest on are to be made at once, strip by strip: none where rows need others from far away.
template <class F>
std::size_t cascaded(const std::vector<Level<F>>& levels) {
    return levels.front().wraps ? 0 : std::min(kCascadeLevels, levels.size());
}

inline std::vector<Plane> planes_of(const std::vector<View>& views, std::size_t begin, std::size_t end, DType dtype,
                                    std::int64_t plane) {
    std::vector<Plane> planes;
    for (std::size_t l = begin; l < end; ++l) planes.push_back(plane_of(views[l], dtype, plane));
    return planes;
}

template <class F>
void laplacian_large(const std::vector<Level<F>>& levels, const PyramidCall& call, const View& x,
                     const std::vector<View>& out, const std::vector<void*>& work) {
    const DType bands = band_dtype(call.dtype);
    const bool streamed = prefer_streaming(out[0], bytes_of(bands));
    Between between(work, call.dtype, x.planes());
    View src = x;
    for (std::size_t begin = 0; begin < levels.size();) {
        const std::size_t count = begin == 0 ? cascaded(levels) : 1, end = begin + count;
        const bool is_last = end == levels.size();
        const View low = is_last ? out.back() : between.image(end - 1, levels[end - 1].low);
        over_strips(src, low.height(), src.width(), call.threads,
                    [&](std::int64_t p, std::int64_t first, std::int64_t last) {
                        LaplacianCascade<F> cascade(&levels[begin], count, call.dtype, streamed);
                        cascade.run(plane_of(src, call.dtype, p), planes_of(out, begin, end, bands, p),
                                    plane_of(low, is_last ? bands : call.dtype, p), first, last);
                        if (streamed) stream_fence();
                    });
        src = low;
        begin = end;
    }
}

// Levels whose border wraps around: all of the low-pass, then the band.
template <class F>
void laplacian_wrapped(const std::vector<Level<F>>& levels, const PyramidCall& call, const View& x,
                       const std::vector<View>& out, const std::vector<void*>& work) {
    using S = typename F::Sample;
    const DType bands = band_dtype(call.dtype);
    Between between(work, call.dtype, x.planes());
    View src = x;
    for (std::size_t l = 0; l < levels.size(); ++l) {
        const Level<F>& level = levels[l];
        const bool is_last = l + 1 == levels.size();
        const View low = is_last && bands == call.dtype ? out.back() : between.image(l, level.low);
        apply_operator(level.down, call, src, nullptr, 0, low);
        apply_operator(level.up, call, low, &src, -1, out[l]);
        if (is_last && bands != call.dtype) {
            Worker<F> worker(level.low.w, 1);
            for (std::int64_t p = 0; p < x.planes(); ++p) {
                const Rows<S> rows = worker.rows(plane_of(low, call.dtype, p), level.low.w, 0);
                const Plane residual = plane_of(out.back(), bands, p);
                for (std::int64_t y = 0; y < level.low.h; ++y) store_samples(rows(y), level.low.w, residual, y);
            }
        }
        src = low;
    }
}

template <class F>
void laplacian_pyramid(const PyramidCall& call, const View& x, const std::vector<View>& out,
                       const std::vector<void*>& work) {
    const auto levels = levels_of<F>(size_of(x), out.size() - 1, call.border);
    if (plane_by_plane(x.planes(), size_of(x), call.threads)) return laplacian_small<F>(levels, call, x, out);
    if (levels.front().wraps) return laplacian_wrapped<F>(levels, call, x, out, work);
    laplacian_large<F>(levels, call, x, out, work);
}

template <class F>
void collapse_small(const std::vector<Level<F>>& levels, const PyramidCall& call, const std::vector<View>& pyramid,
                    const View& out) {
    using S = typename F::Sample;
    const Size size = levels.front().size;
    over_planes(out.planes(), size, call.threads, [&](std::int64_t first, std::int64_t last) {
        Worker<F> worker(size.w, size.h);
        const Buffer<S> memory[2]{Buffer<S>(levels.front().low.count()), Buffer<S>(levels.front().low.count())};
        for (std::int64_t p = first; p < last; ++p) {
            Plane low = plane_of(pyramid.back(), call.dtype, p);
            for (std::size_t l = levels.size(); l-- > 0;) {
                const Size to = levels[l].size;
                const Plane dst = l ? Plane{reinterpret_cast<char*>(memory[l % 2].get()), call.dtype, to.w, 1}
                                    : plane_of(out, call.dtype, p);
                Rows<S> source = worker.rows(low, levels[l].low.w, 0);
                Rows<S> band = worker.rows(plane_of(pyramid[l], call.dtype, p), to.w, 1);
                worker.run(levels[l].up, 1, 0, to.h, source, band, worker.template target<S>(dst, to.w));
                low = dst;
            }
        }
    });
}

template <class F>
void collapse_large(const std::vector<Level<F>>& levels, const PyramidCall& call, const std::vector<View>& pyramid,
                    const View& out, const std::vector<void*>& work) {
    Between between(work, call.dtype, out.planes());
    const bool streamed = prefer_streaming(out, bytes_of(call.dtype));
    const std::size_t at_once = cascaded(levels);
    View low = pyramid.back();
    for (std::size_t l = levels.size(); l-- > at_once;) {
        const View dst = l ? between.image(l - 1, levels[l].size) : out;
        apply_operator(levels[l].up, call, low, &pyramid[l], 1, dst);
        low = dst;
    }
    if (at_once == 0) return;
    over_strips(out, out.height(), out.width(), call.threads,
                [&](std::int64_t p, std::int64_t first, std::int64_t last) {
                    CollapseCascade<F> cascade(levels.data(), at_once, call.dtype, streamed);
                    cascade.run(planes_of(pyramid, 0, at_once, call.dtype, p), plane_of(low, call.dtype, p),
                                plane_of(out, call.dtype, p), first, last);
                    if (streamed) stream_fence();
                });
}

// The bands of an image that is stored as they are.
template <class F>
void collapse(const PyramidCall& call, const std::vector<View>& pyramid, const View& out,
              const std::vector<void*>& work) {
    static_assert(std::is_same_v<typename F::Sample, typename F::Band>);
    const auto levels = levels_of<F>(size_of(out), pyramid.size() - 1, call.border);
    if (plane_by_plane(out.planes(), size_of(out), call.threads)) return collapse_small(levels, call, pyramid, out);
    collapse_large(levels, call, pyramid, out, work);
}

template <class F>
constexpr PyramidFormat format_of() {
    PyramidFormat format{&apply<F>, &gaussian_pyramid<F>, &laplacian_pyramid<F>, nullptr};
    if constexpr (std::is_same_v<typename F::Sample, typename F::Band>) format.collapse = &collapse<F>;
    return format;
}

}  // namespace lapcore::LAPCORE_ISA
