// Reading and writing the rows of one plane as contiguous rows of the type that sums are taken in. Included once per
// instruction set.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

#include "common/taps.h"
#include "cpu/convert.h"

namespace lapcore::LAPCORE_ISA {

// Uninitialised memory, aligned to a cache line, with room for a vector before and after what is asked for.
template <class C>
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(std::int64_t count) {
        const std::size_t bytes = (std::size_t(count) * sizeof(C) + 2 * kLine + kLine - 1) / kLine * kLine;
        memory_.reset(static_cast<char*>(std::aligned_alloc(kLine, bytes)));
        if (!memory_) throw std::bad_alloc();
    }
    C* get() const { return reinterpret_cast<C*>(memory_.get() + kLine); }

private:
    static constexpr std::size_t kLine = 64;
    struct Free {
        void operator()(char* p) const { std::free(p); }
    };
    std::unique_ptr<char, Free> memory_;
};

constexpr std::int64_t kMaxBlockRows = 64;

template <class T>
struct Plane {
    T* data;
    std::int64_t row_stride, column_stride;
    T* row(std::int64_t y) const { return data + y * row_stride; }
    bool unit() const { return column_stride == 1; }
};

// Converted rows of a plane, the latest to be asked for. One stays valid for kKept further calls.
template <class C>
class Slots {
public:
    static constexpr std::int64_t kSlots = 32;
    static constexpr std::int64_t kKept = 20;

    // Forgets all rows, and has room for such of this width.
    void reset(std::int64_t width) {
        if (room_ < width) {
            rows_ = Buffer<C>(kSlots * width);
            room_ = width;
        }
        tag_.fill(-1);
        used_.fill(0);
        clock_ = kKept;
    }

    // Row y, which fill(row) makes if it is not there. It is looked for at y modulo kSlots, then behind that, past rows
    // that may still be in use.
    template <class Fill>
    const C* get(std::int64_t y, const Fill& fill) {
        std::int64_t free = -1;
        for (std::int64_t p = 0; p <= kKept; ++p) {
            const std::int64_t slot = (y + p) % kSlots;
            if (tag_[slot] == y) return use(slot);
            if (free < 0 && used_[slot] + kKept < clock_ + 1) free = slot;
        }
        fill(rows_.get() + free * room_);
        tag_[free] = y;
        return use(free);
    }

private:
    const C* use(std::int64_t slot) {
        used_[slot] = ++clock_;
        return rows_.get() + slot * room_;
    }

    Buffer<C> rows_;
    std::int64_t room_ = 0, clock_ = 0;
    std::array<std::int64_t, kSlots> tag_, used_;
};

// The rows of a plane: in place if they lie in memory as sums are taken, else converted into slots.
template <class T>
class Rows {
public:
    using C = Sum<T>;

    // `rows_ahead`: how far below a row that is being read others will be, next.
    Rows(const Plane<const T>& plane, std::int64_t width, Slots<C>& slots, std::int64_t rows_ahead)
        : plane_(plane),
          width_(width),
          rows_ahead_(rows_ahead),
          slots_(&slots),
          in_place_(std::is_same_v<T, C> && plane.unit()) {
        if (!in_place_) slots.reset(width);
    }

    // How many outputs of an operator may be made of rows asked for together: no more than three beyond two for each.
    std::int64_t block_rows() const { return in_place_ ? kMaxBlockRows : (Slots<C>::kKept - 3) / 2; }

    // How many elements from a row on to one that is worth fetching.
    std::int64_t ahead() const { return in_place_ ? rows_ahead_ * plane_.row_stride : 0; }

    const C* operator()(std::int64_t y) {
        if constexpr (std::is_same_v<T, C>) {
            if (in_place_) return plane_.row(y);
        }
        return slots_->get(y, [&](C* row) { load_row(plane_.row(y), plane_.column_stride, width_, row); });
    }

private:
    Plane<const T> plane_;
    std::int64_t width_, rows_ahead_;
    Slots<C>* slots_;
    bool in_place_;
};

}  // namespace lapcore::LAPCORE_ISA
