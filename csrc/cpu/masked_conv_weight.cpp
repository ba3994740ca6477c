// The gradient of a masked convolution at its weight: of every output channel and live weight, grad times patches,
// summed up over pixels. The patches (patches.h), transposed, are the lanes of a tile (matrix.h).
//
// A sum is taken in blocks of kBlockPixels, each one chain of multiply-adds, one after the other over the batch: in
// one order, whatever the threads.
#include <cstring>

#include "cpu/masked_conv.h"
#include "cpu/masked_conv_terms.h"
#include "cpu/matrix.h"
#include "cpu/rows.h"
#include "cpu/threads.h"

namespace lapcore::LAPCORE_ISA {
namespace {

constexpr std::int64_t kBlockPixels = 2 * kDepth;
constexpr std::int64_t kPackedNumbers = 1 << 20;  // of grad at once

// Rows of pixels of grad (N, O, H', W'), counted through over the images.
template <class T>
class Gradient {
public:
    using C = Sum<T>;

    explicit Gradient(const View& grad)
        : data_(static_cast<const T*>(grad.data)), channels_(grad.shape[1]), plane_(grad.height() * grad.width()) {}

    std::int64_t tiles() const { return tiles_of(channels_); }
    std::int64_t channels() const { return channels_; }

    // `count` pixels from `pixel` on as tiles of output channels, each of kBlockPixels; zeros beyond.
    void pack(std::int64_t pixel, std::int64_t count, C* to) const {
        pack_rows(channels_, tiles() * kTileRows, kBlockPixels, kTileRows * kBlockPixels, kBlock, to,
                  [&](std::int64_t o, std::int64_t first, std::int64_t n, C* row) {
                      std::fill_n(row, n, C{});
                      for (std::int64_t lane = first; lane < std::min(first + n, count);) {
                          const std::int64_t image = (pixel + lane) / plane_, at = (pixel + lane) % plane_;
                          const std::int64_t run = std::min(std::min(first + n, count) - lane, plane_ - at);
                          copy_run(data_ + (image * channels_ + o) * plane_ + at, 1, run, row + lane - first);
                          lane += run;
                      }
                  });
    }

private:
    const T* data_;
    std::int64_t channels_, plane_;
};

// The numbers [first, end) of the patches of `count` pixels as (count, kTileColumns).
template <class T, class C>
void pack_patches(const Patches<T>& patches, std::int64_t pixel, std::int64_t count, std::int64_t first,
                  std::int64_t end, C* to) {
    alignas(kVectorBytes) C rows[kLanes<C> * kDepth]{};
    for (std::int64_t p = 0; p < count; p += kDepth, to += kDepth * kTileColumns<C>) {
        const std::int64_t n = std::min(kDepth, count - p);
        for (std::int64_t k = first; k < end; k += kLanes<C>) {
            patches.rows(pixel + p, n, k, std::min(end, k + kLanes<C>), rows, kDepth);
            for (std::int64_t i = 0; i < n; i += kLanes<C>) {
                transpose(rows + i, kDepth, to + i * kTileColumns<C> + k - first);
            }
        }
    }
}

template <class T>
void backward_weight(const MaskedConvCall& call, const View& grad, const View& x, const View& d_weight) {
    using C = Sum<T>;
    constexpr std::int64_t width = kTileColumns<C>;
    const Chain chain = chain_of(call.live, d_weight);
    const Patches<T> patches(x, chain, call.stride, grad.height(), grad.width());
    const Gradient<T> gradient(grad);
    const std::int64_t tiles = gradient.tiles(), columns = (chain.depth() + width - 1) / width;
    const std::int64_t blocks = (patches.pixels() + kBlockPixels - 1) / kBlockPixels;
    const std::int64_t block = tiles * kTileRows * kBlockPixels;
    const std::int64_t each = std::clamp<std::int64_t>(kPackedNumbers / block, 1, std::max<std::int64_t>(1, blocks));
    // Where columns are few, several tasks share one.
    const std::int64_t parts =
        std::clamp<std::int64_t>(4 * call.threads / std::max<std::int64_t>(1, columns), 1, tiles);

    const Buffer<C> packed(each * block);
    const Buffer<Tile<C>> sums(columns * tiles);
    std::memset(static_cast<void*>(sums.get()), 0, std::size_t(columns * tiles) * sizeof(Tile<C>));
    for (std::int64_t first = 0; first < blocks; first += each) {
        const std::int64_t n = std::min(each, blocks - first);
        const auto pixel_of = [&](std::int64_t b) { return (first + b) * kBlockPixels; };
        const auto count_of = [&](std::int64_t b) { return std::min(kBlockPixels, patches.pixels() - pixel_of(b)); };
        parallel_for(n, call.threads,
                     [&](std::int64_t b) { gradient.pack(pixel_of(b), count_of(b), packed.get() + b * block); });
        parallel_for(columns * parts, call.threads, [&](std::int64_t task) {
            const std::int64_t column = task / parts, part = task % parts;
            const Buffer<C> panel(kBlockPixels * width);
            for (std::int64_t b = 0; b < n; ++b) {
                pack_patches(patches, pixel_of(b), count_of(b), column * width,
                             std::min(chain.depth(), (column + 1) * width), panel.get());
                for (std::int64_t t = part * tiles / parts; t < (part + 1) * tiles / parts; ++t) {
                    Tile<C> tile{};
                    multiply(packed.get() + b * block + t * kTileRows * kBlockPixels, kBlock, panel.get(), count_of(b),
                             tile);
                    Tile<C>& sum = sums.get()[column * tiles + t];
                    for (std::int64_t r = 0; r < kTileRows; ++r) {
                        for (std::int64_t v = 0; v < kTileVectors; ++v) sum.rows[r][v] += tile.rows[r][v];
                    }
                }
            }
        });
    }

    const std::int64_t kernel = d_weight.height() * d_weight.width();
    T* const dw = static_cast<T*>(d_weight.data);
    std::memset(static_cast<void*>(dw), 0, std::size_t(gradient.channels() * chain.channels * kernel) * sizeof(T));
    parallel_for(gradient.channels(), call.threads, [&](std::int64_t o) {
        const std::int64_t centre = call.live.centre.empty() ? 0 : call.live.centre[std::size_t(o)];
        const C* const from = reinterpret_cast<const C*>(sums.get() + o / kTileRows) + o % kTileRows * width;
        for (std::int64_t k = 0; k < call.live.whole * chain.channels + centre; ++k) {
            const C sum = from[k / width * tiles * kTileRows * width + k % width];
            narrow(sum, dw[(o * chain.channels + k % chain.channels) * kernel + k / chain.channels]);
        }
    });
}

}  // namespace

void masked_conv_backward_weight(const MaskedConvCall& call, const View& grad, const View& x, const View& d_weight) {
    by_dtype(call.dtype, [&](auto t) { backward_weight<decltype(t)>(call, grad, x, d_weight); });
}

}  // namespace lapcore::LAPCORE_ISA
