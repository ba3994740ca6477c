// The Laplacian loss: sum_l c[n, l] sum m_l |h_l(input - target)| over each sample, and its gradient, plane by plane. A
// band is summed up as it is made and never stored; for the gradient, c m sign(h) is kept in its place.
//
// Sums are taken in a fixed number of lanes along a row, then over the rows and planes in float64: they depend neither
// on the instruction set, nor on the threads, nor on the batch.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
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
template <class T>
class DifferenceRows {
public:
    using C = Sum<T>;

    DifferenceRows(Rows<T> a, Rows<T> b, std::int64_t width, Slots<C>& slots)
        : a_(a), b_(b), width_(width), slots_(&slots) {
        slots.reset(width);
    }

    std::int64_t block_rows() const { return (Slots<C>::kKept - 3) / 2; }
    std::int64_t ahead() const { return 0; }

    const C* operator()(std::int64_t y) {
        return slots_->get(y, [&](C* row) {
            const C *a = a_(y), *b = b_(y);
            for (std::int64_t x = 0; x < width_; ++x) row[x] = a[x] - b[x];
        });
    }

private:
    Rows<T> a_, b_;
    std::int64_t width_;
    Slots<C>* slots_;
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
template <class C>
struct LossLevel {
    Level<C> level;
    Operator<C> up_adjoint, down_adjoint;
    LossLevel(Size size, Border border)
        : level(size, border),
          up_adjoint(operator_of<C>(Op::up_adjoint, size, size.half(), border)),
          down_adjoint(operator_of<C>(Op::down_adjoint, size.half(), size, border)) {}
};

// What one thread needs for planes: a low-pass or, where a gradient is asked for, all levels' signs in its place.
template <class T>
class Loss {
public:
    using C = Sum<T>;

    Loss(const LossCall& call, const std::vector<LossLevel<C>>& levels, Size image, const std::vector<View>& masks,
         bool with_grad)
        : call_(call),
          levels_(levels),
          masks_(masks),
          image_(image),
          stored_(image.w, 2),
          worker_(image.w, image.h),
          band_((kMaxBlockRows + 2) * image.w) {
        for (const auto& level : levels) lows_.emplace_back(level.level.low.count());
        if (!with_grad) return;
        for (const auto& level : levels) signs_.emplace_back(level.level.size.count());
        signs_.emplace_back(levels.back().level.low.count());
        total_ = Buffer<C>(image.half().count());
    }

    // sum_l c_l sum m_l |h_l| of one plane, c being its sample's coefficients.
    double plane(const View& input, const View& target, std::int64_t p, const C* c) {
        const std::int64_t width = levels_[0].level.size.w;
        DifferenceRows<T> difference(stored_.rows(constant(plane_of<T>(input, p)), width, 0),
                                     stored_.rows(constant(plane_of<T>(target, p)), width, 1), width, differences_);
        double loss = level(0, p, difference, c);
        for (std::size_t l = 1; l < levels_.size(); ++l) {
            Rows<C> source = worker_.rows(low(l - 1), levels_[l].level.size.w, 0);
            loss += level(l, p, source, c);
        }
        return loss + residual(p, c);
    }

    // The gradient of the plane just summed up.
    void gradient(const Plane<C>& grad) {
        const std::size_t last = levels_.size();
        for (std::size_t l = last; l-- > 0;) {
            const auto& [level, up_adjoint, down_adjoint] = levels_[l];
            const Size next = l + 1 < last ? levels_[l + 1].level.size : level.low;
            const Plane<C> signs = plane_at(signs_[l], level.size.w), total = plane_at(total_, level.low.w);
            fill(plane_at(signs_[l + 1], next.w), next, total, level.low);
            Rows<C> source = worker_.rows(constant(signs), level.size.w, 0);
            Rows<C> coarser = worker_.rows(constant(total), level.low.w, 1);
            worker_.template run<-1>(up_adjoint, 0, level.low.h, source, coarser, total, false);
            worker_.template run<1>(down_adjoint, 0, level.size.h, coarser, source, l > 0 ? signs : grad, false);
        }
        clear_beyond(levels_[0].level.size, grad);
    }

private:
    static Plane<C> plane_at(const Buffer<C>& buffer, std::int64_t width) { return {buffer.get(), width, 1}; }
    Plane<const C> low(std::size_t l) const { return constant(plane_at(lows_[l], levels_[l].level.low.w)); }

    template <class Source>
    double level(std::size_t l, std::int64_t p, Source& source, const C* c) {
        const Level<C>& level = levels_[l].level;
        AbsoluteSum<C> sum;
        const Bands<Source> bands{*this, source, l, p, c[l], sum};
        level_strip<C>(level, source, plane_at(lows_[l], level.low.w), 0, level.low.h, worker_, bands, false);
        return double(c[l]) * sum.value();
    }

