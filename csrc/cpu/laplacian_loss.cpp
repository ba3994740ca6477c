// The Laplacian loss: sum_l c[n, l] sum m_l |h_l(input - target)| over each sample, and its gradient, plane by plane. A
// band is summed up as it is made and never stored; for the gradient, c m sign(h) is kept in its place.
//
// Sums are taken in a fixed number of lanes along a row, then over the rows and planes in float64: they depend neither
// on the instruction set, nor on the threads, nor on the batch.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/laplacian.h"
#include "cpu/pyramid.h"
#include "cpu/worker.h"

namespace lapcore::LAPCORE_ISA {

void laplacian_loss(const LossCall& call, const View& input, const View& target, const std::vector<View>& masks,
                    void* loss, const View* grad);

namespace {

constexpr int kSumLanes = 16;

template <class C>
struct SumVectorOf {
    typedef C type __attribute__((vector_size(kSumLanes * sizeof(C))));
};
template <class C>
using SumVector = typename SumVectorOf<C>::type;

// The rows of a - b.
template <class S>
struct DifferenceRows final : RowSource<S> {
    Rows<S> a, b;
    std::int64_t width;

    DifferenceRows(const Rows<S>& a, const Rows<S>& b, std::int64_t width) : a(a), b(b), width(width) {}
    void make(std::int64_t y, S* row) override {
        const S *p = a(y), *q = b(y);
        for (std::int64_t x = 0; x < width; ++x) row[x] = p[x] - q[x];
    }
};

// sum m |h| over rows of one band, m = 1 where no mask is given.
template <class C>
class AbsoluteSum {
public:
    void add(const C* h, const C* mask, std::int64_t n) {
        SumVector<C> lanes{};
        std::int64_t x = 0;
        for (; x + kSumLanes <= n; x += kSumLanes) {
            SumVector<C> v, m;
            std::memcpy(&v, h + x, sizeof v);
            v = v < 0 ? -v : v;
            if (mask) {
                std::memcpy(&m, mask + x, sizeof m);
                v = v * m;
            }
            lanes = lanes + v;
        }
        for (int k = 0; x < n; ++x, ++k) lanes[k] += std::abs(h[x]) * (mask ? mask[x] : C(1));
        total_ = total_ + __builtin_convertvector(lanes, SumVector<double>);
    }

    double value() const {
        double sum = 0;
        for (int k = 0; k < kSumLanes; ++k) sum += total_[k];
        return sum;
    }

private:
    SumVector<double> total_{};
};

// c m sign(h); a NaN stays one.
template <class C>
void signs(const C* h, const C* mask, C c, std::int64_t n, C* out) {
    for (std::int64_t x = 0; x < n; ++x) {
        const C weight = mask ? c * mask[x] : c;
        out[x] = h[x] > 0 ? weight : h[x] < 0 ? -weight : h[x] * weight;
    }
}

// One level as it is halved, and the operators of its gradient.
template <class F>
struct LossLevel {
    Level<F> level;
    Operator<F> up_adjoint, down_adjoint;
    LossLevel(Size size, Border border)
        : level(size, border),
          up_adjoint(operator_of<F>(Op::up_adjoint, size, size.half(), border)),
          down_adjoint(operator_of<F>(Op::down_adjoint, size.half(), size, border)) {}
};

// What one thread needs for planes: a low-pass or, where a gradient is asked for, all levels' signs in its place.
template <class F>
class Loss {
public:
    using C = typename F::Sum;

    Loss(const LossCall& call, const std::vector<LossLevel<F>>& levels, Size image, const std::vector<View>& masks,
         bool with_grad)
        : call_(call),
          levels_(levels),
          masks_(masks),
          image_(image),
          stored_(image.w, 2),
          worker_(image.w, image.h),
          band_((kMaxBlockRows + 2) * image.w),
          mask_(masks.empty() ? 0 : image.w) {
        for (const auto& level : levels) lows_.emplace_back(level.level.low.count());
        if (!with_grad) return;
        for (const auto& level : levels) signs_.emplace_back(level.level.size.count());
        signs_.emplace_back(levels.back().level.low.count());
        total_ = Buffer<C>(image.half().count());
    }

    // sum_l c_l sum m_l |h_l| of one plane, c being its sample's coefficients.
    double plane(const View& input, const View& target, std::int64_t p, const C* c) {
        const std::int64_t width = levels_[0].level.size.w;
        const DType dtype = call_.pyramid.dtype;
        DifferenceRows<C> difference(stored_.rows(plane_of(input, dtype, p), width, 0),
                                     stored_.rows(plane_of(target, dtype, p), width, 1), width);
        differences_.reset(width, difference);
        double loss = level(0, p, Rows<C>(differences_), c);
        for (std::size_t l = 1; l < levels_.size(); ++l)
            loss += level(l, p, worker_.rows(low(l - 1), levels_[l].level.size.w, 0), c);
        return loss + residual(p, c);
    }

    // The gradient of the plane just summed up.
    void gradient(const Plane& grad) {
        const std::size_t last = levels_.size();
        for (std::size_t l = last; l-- > 0;) {
            const auto& [level, up_adjoint, down_adjoint] = levels_[l];
            const Size next = l + 1 < last ? levels_[l + 1].level.size : level.low;
            const Plane signs = plane_of(signs_[l].get(), level.size.w), total = plane_of(total_.get(), level.low.w);
            fill(rows_at(signs_[l + 1], next.w), next, rows_at(total_, level.low.w), level.low);
            Rows<C> source = worker_.rows(signs, level.size.w, 0), coarser = worker_.rows(total, level.low.w, 1);
            worker_.run(up_adjoint, -1, 0, level.low.h, source, coarser, target(total, level.low.w));
            worker_.run(down_adjoint, 1, 0, level.size.h, coarser, source, target(l > 0 ? signs : grad, level.size.w));
        }
        clear_beyond(levels_[0].level.size, grad);
    }

private:
    static RowsInPlace<C> rows_at(const Buffer<C>& buffer, std::int64_t width) { return {buffer.get(), width}; }
    Plane low(std::size_t l) const { return plane_of(lows_[l].get(), levels_[l].level.low.w); }
    Target<C> target(const Plane& plane, std::int64_t width) { return worker_.template target<C>(plane, width); }

