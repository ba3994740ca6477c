// The gradient of a masked convolution at its weight: of every output channel and live weight, grad times patches,
// summed up over pixels. The patches (patches.h), transposed, are the lanes of a tile (matrix.h).
//
// A sum is taken in blocks of kBlockPixels, each one chain of multiply-adds, one after the other over the batch: in
// one order, whatever the threads.
#include <cstring>

#include "cpu/buffer.h"
#include "cpu/masked_conv.h"
#include "cpu/masked_conv_terms.h"
#include "cpu/matrix.h"
#include "cpu/memory.h"
#include "cpu/threads.h"

namespace lapcore::LAPCORE_ISA {
namespace {

constexpr std::int64_t kBlockPixels = 8 * kDepth;
static_assert(kBlockPixels <= Grid::kMost);
constexpr std::int64_t kPackedNumbers = 1 << 20;  // of grad at once

// Rows of pixels of grad (N, O, H', W'), counted through over the images.
template <class C>
class Gradient {
public:
    Gradient(DType dtype, const View& grad)
        : dtype_(dtype), data_(grad.data), channels_(grad.shape[1]), plane_(grad.height() * grad.width()) {}

    std::int64_t tiles() const { return tiles_of(channels_); }
    // How many of a tile's rows are output channels.
    std::int64_t rows(std::int64_t tile) const { return std::min(kTileRows, channels_ - tile * kTileRows); }

    // `count` pixels from `pixel` on as tiles of output channels, each of kBlockPixels; zeros beyond.
    void pack(std::int64_t pixel, std::int64_t count, C* to) const {
        pack_rows(channels_, tiles() * kTileRows, kBlockPixels, kTileRows * kBlockPixels, kBlock, to,
                  [&](std::int64_t o, std::int64_t first, std::int64_t n, C* row) {
                      std::fill_n(row, n, C{});
                      for (std::int64_t lane = first; lane < std::min(first + n, count);) {
                          const std::int64_t image = (pixel + lane) / plane_, at = (pixel + lane) % plane_;
                          const std::int64_t run = std::min(std::min(first + n, count) - lane, plane_ - at);
                          copy_run(dtype_, data_, (image * channels_ + o) * plane_ + at, run, row + lane - first);
                          lane += run;
                      }
                  });
    }

private:
    DType dtype_;
    const void* data_;
    std::int64_t channels_, plane_;
};

// x (N, C, H, W) with the channels of a pixel side by side: patches are then pieces of rows.
template <class C>
class Interleaved {
public:
    Interleaved(DType dtype, int threads, const View& x, const Chain& chain, const Grid& grid)
        : chain_(chain), grid_(grid), memory_(std::size_t(x.shape[0] * grid.plane() * chain.channels) * sizeof(C)) {
        const std::int64_t each = (grid.plane() + kDepth - 1) / kDepth, channels = chain.channels;
        parallel_for(x.shape[0] * each, threads, [&](std::int64_t task) {
            const std::int64_t image = task / each, pixel = task % each * kDepth;
            const std::int64_t n = std::min(kDepth, grid.plane() - pixel);
            const std::int64_t from = image * channels * grid.plane() + pixel;
            C* const to = data() + (image * grid.plane() + pixel) * channels;
            alignas(kVectorBytes) C columns[kDepth * kTileColumns<C>];
            for (std::int64_t c = 0; c < channels; c += kTileColumns<C>) {
                const std::int64_t count = std::min(kTileColumns<C>, channels - c);
                pack_columns(count, n, columns, [&](std::int64_t j, std::int64_t, std::int64_t, C* row) {
                    copy_run(dtype, x.data, from + (c + j) * grid.plane(), n, row);
                });
                for (std::int64_t i = 0; i < n; ++i) {
                    copy_run(columns + i * kTileColumns<C>, count, to + i * channels + c);
                }
            }
        });
    }

    // The numbers [first, end) of the patches of `count` pixels as (count, kTileColumns).
    void columns(std::int64_t pixel, std::int64_t count, std::int64_t first, std::int64_t end, C* to) const {
        grid_.over_taps(chain_, pixel, count, first, end,
                        [&](const Run* runs, std::int64_t found, const std::int64_t* order, std::int64_t n) {
                            for (const Run* run = runs; run < runs + found; ++run) copy(*run, *order, n, to);
                            to += n;
                        });
    }

private:
    // n channels from c on of a run's pixels.
    void copy(const Run& run, std::int64_t c, std::int64_t n, C* to) const {
        constexpr std::int64_t width = kTileColumns<C>;
        const C* const from = data() + run.input * chain_.channels + c;
        const std::int64_t step = grid_.stride() * chain_.channels;
        to += run.lane * width;
        if (run.input < 0) {
            for (std::int64_t i = 0; i < run.count; ++i) std::fill_n(to + i * width, n, C{});
        } else if (n == width) {
            for (std::int64_t i = 0; i < run.count; ++i) copy_run(from + i * step, width, to + i * width);
        } else {
            for (std::int64_t i = 0; i < run.count; ++i) copy_run(from + i * step, n, to + i * width);
        }
    }

    C* data() const { return static_cast<C*>(memory_.data()); }

