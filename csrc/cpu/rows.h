// Reading the rows of one plane, and combining them along the columns. Included once per instruction set.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "common/taps.h"
#include "cpu/convert.h"

namespace lapcore::LAPCORE_ISA {

// The rows of a plane as contiguous rows of Compute<T>. A row that lies so in memory is handed out in place; any other
// is converted into one of a few slots, the least recently used of which gives way. A row stays valid for kMaxTaps
// further calls.
template <class T>
class Rows {
public:
    using C = Compute<T>;

    Rows(const T* data, std::int64_t row_stride, std::int64_t column_stride, std::int64_t width)
        : data_(data), row_stride_(row_stride), column_stride_(column_stride), width_(width) {
        in_place_ = std::is_same_v<T, C> && (column_stride == 1 || width == 1);
        tag_.fill(-1);
        used_.fill(0);
        if (!in_place_) slots_.resize(kSlots * width);
    }

    std::int64_t width() const { return width_; }

    const C* operator()(std::int64_t y) {
        const T* row = data_ + y * row_stride_;
        if constexpr (std::is_same_v<T, C>) {
            if (in_place_) return row;
        }
        std::size_t slot = 0;
        for (std::size_t s = 0; s < kSlots; ++s) {
            if (tag_[s] == y) {
                used_[s] = ++clock_;
                return slots_.data() + s * width_;
            }
            if (used_[s] < used_[slot]) slot = s;
        }
        C* converted = slots_.data() + slot * width_;
        load_row(row, column_stride_, width_, converted);
        tag_[slot] = y;
        used_[slot] = ++clock_;
        return converted;
    }

private:
    static constexpr std::size_t kSlots = 2 * kMaxTaps;

    const T* data_;
    std::int64_t row_stride_, column_stride_, width_;
    bool in_place_;
    std::array<std::int64_t, kSlots> tag_;
    std::array<std::uint64_t, kSlots> used_;
    std::uint64_t clock_ = 0;
    std::vector<C> slots_;
};

// Taps that stand further along the line.
struct ShiftedTaps {
    const Taps* taps;
    std::int64_t shift;
    int count() const { return taps->count; }
    std::int64_t index(int k) const { return taps->index[k] + shift; }
    double weight(int k) const { return taps->weight[k]; }
};

// A 1-D operator over one axis. Away from the ends its taps repeat, so only those of the ends are kept.
class Axis {
public:
    static constexpr std::int64_t kPad = 2;

    Axis(Op op, std::int64_t n_src, std::int64_t n_dst, Border border) : op_(op), n_src_(n_src), n_dst_(n_dst) {
        // Interior outputs read their whole stencil inside the line, and no folded border sample lands on them.
        if (decimates()) {
            lo_ = 2;
            hi_ = std::min(n_dst - 2, (n_src - 3) / 2 + 1);
        } else {
            lo_ = 4;
            hi_ = std::min(n_dst - 4, 2 * n_src - 2);
        }
        if (hi_ <= lo_) lo_ = hi_ = std::min<std::int64_t>(lo_, n_dst);
        for (std::int64_t i = 0; i < lo_; ++i) ends_.push_back(taps_of(op, i, n_src, n_dst, border));
        for (std::int64_t i = hi_; i < n_dst; ++i) ends_.push_back(taps_of(op, i, n_src, n_dst, border));
        for (int p = 0; p < 2 && lo_ + p < hi_; ++p) phase_[p] = taps_of(op, lo_ + p, n_src, n_dst, border);
        for (std::int64_t p = 0; p < 2 * kPad; ++p) {
            const std::int64_t beyond = p < kPad ? p - kPad : n_src + p - kPad;
            pad_[p] = op == Op::up ? up_index(beyond, n_src, border) : border_index(beyond, n_src, border);
        }
    }

    bool decimates() const { return op_ == Op::down || op_ == Op::up_adjoint; }
    bool forward() const { return op_ == Op::down || op_ == Op::up; }
    std::int64_t lo() const { return lo_; }
    std::int64_t hi() const { return hi_; }
    std::int64_t n_src() const { return n_src_; }
    std::int64_t n_dst() const { return n_dst_; }

    // The distinct weights of the repeating stencil: outer, inner, centre when it decimates; of the even outputs the
    // outer and the centre, and that of the odd ones, when it expands.
    template <class C>
    std::array<C, 3> weights() const {
        const double unit = op_ == Op::down || op_ == Op::down_adjoint ? 1.0 / 16 : 1.0 / 8;
        if (decimates()) return {C(unit), C(4 * unit), C(6 * unit)};
        return {C(unit), C(6 * unit), C(4 * unit)};
    }

    const Taps& end(std::int64_t i) const { return ends_[i < lo_ ? i : i - (hi_ - lo_)]; }

    ShiftedTaps operator()(std::int64_t i) const {
        if (i < lo_ || i >= hi_) return {&end(i), 0};
        const std::int64_t step = i - lo_;
        if (decimates()) return {&phase_[0], 2 * step};
        return {&phase_[step & 1], step / 2};
    }