    double level(std::size_t l, std::int64_t p, Rows<C> source, const C* c) {
        AbsoluteSum<C> sum;
        const Bands bands{*this, l, p, c[l], sum};
        level_plane(levels_[l].level, source, low(l), worker_, bands, false);
        return double(c[l]) * sum.value();
    }

    // Rows of a band that are summed up as soon as they are there.
    struct Bands {
        Loss& loss;
        std::size_t l;
        std::int64_t plane;
        C c;
        AbsoluteSum<C>& sum;

        std::int64_t width() const { return loss.levels_[l].level.size.w; }
        RowsInPlace<C> from(std::int64_t begin) const { return {loss.band_.get() - begin * width(), width()}; }
        Target<C> target(std::int64_t begin) const { return Target<C>(from(begin)); }
        void done(std::int64_t begin, std::int64_t end) const {
            loss.add(l, plane, begin, end, from(begin), width(), c, sum);
        }
    };

    // What is left after the last level counts too, where it has a coefficient.
    double residual(std::int64_t p, const C* c) {
        const std::size_t l = levels_.size();
        const Size size = levels_[l - 1].level.low;
        AbsoluteSum<C> sum;
        if (std::int64_t(l) < call_.weighted) {
            add(l, p, 0, size.h, rows_at(lows_[l - 1], size.w), size.w, c[l], sum);
            return double(c[l]) * sum.value();
        }
        if (!signs_.empty()) std::fill_n(signs_[l].get(), size.count(), C(0));
        return 0;
    }

    void add(std::size_t l, std::int64_t p, std::int64_t begin, std::int64_t end, const RowsInPlace<C>& band,
             std::int64_t width, C c, AbsoluteSum<C>& sum) {
        const C* const mask = masks_.empty() ? nullptr : mask_.get();
        for (std::int64_t y = begin; y < end; ++y) {
            if (mask) load_samples(plane_of(masks_[l], call_.pyramid.dtype, p), y, width, mask_.get());
            sum.add(band(y), mask, width);
            if (!signs_.empty()) signs(band(y), mask, c, width, signs_[l].get() + y * width);
        }
    }

    // `dst` is `src`, with zeros where it is larger: the transpose of a crop.
    static void fill(const RowsInPlace<C>& src, Size size, const RowsInPlace<C>& dst, Size larger) {
        for (std::int64_t y = 0; y < larger.h; ++y) {
            const std::int64_t n = y < size.h ? size.w : 0;
            std::copy_n(src(n ? y : 0), n, dst(y));
            std::fill_n(dst(y) + n, larger.w - n, C(0));
        }
    }

    void clear_beyond(Size size, const Plane& grad) const {
        for (std::int64_t y = 0; y < image_.h; ++y) {
            C* const row = static_cast<C*>(grad.row(y));
            for (std::int64_t x = y < size.h ? size.w : 0; x < image_.w; ++x) row[x * grad.column_stride] = 0;
        }
    }

    const LossCall& call_;
    const std::vector<LossLevel<F>>& levels_;
    const std::vector<View>& masks_;
    Size image_;
    Worker<F> stored_;  // for rows of the images' type
    Worker<F> worker_;
    Slots<C> differences_;
    Buffer<C> band_, mask_, total_;
    std::vector<Buffer<C>> lows_, signs_;
};

template <class F>
void run(const LossCall& call, const View& input, const View& target, const std::vector<View>& masks, void* loss,
         const View* grad) {
    using C = typename F::Sum;
    std::vector<LossLevel<F>> levels;
    levels.reserve(call.sizes.size());
    for (std::size_t l = 0; l + 1 < call.sizes.size(); ++l)
        levels.emplace_back(Size{call.sizes[l][0], call.sizes[l][1]}, call.pyramid.border);

    const std::int64_t planes = input.planes(), each = call.samples ? planes / call.samples : 0;
    const C* const coefficients = static_cast<const C*>(call.coefficients);
    std::vector<double> sums(planes);
    over_planes(planes, size_of(input), call.pyramid.threads, [&](std::int64_t first, std::int64_t last) {
        Loss<F> worker(call, levels, size_of(input), masks, grad != nullptr);
        for (std::int64_t p = first; p < last; ++p) {
            sums[p] = worker.plane(input, target, p, coefficients + p / each * call.weighted);
            if (grad) worker.gradient(plane_of(*grad, dtype_of<C>(), p));
        }
    });
    for (std::int64_t n = 0; n < call.samples; ++n) {
        double total = 0;
        for (std::int64_t p = n * each; p < (n + 1) * each; ++p) total += sums[p];
        static_cast<C*>(loss)[n] = static_cast<C>(total);
    }
}

}  // namespace

void laplacian_loss(const LossCall& call, const View& input, const View& target, const std::vector<View>& masks,
                    void* loss, const View* grad) {
    call.pyramid.dtype == DType::float64 ? run<Double>(call, input, target, masks, loss, grad)
                                         : run<Float>(call, input, target, masks, loss, grad);
}

}  // namespace lapcore::LAPCORE_ISA
