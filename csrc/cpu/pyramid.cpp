// Pyramid kernels for CPUs: separable, streaming over rows, vectorised along them.
//
// Every output row is a combination of a few source rows (along the columns) into one line, then of that line's samples
// (along the row). Each output is accumulated in one fixed order, whatever the batch, the number of threads or the
// instruction set. A Laplacian level writes the low-pass and the band in one pass over the rows, while the rows it
// needs are in the cache.
#include "cpu/pyramid.h"

#include <memory>

#include "cpu/dispatch.h"
#include "cpu/rows.h"
#include "cpu/threads.h"

namespace lapcore::LAPCORE_ISA {
namespace {

constexpr std::int64_t kElementsPerThread = 1 << 14;  // below this a second thread costs more than it brings
constexpr std::int64_t kPlaneInCache = 1 << 17;  // elements of a plane whose whole pyramid one core keeps in its cache
constexpr std::int64_t kStripRows = 64;

struct Size {
    std::int64_t h, w;
    std::int64_t count() const { return h * w; }
    Size half() const { return {(h + 1) / 2, (w + 1) / 2}; }
};

Size size_of(const View& view) { return {view.height(), view.width()}; }

template <class T>
Rows<T> rows_of(const View& view, std::int64_t plane) {
    const T* data = static_cast<const T*>(view.data) + view.plane_offset(plane);
    return {data, view.row_stride(), view.column_stride(), view.width()};
}

template <class T>
Rows<T> rows_of(const T* contiguous, Size size) {
    return {contiguous, size.w, 1, size.w};
}

// A 2-D operator: one Axis along the columns, one along the rows.
struct Operator {
    Axis rows, columns;
    Operator(Op op, Size src, Size dst, Border border)
        : rows(op, src.h, dst.h, border), columns(op, src.w, dst.w, border) {}
};

template <class T>
class Scratch {
public:
    explicit Scratch(std::int64_t width)
        : line_(width + 2 * Axis::kPad), out_(std::is_same_v<T, Compute<T>> ? 0 : width) {}
    Compute<T>* line() { return line_.data() + Axis::kPad; }
    Compute<T>* out() { return out_.data(); }

private:
    std::vector<Compute<T>> line_, out_;
};

// Row i of op(src), or of base + alpha * op(src), into dst.
template <class T>
void apply_row(const Operator& op, std::int64_t i, Rows<T>& src, const Compute<T>* base, Compute<T> alpha,
               Scratch<T>& scratch, T* dst) {
    combine_rows(op.rows(i), src, scratch.line());
    Compute<T>* out;
    if constexpr (std::is_same_v<T, Compute<T>>) {
        out = dst;
    } else {
        out = scratch.out();
    }
    if (base) {
        apply_along_row<true>(op.columns, scratch.line(), base, alpha, out);
    } else {
        apply_along_row<false>(op.columns, scratch.line(), base, alpha, out);
    }
    if constexpr (!std::is_same_v<T, Compute<T>>) store_row(out, op.columns.n_dst(), dst);
}

template <class T>
void apply_rows(const Operator& op, std::int64_t first, std::int64_t last, Rows<T> src, Rows<T>* base, double alpha,
                T* dst) {
    Scratch<T> scratch(std::max(op.columns.n_src(), op.columns.n_dst()));
    for (std::int64_t i = first; i < last; ++i) {
        apply_row(op, i, src, base ? (*base)(i) : nullptr, static_cast<Compute<T>>(alpha), scratch,
                  dst + i * op.columns.n_dst());
    }
}

int useful_threads(int threads, std::int64_t elements) {
    return static_cast<int>(std::min<std::int64_t>(threads, 1 + elements / kElementsPerThread));
}

// Calls task(plane, first_row, last_row): whole planes when there are enough of them, strips of rows otherwise.
template <class Task>
void over_rows(std::int64_t planes, Size dst, int threads, const Task& task) {
    threads = useful_threads(threads, planes * dst.count());
    const bool whole = threads == 1 || planes >= 4 * threads;
    const std::int64_t strip = whole ? std::max<std::int64_t>(dst.h, 1) : kStripRows;
    const std::int64_t strips = (dst.h + strip - 1) / strip;
    parallel_for(planes * strips, threads, [&](std::int64_t i) {
        const std::int64_t first = (i % strips) * strip;
        task(i / strips, first, std::min(first + strip, dst.h));
    });
}

template <class T>
void apply(const PyramidCall& call, Op op, const View& src, const View* base, double alpha, void* dst,
           std::int64_t height, std::int64_t width) {
    const Size size{height, width};
    const Operator operation(op, size_of(src), size, call.border);
    over_rows(src.planes(), size, call.threads, [&](std::int64_t plane, std::int64_t first, std::int64_t last) {
        T* out = static_cast<T*>(dst) + plane * size.count();
        if (base) {
            Rows<T> base_rows = rows_of<T>(*base, plane);
            apply_rows<T>(operation, first, last, rows_of<T>(src, plane), &base_rows, alpha, out);
        } else {
            apply_rows<T>(operation, first, last, rows_of<T>(src, plane), nullptr, alpha, out);
        }
    });
}

struct Level {
    Size size, low;
    Operator down, up;
    Level(Size s, Border border) : size(s), low(s.half()), down(Op::down, s, low, border), up(Op::up, low, s, border) {}
};

std::vector<Level> levels_of(Size size, std::size_t count, Border border) {
    std::vector<Level> levels;
    for (std::size_t l = 0; l < count; ++l, size = size.half()) levels.emplace_back(size, border);
    return levels;
}

bool reads_only(const ShiftedTaps& taps, std::int64_t first, std::int64_t last) {
    for (int k = 0; k < taps.count(); ++k)
        if (taps.index(k) < first || taps.index(k) >= last) return false;
    return true;
}

// One strip of one Laplacian level: rows [first, last) of the low-pass, and of the band above them every row that needs
// no low-pass row of another strip. The others are added to `deferred`.
template <class T>
void laplacian_strip(const Level& level, Rows<T> src, std::int64_t first, std::int64_t last, T* band, T* low,
                     std::vector<std::int64_t>* deferred) {
    Scratch<T> scratch(level.size.w);
    Rows<T> low_rows = rows_of(low, level.low);
    std::int64_t next = 2 * first;
    const std::int64_t end = std::min(2 * last, level.size.h);
    for (std::int64_t m = first; m < last; ++m) {
        apply_row<T>(level.down, m, src, nullptr, 1, scratch, low + m * level.low.w);
        for (; next < end; ++next) {
            const ShiftedTaps taps = level.up.rows(next);
            if (!reads_only(taps, first, last)) {
                deferred->push_back(next);
            } else if (reads_only(taps, first, m + 1)) {
                apply_row<T>(level.up, next, low_rows, src(next), -1, scratch, band + next * level.size.w);
            } else {
                break;
            }
        }
    }
}

template <class T>
void band_rows(const Level& level, Rows<T> src, const std::vector<std::int64_t>& rows, T* band, const T* low) {
    if (rows.empty()) return;
    Scratch<T> scratch(level.size.w);
    Rows<T> low_rows = rows_of(low, level.low);
    for (const auto i : rows) apply_row<T>(level.up, i, low_rows, src(i), -1, scratch, band + i * level.size.w);
}

template <class T>
void laplacian_level(const Level& level, const Rows<T>& src, T* band, T* low, int threads) {
    const std::int64_t strips = threads == 1 ? 1 : (level.low.h + kStripRows - 1) / kStripRows;
    std::vector<std::vector<std::int64_t>> deferred(strips);
    parallel_for(strips, threads, [&](std::int64_t s) {
        const std::int64_t first = s * level.low.h / strips, last = (s + 1) * level.low.h / strips;
        laplacian_strip<T>(level, src, first, last, band, low, &deferred[s]);
    });
    parallel_for(strips, threads, [&](std::int64_t s) { band_rows<T>(level, src, deferred[s], band, low); });
}

template <class T>
void laplacian_plane(const std::vector<Level>& levels, const View& x, const std::vector<void*>& out, std::int64_t plane,
                     int threads) {
    std::unique_ptr<T[]> low[2];
    Rows<T> src = rows_of<T>(x, plane);
    for (std::size_t l = 0; l < levels.size(); ++l) {
        const Level& level = levels[l];
        T* target;
        if (l + 1 == levels.size()) {
            target = static_cast<T*>(out[l + 1]) + plane * level.low.count();
        } else {
            low[l % 2].reset(new T[level.low.count()]);
            target = low[l % 2].get();
        }
        laplacian_level<T>(level, src, static_cast<T*>(out[l]) + plane * level.size.count(), target,
                           useful_threads(threads, level.size.count()));
        src = rows_of<T>(target, level.low);
    }
}

// Small planes go one to a thread, with all their levels; large ones one after the other, each over all threads.
template <class Task>
void over_planes(std::int64_t planes, Size size, int threads, const Task& task) {
    threads = useful_threads(threads, planes * size.count());
    if (threads > 1 && planes >= threads && (size.count() <= kPlaneInCache || planes >= 8 * threads)) {
        parallel_for(planes, threads, [&](std::int64_t p) { task(p, 1); });
    } else {
        for (std::int64_t p = 0; p < planes; ++p) task(p, threads);
    }
}

template <class T>
void laplacian_pyramid(const PyramidCall& call, const View& x, const std::vector<void*>& out) {
    const auto levels = levels_of(size_of(x), out.size() - 1, call.border);
    over_planes(x.planes(), size_of(x), call.threads,
                [&](std::int64_t plane, int threads) { laplacian_plane<T>(levels, x, out, plane, threads); });
}

template <class T>
void collapse_plane(const std::vector<Level>& levels, const std::vector<View>& pyramid, T* out, std::int64_t plane,
                    int threads) {
    std::unique_ptr<T[]> image[2];
    Rows<T> low = rows_of<T>(pyramid.back(), plane);
    for (std::size_t l = levels.size(); l-- > 0;) {
        const Level& level = levels[l];
        T* target = out + plane * level.size.count();
        if (l > 0) {
            image[l % 2].reset(new T[level.size.count()]);
            target = image[l % 2].get();
        }
        over_rows(1, level.size, threads, [&](std::int64_t, std::int64_t first, std::int64_t last) {
            Rows<T> band = rows_of<T>(pyramid[l], plane);
            apply_rows<T>(level.up, first, last, low, &band, 1, target);
        });
        low = rows_of<T>(target, level.size);
    }
}

template <class T>
void collapse(const PyramidCall& call, const std::vector<View>& pyramid, void* out) {
    const Size size = size_of(pyramid.front());
    const auto levels = levels_of(size, pyramid.size() - 1, call.border);
    over_planes(pyramid.front().planes(), size, call.threads, [&](std::int64_t plane, int threads) {
        collapse_plane<T>(levels, pyramid, static_cast<T*>(out), plane, threads);
    });
}

// Calls function(T{}) for the type T of a dtype.
template <class Function>
void by_dtype(DType dtype, const Function& function) {
    switch (dtype) {
        case DType::float16: return function(Half{});
        case DType::bfloat16: return function(BFloat16{});
        case DType::float32: return function(float{});
        case DType::float64: return function(double{});
    }
}

const PyramidKernels pyramid{
    [](const PyramidCall& call, Op op, const View& src, const View* base, double alpha, void* dst, std::int64_t height,
       std::int64_t width) {
        by_dtype(call.dtype, [&](auto t) { apply<decltype(t)>(call, op, src, base, alpha, dst, height, width); });
    },
    [](const PyramidCall& call, const View& x, const std::vector<void*>& out) {
        by_dtype(call.dtype, [&](auto t) { laplacian_pyramid<decltype(t)>(call, x, out); });
    },
    [](const PyramidCall& call, const std::vector<View>& levels, void* out) {
        by_dtype(call.dtype, [&](auto t) { collapse<decltype(t)>(call, levels, out); });
    },
};

}  // namespace

extern const Kernels kernels;
#define LAPCORE_NAME_OF(isa) #isa
#define LAPCORE_NAME(isa) LAPCORE_NAME_OF(isa)
const Kernels kernels{LAPCORE_NAME(LAPCORE_ISA), pyramid};

}  // namespace lapcore::LAPCORE_ISA
