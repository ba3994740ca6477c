// Rows of samples in the registers of a warp: each lane holds a few neighbouring columns, lanes next to each other hold
// columns next to each other, and what a stencil needs of a neighbour comes by a shuffle.
#pragma once

#include <cuda_runtime.h>

#include "common/taps.h"
#include "cuda/element.h"

namespace lapcore::cuda {

constexpr unsigned kWarp = 0xffffffffu;

// N samples, moved in one access where they are aligned for it.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
    T e[N];
};

// One plane of an image whose strides fit 32 bits; packed: rows are contiguous and aligned to a lane's Pack, and a
// whole number of those.
template <class T>
struct Plane {
    T* data;
    int row_stride, column_stride;
    bool packed;

    __device__ T* at(int y, int x) const {
        return data + (std::int64_t{y} * row_stride + std::int64_t{x} * column_stride);
    }
    __device__ explicit operator bool() const { return data != nullptr; }
};

// How a line goes on beyond its ends: border_index and up_index in 32 bits and without divisions, which cost registers.
// The transposes see zeros there.
struct Extension {
    Border border;
    bool up;

    __device__ int index(int i, int n) const {
        if (i >= 0 && i < n) return i;
        if (border == Border::constant) return static_cast<int>(kOutside);
        if (border == Border::replicate || n == 1) return i < 0 ? 0 : n - 1;
        if (up && border == Border::reflect && i >= n) return n - 1;
        const int seam = border == Border::reflect ? 0 : 1;
#pragma unroll 1
        while (i < 0 || i >= n) {
            if (border == Border::circular) {
                i += i < 0 ? n : -n;
            } else {
                i = i < 0 ? -i - seam : 2 * n - 2 + seam - i;
            }
        }
        return i;
    }
};

// Reads the columns x .. x + N - 1 of a plane, which may lie outside of it: kReach columns next to either end are read
// by the rule of extension (all N under a circular border), those further away are of no use to anyone. Of a plane that
// is not there, zeros.
template <class T, int N>
class Reader {
public:
    using C = Sum<T>;

    __device__ Reader(const Plane<const T>& plane, int height, int width, Extension extension, int x)
        : plane_(plane), height_(height), width_(width), extension_(extension), x_(x), load_x_(x) {
        active_ = plane.data && x >= -N && x < width + N;
        if (!plane.packed || (x >= 0 && x < width)) return;
        if (extension.border == Border::constant) {
            active_ = false;
        } else if (extension.border == Border::circular) {
            load_x_ = x < 0 ? width - N : 0;
        } else {
            load_x_ = x < 0 ? 0 : width - N;
            side_ = x < 0 ? -1 : 1;
            for (int r = 0; r < kReach; ++r) {
                const int column = x < 0 ? r - kReach : width + r;
                pick_[r] = extension.index(column, width) - load_x_;
            }
        }
    }

    __device__ Pack<T, N> fetch(int y) const {
        Pack<T, N> pack{};
        const int row = y < height_ + kBelow ? extension_.index(y, height_) : static_cast<int>(kOutside);
        if (!active_ || row == kOutside) return pack;
        if (plane_.packed) return *reinterpret_cast<const Pack<T, N>*>(plane_.at(row, 0) + load_x_);
        if (x_ >= 0 && x_ + N <= width_) {
            const T* sample = plane_.at(row, x_);
#pragma unroll
            for (int c = 0; c < N; ++c, sample += plane_.column_stride) pack.e[c] = *sample;
            return pack;
        }
        // Few lanes come here: a loop that is not unrolled and shifts the samples along saves registers to all others.
#pragma unroll 1
        for (int c = N - 1; c >= 0; --c) {
#pragma unroll
            for (int k = N - 1; k > 0; --k) pack.e[k] = pack.e[k - 1];
            const int column = extension_.index(x_ + c, width_);
            pack.e[0] = column == kOutside ? T{} : *plane_.at(row, column);
        }
        return pack;
    }

    __device__ void unpack(const Pack<T, N>& pack, C (&v)[N]) const {
#pragma unroll
        for (int c = 0; c < N; ++c) v[c] = loaded(pack.e[c]);
        if (side_ == 0) return;
        const C a = picked(v, pick_[0]), b = picked(v, pick_[1]);
        if (side_ < 0) {
            v[N - 2] = a;
            v[N - 1] = b;
        } else {
            v[0] = a;
            v[1] = b;
        }
    }

    __device__ void read(int y, C (&v)[N]) const { unpack(fetch(y), v); }

private:
    static constexpr int kReach = 2, kBelow = 4;

    // A run-time index would move the registers to memory.
    __device__ static C picked(const C (&v)[N], int i) {
        C value = v[0];
#pragma unroll
        for (int c = 1; c < N; ++c) value = i == c ? v[c] : value;
        return value;
    }

    Plane<const T> plane_;
    int height_, width_;
    Extension extension_;
    int x_, load_x_, side_ = 0;
    int pick_[kReach] = {0, 0};
    bool active_;
};

// Writes the columns x .. x + N - 1 of row y that lie inside the plane.
template <class T, int N>
__device__ void write_row(const Plane<T>& plane, int width, int y, int x, const Sum<T> (&v)[N]) {
    if (plane.packed) {
        if (x >= width) return;
        Pack<T, N> pack;
#pragma unroll
        for (int c = 0; c < N; ++c) pack.e[c] = stored<T>(v[c]);
        *reinterpret_cast<Pack<T, N>*>(plane.at(y, 0) + x) = pack;
        return;
    }
#pragma unroll
    for (int c = 0; c < N; ++c)
        if (x + c < width) *plane.at(y, x + c) = stored<T>(v[c]);
}

template <class C>
__device__ C from_left(C v) {
    return __shfl_up_sync(kWarp, v, 1);
}

template <class C>
__device__ C from_right(C v) {
    return __shfl_down_sync(kWarp, v, 1);
}

}  // namespace lapcore::cuda