    // Rows of a band that are summed up as soon as they are there.
    template <class Source>
    struct Bands {
        Loss& loss;
        Source& source;
        std::size_t l;
        std::int64_t plane;
        C c;
        AbsoluteSum<C>& sum;

        const Level<C>& level() const { return loss.levels_[l].level; }
        Plane<C> from(std::int64_t begin) const {
            return {loss.band_.get() - begin * level().size.w, level().size.w, 1};
        }
        bool direct() const { return true; }
        C* row(std::int64_t y) const { return from(y / 2 * 2).row(y); }
        void done(std::int64_t begin, std::int64_t end) const {
            loss.add(l, plane, begin, end, constant(from(begin)), level().size.w, c, sum);
        }
        void run(std::int64_t begin, std::int64_t end, LowRows<C>& low_rows) const {
            loss.worker_.template run<-1>(level().up, begin, end, low_rows, source, from(begin), false);
            done(begin, end);
        }
    };

    // What is left after the last level counts too, where it has a coefficient.
    double residual(std::int64_t p, const C* c) {
        const std::size_t l = levels_.size();
        const Size size = levels_[l - 1].level.low;
        AbsoluteSum<C> sum;
        if (std::int64_t(l) < call_.weighted) {
            add(l, p, 0, size.h, low(l - 1), size.w, c[l], sum);
            return double(c[l]) * sum.value();
        }
        if (!signs_.empty()) std::fill_n(signs_[l].get(), size.count(), C(0));
        return 0;
    }

    void add(std::size_t l, std::int64_t p, std::int64_t begin, std::int64_t end, const Plane<const C>& band,
             std::int64_t width, C c, AbsoluteSum<C>& sum) {
        for (std::int64_t y = begin; y < end; ++y) {
            const C* mask = nullptr;
            if (!masks_.empty()) {
                const Plane<T> plane = plane_of<T>(masks_[l], p);
                load_row(plane.row(y), plane.column_stride, width, stored_.row());
                mask = stored_.row();
            }
            sum.add(band.row(y), mask, width);
            if (!signs_.empty()) signs(band.row(y), mask, c, width, signs_[l].get() + y * width);
        }
    }

    // `dst` is `src`, with zeros where it is larger: the transpose of a crop.
    static void fill(const Plane<C>& src, Size size, const Plane<C>& dst, Size larger) {
        for (std::int64_t y = 0; y < larger.h; ++y) {
            const std::int64_t n = y < size.h ? size.w : 0;
            std::copy_n(src.row(n ? y : 0), n, dst.row(y));
            std::fill_n(dst.row(y) + n, larger.w - n, C(0));
        }
    }

    void clear_beyond(Size size, const Plane<C>& grad) const {
        for (std::int64_t y = 0; y < image_.h; ++y)
            for (std::int64_t x = y < size.h ? size.w : 0; x < image_.w; ++x) grad.row(y)[x * grad.column_stride] = 0;
    }

    const LossCall& call_;
    const std::vector<LossLevel<C>>& levels_;
    const std::vector<View>& masks_;
    Size image_;
    Worker<T> stored_;  // for rows of the images' type
    Worker<C> worker_;
    Slots<C> differences_;
    Buffer<C> band_, total_;
    std::vector<Buffer<C>> lows_, signs_;
};

template <class T>
void run(const LossCall& call, const View& input, const View& target, const std::vector<View>& masks, void* loss,
         const View* grad) {
    using C = Sum<T>;
    std::vector<LossLevel<C>> levels;
    levels.reserve(call.sizes.size());
    for (std::size_t l = 0; l + 1 < call.sizes.size(); ++l)
        levels.emplace_back(Size{call.sizes[l][0], call.sizes[l][1]}, call.pyramid.border);

    const std::int64_t planes = input.planes(), each = call.samples ? planes / call.samples : 0;
    const C* const coefficients = static_cast<const C*>(call.coefficients);
    std::vector<double> sums(planes);
    over_planes(planes, size_of(input), call.pyramid.threads, [&](std::int64_t first, std::int64_t last) {
        Loss<T> worker(call, levels, size_of(input), masks, grad != nullptr);
        for (std::int64_t p = first; p < last; ++p) {
            sums[p] = worker.plane(input, target, p, coefficients + p / each * call.weighted);
            if (grad) worker.gradient(plane_of<C>(*grad, p));
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
    switch (call.pyramid.dtype) {
        case DType::float16: return run<Half>(call, input, target, masks, loss, grad);
        case DType::bfloat16: return run<BFloat16>(call, input, target, masks, loss, grad);
        case DType::float32: return run<float>(call, input, target, masks, loss, grad);
        case DType::float64: return run<double>(call, input, target, masks, loss, grad);
        default: throw std::invalid_argument("input: expected a float dtype");
    }
}

}  // namespace lapcore::LAPCORE_ISA