    const Chain& chain_;
    const Grid& grid_;
    Block memory_;
};

// sums (columns of the chain, tiles of output channels) += grad times patches.
//
// A thread takes a share of the columns together, block by block: so a block, and the inputs under it, are read from
// memory once a share, not once for each column. Each takes two shares, so that one that is stopped holds up less.
template <class C>
void add_products(int threads, const Gradient<C>& gradient, const Interleaved<C>& patches, const Grid& grid,
                  std::int64_t depth, Tile<C>* sums) {
    constexpr std::int64_t width = kTileColumns<C>;
    const std::int64_t tiles = gradient.tiles(), columns = (depth + width - 1) / width;
    const std::int64_t blocks = (grid.pixels() + kBlockPixels - 1) / kBlockPixels;
    const std::int64_t tile_size = kTileRows * kBlockPixels, block = tiles * tile_size;
    const std::int64_t each = std::clamp<std::int64_t>(kPackedNumbers / block, 1, blocks);
    const std::int64_t shares = std::min<std::int64_t>(columns, threads > 1 ? 2 * threads : 1);
    // Where columns are few, several tasks have the same share, each a part of the tiles.
    const std::int64_t parts = std::clamp<std::int64_t>(4 * threads / columns, 1, tiles);
    const Block memory(std::size_t(each * block) * sizeof(C));
    C* const packed = static_cast<C*>(memory.data());

    for (std::int64_t first = 0; first < blocks; first += each) {
        const std::int64_t n = std::min(each, blocks - first);
        const auto pixel_of = [&](std::int64_t b) { return (first + b) * kBlockPixels; };
        const auto count_of = [&](std::int64_t b) { return std::min(kBlockPixels, grid.pixels() - pixel_of(b)); };
        const auto add_block = [&](std::int64_t b, std::int64_t column, std::int64_t part, C* panel) {
            const std::int64_t k = column * width;
            patches.columns(pixel_of(b), count_of(b), k, std::min(depth, k + width), panel);
            for (std::int64_t t = part * tiles / parts; t < (part + 1) * tiles / parts; ++t) {
                Tile<C> tile{};
                add_product(gradient.rows(t), packed + b * block + t * tile_size, kBlock, panel, count_of(b), tile);
                Tile<C>& sum = sums[column * tiles + t];
                for (std::int64_t r = 0; r < kTileRows; ++r) {
                    for (std::int64_t v = 0; v < kTileVectors; ++v) sum.rows[r][v] += tile.rows[r][v];
                }
            }
        };
        parallel_for(n, threads, [&](std::int64_t b) { gradient.pack(pixel_of(b), count_of(b), packed + b * block); });
        parallel_for(shares * parts, threads, [&](std::int64_t task) {
            const std::int64_t share = task / parts;
            const std::int64_t begin = share * columns / shares, end = (share + 1) * columns / shares;
            const Buffer<C> panel(kBlockPixels * width);
            for (std::int64_t b = 0; b < n; ++b) {
                for (std::int64_t column = begin; column < end; ++column) {
                    add_block(b, column, task % parts, panel.get());
                }
            }
        });
    }
}

template <class C>
void backward_weight(const MaskedConvCall& call, const View& grad, const View& x, const View& d_weight) {
    constexpr std::int64_t width = kTileColumns<C>;
    const std::int64_t outputs = d_weight.shape[0], inputs = d_weight.shape[1];
    const std::int64_t kernel = d_weight.height() * d_weight.width();
    std::memset(d_weight.data, 0, std::size_t(outputs * inputs * kernel * bytes_of(call.dtype)));
    const Chain chain = chain_of(call.live, d_weight);
    if (chain.depth() == 0) return;

    const Grid grid(x, chain, call.stride, grad.height(), grad.width());
    const std::int64_t tiles = tiles_of(outputs), columns = (chain.depth() + width - 1) / width;
    const Buffer<Tile<C>> sums(columns * tiles);
    std::fill_n(sums.get(), columns * tiles, Tile<C>{});
    add_products(call.threads, Gradient<C>(call.dtype, grad), Interleaved<C>(call.dtype, call.threads, x, chain, grid),
                 grid, chain.depth(), sums.get());

    parallel_for(outputs, call.threads, [&](std::int64_t o) {
        const std::int64_t centre = call.live.centre.empty() ? 0 : call.live.centre[std::size_t(o)];
        const C* const row = reinterpret_cast<const C*>(sums.get() + o / kTileRows) + o % kTileRows * width;
        const Buffer<C> of_tap(inputs);
        for (std::int64_t tap = 0; tap < std::int64_t(chain.taps.size()); ++tap) {
            const std::int64_t n = tap < call.live.whole ? inputs : centre;
            for (std::int64_t c = 0; c < n; ++c) {
                const std::int64_t k = tap * inputs + c;
                of_tap.get()[c] = row[k / width * tiles * kTileRows * width + k % width];
            }
            scatter_elements(call.dtype, of_tap.get(), kernel, n, d_weight.data, o * inputs * kernel + tap);
        }
    });
}

}  // namespace

void masked_conv_backward_weight(const MaskedConvCall& call, const View& grad, const View& x, const View& d_weight) {
    with_computed(call.dtype, [&](auto zero) { backward_weight<decltype(zero)>(call, grad, x, d_weight); });
}

}  // namespace lapcore::LAPCORE_ISA