    // Continues a line by kPad samples at either end, by the border rule of a forward operator.
    template <class C>
    void pad(C* line) const {
        for (std::int64_t p = 0; p < 2 * kPad; ++p) {
            const std::int64_t beyond = p < kPad ? p - kPad : n_src_ + p - kPad;
            line[beyond] = pad_[p] == kOutside ? C(0) : line[pad_[p]];
        }
    }

private:
    Op op_;
    std::int64_t n_src_, n_dst_, lo_, hi_;
    std::int64_t pad_[2 * kPad];
    Taps phase_[2];
    std::vector<Taps> ends_;
};

// out[x] = sum_k weight[k] rows[index[k]][x], in one fixed order for each pattern of taps.
template <class T, class C = Compute<T>>
void combine_rows(const ShiftedTaps& taps, Rows<T>& rows, C* out) {
    const std::int64_t n = rows.width();
    const C* r[kMaxTaps];
    C w[kMaxTaps];
    const int count = taps.count();
    for (int k = 0; k < count; ++k) {
        r[k] = rows(taps.index(k));
        w[k] = static_cast<C>(taps.weight(k));
    }
    if (count == 5 && w[0] == w[4] && w[1] == w[3]) {
        const C *a = r[0], *b = r[1], *c = r[2], *d = r[3], *e = r[4];
#pragma GCC ivdep
        for (std::int64_t x = 0; x < n; ++x) out[x] = ((a[x] + e[x]) * w[0] + (b[x] + d[x]) * w[1]) + c[x] * w[2];
    } else if (count == 3 && w[0] == w[2]) {
        const C *a = r[0], *b = r[1], *c = r[2];
#pragma GCC ivdep
        for (std::int64_t x = 0; x < n; ++x) out[x] = (a[x] + c[x]) * w[0] + b[x] * w[1];
    } else if (count == 2 && w[0] == w[1]) {
        const C *a = r[0], *b = r[1];
#pragma GCC ivdep
        for (std::int64_t x = 0; x < n; ++x) out[x] = (a[x] + b[x]) * w[0];
    } else {
        std::fill(out, out + n, C(0));
        for (int k = 0; k < count; ++k)
            for (std::int64_t x = 0; x < n; ++x) out[x] += r[k][x] * w[k];
    }
}

template <class C>
C combine_samples(const Taps& taps, const C* line) {
    C sum = 0;
    for (int k = 0; k < taps.count; ++k) sum += line[taps.index[k]] * static_cast<C>(taps.weight[k]);
    return sum;
}

// n outputs of the decimating stencil: the i-th reads s[2i] .. s[2i + 4].
template <bool kBase, class C>
void decimate(const std::array<C, 3>& w, const C* s, std::int64_t n, const C* base, C alpha, C* out) {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) {
        const C value = ((s[2 * i] + s[2 * i + 4]) * w[0] + (s[2 * i + 1] + s[2 * i + 3]) * w[1]) + s[2 * i + 2] * w[2];
        out[i] = kBase ? base[i] + alpha * value : value;
    }
}

// n outputs of the expanding stencil, an even one first: the pair p reads s[p] .. s[p + 2].
template <bool kBase, class C>
void expand(const std::array<C, 3>& w, const C* s, std::int64_t n, const C* base, C alpha, C* out) {
#pragma GCC ivdep
    for (std::int64_t p = 0; p < n / 2; ++p) {
        const C even = (s[p] + s[p + 2]) * w[0] + s[p + 1] * w[1];
        const C odd = (s[p + 1] + s[p + 2]) * w[2];
        out[2 * p] = kBase ? base[2 * p] + alpha * even : even;
        out[2 * p + 1] = kBase ? base[2 * p + 1] + alpha * odd : odd;
    }
    if (n % 2 != 0) {
        const std::int64_t p = n / 2;
        const C even = (s[p] + s[p + 2]) * w[0] + s[p + 1] * w[1];
        out[n - 1] = kBase ? base[n - 1] + alpha * even : even;
    }
}

// out = op(line), or base + alpha * op(line) when kBase. The line has room for kPad samples before and after it.
// Forward operators pad it and are one stencil throughout; transposes fold border samples back onto the ends, which
// have taps of their own.
template <bool kBase, class C>
void apply_along_row(const Axis& axis, C* line, const C* base, C alpha, C* out) {
    const auto w = axis.weights<C>();
    if (axis.forward()) {
        axis.pad(line);
        if (axis.decimates()) return decimate<kBase>(w, line - 2, axis.n_dst(), base, alpha, out);
        return expand<kBase>(w, line - 1, axis.n_dst(), base, alpha, out);
    }
    const std::int64_t lo = axis.lo(), hi = axis.hi();
    const auto emit_end = [&](std::int64_t i) {
        const C value = combine_samples(axis.end(i), line);
        out[i] = kBase ? base[i] + alpha * value : value;
    };
    for (std::int64_t i = 0; i < lo; ++i) emit_end(i);
    for (std::int64_t i = hi; i < axis.n_dst(); ++i) emit_end(i);
    const C* inner_base = kBase ? base + lo : nullptr;
    if (axis.decimates()) {
        decimate<kBase>(w, line + 2 * lo - 2, hi - lo, inner_base, alpha, out + lo);
    } else {
        expand<kBase>(w, line + lo / 2 - 1, hi - lo, inner_base, alpha, out + lo);
    }
}

}  // namespace lapcore::LAPCORE_ISA
