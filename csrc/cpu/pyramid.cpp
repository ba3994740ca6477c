// Pyramid kernels for CPUs: separable, streaming over rows, vectorised along them.
//
// Small planes go one to a thread, which makes all levels of one while it is in the cache, those of the smallest in
// groups (cpu/small.h). Large ones are cut into strips of rows, with several levels at once where that is possible
// (cpu/cascade.h). A Laplacian level writes the low-pass and the band in one pass (cpu/laplacian.h).
#include "cpu/pyramid.h"

#include <memory>
#include <stdexcept>

#include "cpu/cascade.h"
#include "cpu/laplacian.h"
#include "cpu/memory.h"
#include "cpu/small.h"
#include "cpu/worker.h"

namespace lapcore::LAPCORE_ISA {

void apply_tables(const PyramidCall& call, const TapTable& rows, const TapTable& columns, const View& src,
                  const View* base, double alpha, const View& dst);
void laplacian_loss(const LossCall& call, const View& input, const View& target, const std::vector<View>& masks,
                    void* loss, const View* grad);

namespace {

// Calls function(std::integral_constant<int, sign>) for no base (0), base + it (1) and base - it (-1).
template <class Function>
void by_sign(const View* base, double alpha, const Function& function) {
    if (!base) return function(std::integral_constant<int, 0>{});
    if (alpha > 0) return function(std::integral_constant<int, 1>{});
    function(std::integral_constant<int, -1>{});
}

// How many channels of an image lie side by side in memory, where forward operators take so many at once; or 1.
std::int64_t interleaved(const View& view) {
    const std::size_t dims = view.shape.size();
    if (dims < 3 || view.strides[dims - 3] != 1 || view.column_stride() != view.shape[dims - 3]) return 1;
    return view.shape[dims - 3] == 3 || view.shape[dims - 3] == 4 ? view.shape[dims - 3] : 1;
}

// Such images as planes of rows of all their channels.
View side_by_side(const View& view) {
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

template <class T, int sign>
void apply_operator(const Operator<Sum<T>>& operation, const View& src, const View* base, const View& dst,
                    int threads) {
    using O = std::conditional_t<sign == 0, T, Band<T>>;
    const Size from = size_of(src), to = size_of(dst);
    const bool streamed = prefer_streaming(dst, sizeof(O));
    const auto task = [&](Worker<T>& worker, std::int64_t plane, std::int64_t first, std::int64_t last) {
        Rows<T> source = worker.rows(constant(plane_of<T>(src, plane)), from.w, 0);
        if constexpr (sign == 0) {
            NoBase none;
            worker.template run<0>(operation, first, last, source, none, plane_of<O>(dst, plane), streamed);
        } else {
            Rows<T> added = worker.rows(constant(plane_of<T>(*base, plane)), to.w, 1);
            worker.template run<sign>(operation, first, last, source, added, plane_of<O>(dst, plane), streamed);
        }
    };
    const std::int64_t width = std::max(from.w, to.w), planes = dst.planes();
    if (plane_by_plane(planes, to, threads)) {
        over_planes(planes, to, threads, [&](std::int64_t first, std::int64_t last) {
            Worker<T> worker(width, to.h);
            for (std::int64_t p = first; p < last; ++p) task(worker, p, 0, to.h);
        });
        return;
    }
    over_strips(src, to.h, to.w, threads, [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
        Worker<T> worker(width, last - first);
        task(worker, plane, first, last);
        if (streamed) stream_fence();
    });
}

template <class T, int sign>
void apply(const PyramidCall& call, Op op, const View& src, const View* base, const View& dst) {
    const Size from = size_of(src), to = size_of(dst);
    if constexpr (sign == 0) {
        const std::int64_t channels = interleaved(src);
        if (channels > 1 && interleaved(dst) == channels && (op == Op::down || op == Op::up)) {
            const auto operation = operator_of<Sum<T>>(op, from, to, call.border, channels);
            return apply_operator<T, 0>(operation, side_by_side(src), nullptr, side_by_side(dst), call.threads);
        }
    }
    const auto operation = operator_of<Sum<T>>(op, from, to, call.border);
    apply_operator<T, sign>(operation, src, base, dst, call.threads);
}

template <class T>
std::vector<Level<Sum<T>>> levels_of(Size size, std::size_t count, Border border) {
    std::vector<Level<Sum<T>>> levels;
    levels.reserve(count);
    for (std::size_t l = 0; l < count; ++l, size = size.half()) levels.emplace_back(size, border);
    return levels;
}

template <class T>
Plane<T> contiguous_plane(T* data, Size size, std::int64_t plane = 0) {
    return {data + plane * size.count(), size.w, 1};
}

template <class T>
void gaussian_pyramid(const PyramidCall& call, const View& x, const std::vector<View>& out) {
    const Size size = size_of(x);
    std::vector<Operator<Sum<T>>> downs;
    for (std::size_t l = 0; l < out.size(); ++l)
        downs.push_back(operator_of<Sum<T>>(Op::down, l ? size_of(out[l - 1]) : size, size_of(out[l]), call.border));
    const auto task = [&](Worker<T>& worker, std::size_t l, std::int64_t plane, std::int64_t first, std::int64_t last) {
        const View& src = l ? out[l - 1] : x;
        Rows<T> source = worker.rows(constant(plane_of<T>(src, plane)), src.width(), 0);
        NoBase none;
        worker.template run<0>(downs[l], first, last, source, none, plane_of<T>(out[l], plane), false);
    };
    if (plane_by_plane(x.planes(), size, call.threads)) {
        over_planes(x.planes(), size, call.threads, [&](std::int64_t first, std::int64_t last) {
            Worker<T> worker(size.w, size.h);
            for (std::int64_t p = first; p < last; ++p)
                for (std::size_t l = 0; l < out.size(); ++l) task(worker, l, p, 0, out[l].height());
        });
        return;
    }
    for (std::size_t l = 0; l < out.size(); ++l) {
        const View& src = l ? out[l - 1] : x;
        over_strips(src, out[l].height(), out[l].width(), call.threads,
                    [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
                        Worker<T> worker(src.width(), last - first);
                        task(worker, l, plane, first, last);
                    });
    }
}

// Memory for the images between two levels: the caller's, or our own.
template <class T>
class Between {
public:
    Between(const std::vector<void*>& given, std::size_t index, std::int64_t count) {
        if (index < given.size()) {
            data_ = static_cast<T*>(given[index]);
        } else {
            own_ = std::make_unique<lapcore::Block>(count * sizeof(T));
            data_ = static_cast<T*>(own_->data());
        }
    }
    T* get() const { return data_; }

private:
    T* data_;
    std::unique_ptr<lapcore::Block> own_;
};

// Rows of the low-pass of an integer image, which is stored with the bands.
template <class T>
void copy_rows(const Plane<T>& src, Size size, std::int64_t first, std::int64_t last, const Plane<Band<T>>& dst) {
    if constexpr (std::is_integral_v<T>) {
        for (std::int64_t y = first; y < last; ++y)
            for (std::int64_t x = 0; x < size.w; ++x) put(Sum<T>(src.row(y)[x]), dst.row(y)[x * dst.column_stride]);
    }
}

bool unit_rows(const View& view) { return view.width() == 1 || view.column_stride() == 1; }
bool unit_rows(const std::vector<View>& views) {
    return std::all_of(views.begin(), views.end(), [](const View& view) { return unit_rows(view); });
}

// Small images in groups; false where there is no such kernel for them.
template <class T>
bool laplacian_groups(const std::vector<Level<Sum<T>>>& levels, const PyramidCall& call, const View& x,
                      const std::vector<View>& out) {
    if constexpr (std::is_same_v<T, Sum<T>>) {
        if (!unit_rows(out) || !unit_rows(x)) return false;
        const std::int64_t planes = x.planes();
        for (std::int64_t images = std::min(kMaxGroup, planes); images > 0; images = images > 4 ? 4 : images / 2) {
            const SmallPyramids<T> groups(levels, images);
            if (!groups.is_ready()) continue;
            const Size size = levels.front().size;
            over_planes(
                planes / images, {images * size.h, size.w}, call.threads,
                [&](std::int64_t first, std::int64_t last) { groups.run(x, out, images * first, images * last); });
            const std::int64_t rest = planes % images;
            if (rest) SmallPyramids<T>(levels, 1).run(x, out, planes - rest, planes);
            return true;
        }
    }
    return false;
}

template <class T>
void laplacian_small(const std::vector<Level<Sum<T>>>& levels, const PyramidCall& call, const View& x,
                     const std::vector<View>& out) {
    if (laplacian_groups<T>(levels, call, x, out)) return;
    const Size size = levels.front().size;
    over_planes(x.planes(), size, call.threads, [&](std::int64_t first, std::int64_t last) {
        Worker<T> worker(size.w, size.h);
        const Buffer<T> memory[2]{Buffer<T>(levels.front().low.count()), Buffer<T>(levels.front().low.count())};
        for (std::int64_t p = first; p < last; ++p) {
            Rows<T> source = worker.rows(constant(plane_of<T>(x, p)), size.w, 0);
            for (std::size_t l = 0; l < levels.size(); ++l) {
                const Level<Sum<T>>& level = levels[l];
                Plane<T> low = contiguous_plane(memory[l % 2].get(), level.low);
                if constexpr (std::is_same_v<T, Band<T>>) {
                    if (l + 1 == levels.size()) low = plane_of<T>(out[l + 1], p);
                }
                laplacian_strip<T>(level, source, plane_of<Band<T>>(out[l], p), low, 0, level.low.h, worker, false);
                if constexpr (!std::is_same_v<T, Band<T>>) {
                    if (l + 1 == levels.size())
                        copy_rows(low, level.low, 0, level.low.h, plane_of<Band<T>>(out[l + 1], p));
                }
                source = worker.rows(constant(low), level.low.w, l % 2 ? 0 : 2);
            }
        }
    });
}

// How many levels from the finest on are to be made at once, strip by strip (cpu/cascade.h): none where rows must be
// converted, or need others from far away.
template <class T>
std::size_t cascaded(const std::vector<Level<Sum<T>>>& levels, const std::vector<View>& views) {
    if (!std::is_same_v<T, Sum<T>> || levels.front().wraps) return 0;
    return unit_rows(views) ? std::min(kCascadeLevels, levels.size()) : 0;
}

template <class T>
std::vector<Plane<T>> planes_of(const std::vector<View>& views, std::size_t count, std::int64_t plane) {
    std::vector<Plane<T>> planes;
    for (std::size_t l = 0; l < count; ++l) planes.push_back(plane_of<T>(views[l], plane));
    return planes;
}

template <class T>
View contiguous_view(T* data, std::int64_t planes, Size size) {
    return {data, {planes, size.h, size.w}, {size.count(), size.w, 1}};
}

template <class T>
void laplacian_large(const std::vector<Level<Sum<T>>>& levels, const PyramidCall& call, const View& x,
                     const std::vector<View>& out, const std::vector<void*>& work) {
    const std::int64_t planes = x.planes();
    const bool streamed = prefer_streaming(out[0], sizeof(Band<T>));
    View src = x;
    std::unique_ptr<Between<T>> memory[2];
    const auto low_of = [&](std::size_t l) {
        if (l + 1 == levels.size() && std::is_same_v<T, Band<T>>) return out[l + 1];
        memory[l % 2] = std::make_unique<Between<T>>(work, l, planes * levels[l].low.count());
        return contiguous_view(memory[l % 2]->get(), planes, levels[l].low);
    };
    const std::size_t at_once = cascaded<T>(levels, out);
    if constexpr (std::is_same_v<T, Sum<T>>) {
        if (at_once) {
            const View low = low_of(at_once - 1);
            over_strips(x, low.height(), x.width(), call.threads,
                        [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
                            LaplacianCascade<T> cascade(levels, at_once, streamed);
                            cascade.run(cascade.worker().rows(constant(plane_of<T>(x, plane)), x.width(), 0),
                                        planes_of<T>(out, at_once, plane), plane_of<T>(low, plane), first, last);
                            if (streamed) stream_fence();
                        });
            src = low;
        }
    }
    for (std::size_t l = at_once; l < levels.size(); ++l) {
        const Level<Sum<T>>& level = levels[l];
        const View low = low_of(l);
        over_strips(src, level.low.h, level.size.w, call.threads,
                    [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
                        Worker<T> worker(level.size.w, last - first);
                        Rows<T> source = worker.rows(constant(plane_of<T>(src, plane)), level.size.w, 0);
                        laplacian_strip<T>(level, source, plane_of<Band<T>>(out[l], plane), plane_of<T>(low, plane),
                                           first, last, worker, streamed);
                        if (!std::is_same_v<T, Band<T>> && l + 1 == levels.size())
                            copy_rows(plane_of<T>(low, plane), level.low, first, last,
                                      plane_of<Band<T>>(out[l + 1], plane));
                        if (streamed) stream_fence();
                    });
        src = low;
    }
}

template <class T>
void laplacian_pyramid(const PyramidCall& call, const View& x, const std::vector<View>& out,
                       const std::vector<void*>& work) {
    const auto levels = levels_of<T>(size_of(x), out.size() - 1, call.border);
    if (plane_by_plane(x.planes(), size_of(x), call.threads)) return laplacian_small<T>(levels, call, x, out);
    laplacian_large<T>(levels, call, x, out, work);
}

// One level of a collapse: rows [first, last) of dst = band + up(low).
template <class T>
void collapse_rows(const Operator<Sum<T>>& up, const Plane<const T>& band, const Plane<const T>& low,
                   const Plane<T>& dst, std::int64_t first, std::int64_t last, Worker<T>& worker, bool streamed) {
    Rows<T> source = worker.rows(low, up.columns.n_src(), 0), added = worker.rows(band, up.columns.n_dst(), 1);
    worker.template run<1>(up, first, last, source, added, dst, streamed);
}

template <class T>
void collapse(const PyramidCall& call, const std::vector<View>& pyramid, const View& out,
              const std::vector<void*>& work) {
    const Size size = size_of(out);
    const std::size_t count = pyramid.size() - 1;
    const auto levels = levels_of<T>(size, count, call.border);
    const std::int64_t planes = out.planes();
    if (plane_by_plane(planes, size, call.threads)) {
        over_planes(planes, size, call.threads, [&](std::int64_t first, std::int64_t last) {
            Worker<T> worker(size.w, size.h);
            const Buffer<T> memory[2]{Buffer<T>(levels.front().low.count()), Buffer<T>(levels.front().low.count())};
            for (std::int64_t p = first; p < last; ++p) {
                Plane<T> low = plane_of<T>(pyramid.back(), p);
                for (std::size_t l = count; l-- > 0;) {
                    const Size to = levels[l].size;
                    const Plane<T> dst = l ? contiguous_plane(memory[l % 2].get(), to) : plane_of<T>(out, p);
                    collapse_rows<T>(levels[l].up, constant(plane_of<T>(pyramid[l], p)), constant(low), dst, 0, to.h,
                                     worker, false);
                    low = dst;
                }
            }
        });
        return;
    }
    const std::size_t at_once = unit_rows(out) ? cascaded<T>(levels, pyramid) : 0;
    View low = pyramid.back();
    std::unique_ptr<Between<T>> memory[2];
    const auto image_of = [&](std::size_t l) {
        if (l == 0) return out;
        memory[l % 2] = std::make_unique<Between<T>>(work, l - 1, planes * levels[l].size.count());
        return contiguous_view(memory[l % 2]->get(), planes, levels[l].size);
    };
    const bool streamed = prefer_streaming(out, sizeof(T));
    for (std::size_t l = count; l-- > at_once;) {
        const View dst = image_of(l);
        over_strips(pyramid[l], dst.height(), dst.width(), call.threads,
                    [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
                        Worker<T> worker(dst.width(), last - first);
                        collapse_rows<T>(levels[l].up, constant(plane_of<T>(pyramid[l], plane)),
                                         constant(plane_of<T>(low, plane)), plane_of<T>(dst, plane), first, last,
                                         worker, streamed && l == 0);
                        if (streamed) stream_fence();
                    });
        low = dst;
    }
    if constexpr (std::is_same_v<T, Sum<T>>) {
        if (at_once) {
            over_strips(out, size.h, size.w, call.threads,
                        [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
                            std::vector<Plane<const T>> bands;
                            for (std::size_t l = 0; l < at_once; ++l)
                                bands.push_back(constant(plane_of<T>(pyramid[l], plane)));
                            CollapseCascade<T> cascade(levels, at_once, streamed);
                            cascade.run(bands, constant(plane_of<T>(low, plane)), plane_of<T>(out, plane), first, last);
                            if (streamed) stream_fence();
                        });
        }
    }
}

// Calls function(T{}) for the type T of a dtype.
template <class Function>
void by_dtype(DType dtype, const Function& function) {
    switch (dtype) {
        case DType::float16: return function(Half{});
        case DType::bfloat16: return function(BFloat16{});
        case DType::float32: return function(float{});
        case DType::float64: return function(double{});
        case DType::uint8: return function(std::uint8_t{});
        case DType::int16: return function(std::int16_t{});
        case DType::uint16: return function(std::uint16_t{});
    }
}

}  // namespace

extern const PyramidKernels pyramid_kernels;
const PyramidKernels pyramid_kernels{
    [](const PyramidCall& call, Op op, const View& src, const View* base, double alpha, const View& dst) {
        by_dtype(call.dtype, [&](auto t) {
            by_sign(base, alpha, [&](auto sign) { apply<decltype(t), sign()>(call, op, src, base, dst); });
        });
    },
    &apply_tables,
    [](const PyramidCall& call, const View& x, const std::vector<View>& out) {
        by_dtype(call.dtype, [&](auto t) { gaussian_pyramid<decltype(t)>(call, x, out); });
    },
    [](const PyramidCall& call, const View& x, const std::vector<View>& out, const std::vector<void*>& work) {
        by_dtype(call.dtype, [&](auto t) { laplacian_pyramid<decltype(t)>(call, x, out, work); });
    },
    [](const PyramidCall& call, const std::vector<View>& levels, const View& out, const std::vector<void*>& work) {
        by_dtype(call.dtype, [&](auto t) { collapse<decltype(t)>(call, levels, out, work); });
    },
    &laplacian_loss,
};

}  // namespace lapcore::LAPCORE_ISA
