// The planes of tensors, and their rows as contiguous samples of a format. Included once per instruction set.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/view.h"
#include "cpu/buffer.h"
#include "cpu/convert.h"
#include "cpu/formats.h"

namespace lapcore::LAPCORE_ISA {

// One plane of a tensor as it lies in memory.
struct Plane {
    char* data;
    DType dtype;
    std::int64_t row_stride, column_stride;  // in elements

    void* row(std::int64_t y) const { return data + y * row_stride * bytes_of(dtype); }
    // Whether its rows are contiguous samples of type S.
    template <class S>
    bool holds() const {
        return dtype == dtype_of<S>() && column_stride == 1;
    }
};

// The views of an image's levels are of the dtype that they are read or written as.
inline Plane plane_of(const View& view, DType dtype, std::int64_t p) {
    const std::int64_t offset = view.plane_offset(p) * bytes_of(dtype);
    return {static_cast<char*>(view.data) + offset, dtype, view.row_stride(),
            view.width() == 1 ? 1 : view.column_stride()};
}
template <class S>
Plane plane_of(S* data, std::int64_t width) {
    return {reinterpret_cast<char*>(data), dtype_of<S>(), width, 1};
}

// Row y of a plane as samples.
template <class S>
void load_samples(const Plane& plane, std::int64_t y, std::int64_t n, S* to) {
    const void* const from = plane.row(y);
    if constexpr (std::is_same_v<S, float>) {
        if (plane.dtype == DType::float16) return load_row(static_cast<const Half*>(from), plane.column_stride, n, to);
        if (plane.dtype == DType::bfloat16)
            return load_row(static_cast<const BFloat16*>(from), plane.column_stride, n, to);
    }
    load_row(static_cast<const S*>(from), plane.column_stride, n, to);
}

// Samples into row y of a plane; integers may go into a plane of bands.
template <class S>
void store_samples(const S* from, std::int64_t n, const Plane& plane, std::int64_t y) {
    void* const to = plane.row(y);
    if constexpr (std::is_same_v<S, float>) {
        if (plane.dtype == DType::float16) return store_row(from, n, static_cast<Half*>(to), plane.column_stride);
        if (plane.dtype == DType::bfloat16) return store_row(from, n, static_cast<BFloat16*>(to), plane.column_stride);
    }
    if constexpr (std::is_same_v<S, std::uint8_t> || std::is_same_v<S, std::uint16_t>) {
        if (plane.dtype == DType::int16) return store_row(from, n, static_cast<std::int16_t*>(to), plane.column_stride);
    }
    store_row(from, n, static_cast<S*>(to), plane.column_stride);
}

// Rows that are made of others as they are asked for.
template <class S>
struct RowSource {
    virtual void make(std::int64_t y, S* row) = 0;
    virtual ~RowSource() = default;
};

// The rows of a plane of any dtype and stride.
template <class S>
struct ConvertedRows final : RowSource<S> {
    Plane plane{};
    std::int64_t width = 0;
    void make(std::int64_t y, S* row) override { load_samples(plane, y, width, row); }
};

// The latest rows of a source to be asked for. One stays valid for kKept further calls.
template <class S>
class Slots {
public:
    static constexpr std::int64_t kSlots = 32;
    static constexpr std::int64_t kKept = 20;

    // Forgets all rows, and has room for such of this width.
    void reset(std::int64_t width, RowSource<S>& source) {
        source_ = &source;
        if (room_ < width) {
            rows_ = Buffer<S>(kSlots * width);
            room_ = width;
        }
        tag_.fill(-1);
        used_.fill(0);
        clock_ = kKept;
    }

    // Row y is looked for at y modulo kSlots, then behind that, past rows that may still be in use.
    const S* get(std::int64_t y) {
        std::int64_t free = -1;
        for (std::int64_t p = 0; p <= kKept; ++p) {
            const std::int64_t slot = (y + p) % kSlots;
            if (tag_[slot] == y) return use(slot);
            if (free < 0 && used_[slot] + kKept < clock_ + 1) free = slot;
        }
        source_->make(y, rows_.get() + free * room_);
        tag_[free] = y;
        return use(free);
    }

private:
    const S* use(std::int64_t slot) {
        used_[slot] = ++clock_;
        return rows_.get() + slot * room_;
    }

    RowSource<S>* source_ = nullptr;
    Buffer<S> rows_;
    std::int64_t room_ = 0, clock_ = 0;
    std::array<std::int64_t, kSlots> tag_, used_;
};

// Contiguous rows in memory: all those of an image, or its latest ones in turn.
template <class S>
struct RowsInPlace {
    S* data = nullptr;
    std::int64_t stride = 0, mask = -1;
    S* operator()(std::int64_t y) const { return data + (y & mask) * stride; }
};

// The rows that an operator reads: in place, or made as they are asked for.
template <class S>
class Rows {
public:
    // `rows_ahead`: how far below a row that is being read others will be, next.
    Rows(const RowsInPlace<const S>& rows, std::int64_t rows_ahead) : rows_(rows), ahead_(rows_ahead * rows.stride) {}
    explicit Rows(Slots<S>& slots) : slots_(&slots) {}

    // How many outputs of an operator may be made of rows asked for together: no more than three beyond two for each.
    std::int64_t block_rows(std::int64_t most) const {
        return slots_ ? std::min<std::int64_t>(most, (Slots<S>::kKept - 3) / 2) : most;
    }

    // How many elements from a row on to one that is worth fetching.
    std::int64_t ahead() const { return ahead_; }

    const S* operator()(std::int64_t y) const { return slots_ ? slots_->get(y) : rows_(y); }
    void find(const std::int64_t* ys, std::int64_t count, const S** found) const {
        const RowsInPlace<const S> rows = rows_;
        if (slots_) {
            for (std::int64_t k = 0; k < count; ++k) found[k] = slots_->get(ys[k]);
        } else {
            for (std::int64_t k = 0; k < count; ++k) found[k] = rows(ys[k]);
        }
    }

private:
    RowsInPlace<const S> rows_;
    std::int64_t ahead_ = 0;
    Slots<S>* slots_ = nullptr;
};

// The rows that an operator writes: in place, or into rows of scratch that are then stored.
template <class O>
class Target {
public:
    explicit Target(const RowsInPlace<O>& rows) : rows_(rows) {}
    Target(const Plane& plane, std::int64_t width, O* scratch)
        : rows_{scratch, width}, plane_(plane), width_(width), in_place_(false) {}

    bool in_place() const { return in_place_; }
    // The place of row y, the r-th of those that are made together.
    O* row(std::int64_t y, std::int64_t r) const { return rows_(in_place_ ? y : r); }
    void rows(std::int64_t y, std::int64_t count, O** found) const {
        const RowsInPlace<O> rows = rows_;
        const std::int64_t first = in_place_ ? y : 0;
        for (std::int64_t r = 0; r < count; ++r) found[r] = rows(first + r);
    }
    void done(std::int64_t y, const O* row) const {
        if (!in_place_) store_samples(row, width_, plane_, y);
    }

private:
    RowsInPlace<O> rows_;
    Plane plane_{};
    std::int64_t width_ = 0;
    bool in_place_ = true;
};

}  // namespace lapcore::LAPCORE_ISA
