// Masked convolutions as products of matrices (matrix.h): the live weights, packed by output channels, times the
// patches of pixels (patches.h), which are the lanes of a tile. Dead taps do not exist.
//
// An output is one chain of multiply-adds from 0 on, over live taps in raster order and their channels in order,
// whatever else is computed. The live channels of the centre tap, the last one, are a prefix, so that output channels
// differ in their depth only; those of one depth share tiles. So it is with the gradient at the input, where the taps
// are mirrored and the output channels of the centre tap are taken in the order of their depth. Taps outside the image
// come first in either, so that pixels near that edge start later: a zero times a finite weight leaves a sum of 0 as it
// is.
#include "cpu/masked_conv.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "common/activations.h"
#include "cpu/activations.h"
#include "cpu/buffer.h"
#include "cpu/masked_conv_terms.h"
#include "cpu/matrix.h"
#include "cpu/patches.h"
#include "cpu/threads.h"

namespace lapcore::LAPCORE_ISA {
namespace {

// Of the chain at once: its patches stay near, in the first-level cache of most.
constexpr std::int64_t kSpan = 40960 / (kTileVectors * kVectorBytes);
constexpr std::int64_t kOutputs = 4;  // finished together: their planes are far apart, and pixels side by side
constexpr std::int64_t kTaskTiles = 8, kTaskNumbers = 1 << 16;

// n elements side by side, converted where they have to be.
template <class C>
class Converted {
public:
    Converted(DType dtype, const void* data, std::int64_t n) : data_(static_cast<const C*>(data)) {
        if (!data || in_place<C>(dtype)) return;
        memory_ = Buffer<C>(n);
        load_elements(dtype, data, 0, 1, n, memory_.get());
        data_ = memory_.get();
    }
    explicit operator bool() const { return data_; }
    C operator[](std::int64_t i) const { return data_[i]; }

private:
    const C* data_;
    Buffer<C> memory_;
};

// A weight between a channel of the outputs and one of the sources, at a tap: data[o * output + c * source + index].
struct Weights {
    DType dtype;
    const void* data;
    std::int64_t output, source;
};

using Numbers = std::vector<std::int64_t>;

// The places of the values in ascending order, equal ones in the order they have.
Numbers sorted_by(const Numbers& values) {
    std::vector<std::pair<std::int64_t, std::int64_t>> places;
    for (const std::int64_t value : values) places.emplace_back(value, places.size());
    std::sort(places.begin(), places.end());
    Numbers order;
    for (const auto& place : places) order.push_back(place.second);
    return order;
}

// The output channels as rows of tiles, those of one depth side by side.
struct ChannelRows {
    Numbers places;          // of the output channels
    Numbers channels;        // of the rows, -1 of one that is none
    Numbers depths, counts;  // of the tiles: of the chain, and how many rows are output channels

    explicit ChannelRows(const Numbers& depth_of) : places(depth_of.size()) {
        for (const std::int64_t o : sorted_by(depth_of)) {
            const std::int64_t depth = depth_of[std::size_t(o)];
            if (depths.empty() || depth != depths.back() || channels.size() % kTileRows == 0) {
                channels.resize(depths.size() * kTileRows, -1);
                depths.push_back(depth);
                counts.push_back(0);
            }
            places[std::size_t(o)] = std::int64_t(channels.size());
            channels.push_back(o);
            ++counts.back();
        }
        channels.resize(depths.size() * kTileRows, -1);
    }
};

// The weights of the output channels, those of one depth side by side in tiles.
template <class C>
class Packed {
public:
    // depths: of each output channel, how much of the chain it has.
    Packed(int threads, const Weights& weights, const Chain& chain, const Numbers& depths)
        : rows_(depths), tile_(blocks_of(depth()) * kBlock), packed_(tiles() * tile_) {
        std::atomic<bool> finite = true;
        parallel_for(tiles(), threads, [&](std::int64_t t) {
            const std::int64_t* const of_tile = rows_.channels.data() + t * kTileRows;
            pack_rows(rows_.counts[std::size_t(t)], kTileRows, rows_.depths[std::size_t(t)], tile_, kBlock,
                      packed_.get() + t * tile_, [&](std::int64_t r, std::int64_t first, std::int64_t n, C* to) {
                          read(weights, chain, of_tile[r], first, n, to);
                          if (!all_finite(to, n)) finite = false;
                      });
        });
        finite_ = finite;
    }

    std::int64_t tiles() const { return std::int64_t(rows_.depths.size()); }
    std::int64_t depth() const { return *std::max_element(rows_.depths.begin(), rows_.depths.end()); }
    // The row of the tiles' sums that is an output channel's.
    std::int64_t place(std::int64_t channel) const { return rows_.places[std::size_t(channel)]; }

    bool finite() const { return finite_; }

    // The sums of a tile go on from number `first` of the chain up to `end`; `first` is a multiple of kDepth.
    void go_on(std::int64_t t, const C* patches, std::int64_t first, std::int64_t end, Tile<C>& sums) const {
        const std::int64_t n = std::min(end, rows_.depths[std::size_t(t)]) - first;
        if (n <= 0) return;
        add_product(rows_.counts[std::size_t(t)], packed_.get() + t * tile_ + first / kDepth * kBlock, kBlock, patches,
                    n, sums);
    }

private:
    static bool all_finite(const C* numbers, std::int64_t n) {
        bool found = false;
        for (std::int64_t i = 0; i < n; ++i) found |= !(std::abs(numbers[i]) <= std::numeric_limits<C>::max());
        return !found;
    }

    static void read(const Weights& weights, const Chain& chain, std::int64_t output, std::int64_t first,
                     std::int64_t n, C* to) {
        chain.over_taps(first, first + n, [&](const Tap& tap, const std::int64_t* order, std::int64_t count) {
            const std::int64_t from = output * weights.output + tap.index;
            gather_elements(weights.dtype, weights.data, from, weights.source, order, count, to);
            to += count;
        });
    }

    ChannelRows rows_;
    std::int64_t tile_;
    Buffer<C> packed_;
    bool finite_ = true;
};

// Calls finish(pixel, count, sums) for all pixels, kTileColumns at a time: sums are (rows of weights, kTileColumns).
template <class C, class Finish>
void product(int threads, const Packed<C>& weights, const Patches<C>& patches, const Finish& finish) {
    constexpr std::int64_t width = kTileColumns<C>;
    const std::int64_t tiles = weights.tiles(), pixels = patches.grid().pixels(), all = (pixels + width - 1) / width;
    const std::int64_t room = std::max<std::int64_t>(1, kTaskNumbers / (tiles * kTileRows * width));
    const std::int64_t shared = std::max<std::int64_t>(1, all / (2 * threads)),
                       each = std::min({kTaskTiles, room, shared});
    parallel_for((all + each - 1) / each, threads, [&](std::int64_t task) {
        const Buffer<C> panel(kSpan * width);
        const Buffer<Tile<C>> sums(each * tiles + 1);
        const auto over_panels = [&](const auto& body) {
            Tile<C>* of_panel = sums.get();
            for (std::int64_t p = task * each; p < std::min(all, (task + 1) * each); ++p, of_panel += tiles) {
                body(p * width, std::min(width, pixels - p * width), of_panel);
            }
        };
        std::fill_n(sums.get(), each * tiles, Tile<C>{});
        for (std::int64_t k = 0; k < weights.depth(); k += kSpan) {
            const std::int64_t end = std::min(k + kSpan, weights.depth());
            over_panels([&](std::int64_t pixel, std::int64_t count, Tile<C>* of_panel) {
                const std::int64_t zeros = weights.finite() ? patches.outside(pixel, count) : 0;
                const std::int64_t first = std::max(k, zeros / kDepth * kDepth);
                if (first >= end) return;
                patches.template rows<width>(pixel, count, first, end, panel.get());
                for (std::int64_t t = 0; t < tiles; ++t) weights.go_on(t, panel.get(), first, end, of_panel[t]);
            });
        }
        for (std::int64_t o = 0; o < finish.outputs(); o += kOutputs) {
            over_panels([&](std::int64_t pixel, std::int64_t count, const Tile<C>* of_panel) {
                finish(pixel, count, o, std::min(o + kOutputs, finish.outputs()), reinterpret_cast<const C*>(of_panel));
            });
        }
    });
}

// Sums to outputs: + bias, + condition, the activation, each rounded by itself.
template <class C>
class Finish {
public:
    Finish(DType dtype, const Packed<C>& weights, const Epilogue& epilogue, std::int64_t channels, const View& y)
        : dtype_(dtype),
          weights_(weights),
          epilogue_(epilogue),
          bias_(dtype, epilogue.bias, channels),
          of_images_(dtype, epilogue.per_pixel ? nullptr : epilogue.condition, y.shape[0] * channels),
          channels_(channels),
          plane_(y.height() * y.width()),
          y_(y.data) {}

    std::int64_t outputs() const { return epilogue_.activation == Activation::gated ? channels_ / 2 : channels_; }

    // The outputs [first, end) of `count` pixels.
    void operator()(std::int64_t pixel, std::int64_t count, std::int64_t first, std::int64_t end, const C* sums) const {
        for (std::int64_t lane = 0; lane < count;) {
            const std::int64_t image = (pixel + lane) / plane_, at = (pixel + lane) % plane_;
            const std::int64_t n = std::min(count - lane, plane_ - at);
            for (std::int64_t o = first; o < end; ++o) {
                const std::int64_t to = (image * outputs() + o) * plane_ + at;
                if (in_place<C>(dtype_)) {
                    finish(sums + lane, image, o, at, n, static_cast<C*>(y_) + to);
                } else {
                    C line[kTileColumns<C>];
                    finish(sums + lane, image, o, at, n, line);
                    store_elements(dtype_, line, n, y_, to);
                }
            }
            lane += n;
        }
    }

private:
    // n pixels of output o, from pixel `at` of the image on, whose sums begin at `sums` in their rows.
    void finish(const C* sums, std::int64_t image, std::int64_t o, std::int64_t at, std::int64_t n, C* to) const {
        linear(sums, image, o, at, n, to);
        if (epilogue_.activation != Activation::gated) return;
        C line[kTileColumns<C>];
        linear(sums, image, o + channels_ / 2, at, n, line);
        const C* const in[]{to, line};
        tile_functions<C>().gate[int(First::tanh)](n, in, &to);
    }

    LAPCORE_INLINE void linear(const C* sums, std::int64_t image, std::int64_t o, std::int64_t at, std::int64_t n,
                               C* to) const {
        const bool relu = epilogue_.activation == Activation::relu;
        const std::int64_t row = image * channels_ + o;
        C line[kTileColumns<C>];
        if (epilogue_.per_pixel) copy_run(dtype_, epilogue_.condition, row * plane_ + at, n, line);
        const C* const from = sums + weights_.place(o) * kTileColumns<C>;
        for (std::int64_t i = 0; i < kTileColumns<C> && i < n; i += kLanes<C>) {
            Vector<C> v = load(from + i);
            if (bias_) v += bias_[o];
            if (epilogue_.per_pixel) {
                v += load(line + i);
            } else if (of_images_) {
                v += of_images_[row];
            }
            if (relu) v = relu_of(v);
            if (n - i >= kLanes<C>) {
                store(to + i, v);
            } else {
                store_first(to + i, v, n - i);
            }
        }
    }

    DType dtype_;
    const Packed<C>& weights_;
    const Epilogue& epilogue_;
    Converted<C> bias_, of_images_;
    std::int64_t channels_, plane_;
    void* y_;
};

// Of the output channels, how much of the chain they have.
Numbers depths_of(const LiveTaps& live, std::int64_t outputs, std::int64_t inputs) {
    Numbers depths(std::size_t(outputs), live.whole * inputs);
    for (std::size_t o = 0; o < live.centre.size(); ++o) depths[o] += live.centre[o];
    return depths;
}

template <class C>
void forward(const MaskedConvCall& call, const View& x, const View& weight, const Epilogue& epilogue, const View& y) {
    const std::int64_t outputs = weight.shape[0], inputs = weight.shape[1], kernel = weight.height() * weight.width();
    const Chain chain = chain_of(call.live, weight);
    const Numbers depths = depths_of(call.live, outputs, inputs);
    const Packed<C> packed(call.threads, {call.dtype, weight.data, inputs * kernel, kernel}, chain, depths);
    const Grid grid(x, chain, call.stride, y.height(), y.width());
    product(call.threads, packed, Patches<C>(call.dtype, x, chain, grid),
            Finish<C>(call.dtype, packed, epilogue, outputs, y));
}

// The chain of the gradient at the input, over the output channels, and of the input channels how much of it they have.
std::pair<Chain, Numbers> mirrored(const LiveTaps& live, const View& weight) {
    const std::int64_t outputs = weight.shape[0], inputs = weight.shape[1];
    const Numbers& centre = live.centre;
    Chain chain = chain_of(live, weight);
    chain.mirror(outputs);
    Numbers depths(std::size_t(inputs), live.whole * outputs);
    if (!centre.empty()) {
        chain.last = sorted_by(centre);
        std::reverse(chain.last.begin(), chain.last.end());
        for (std::int64_t c = 0; c < inputs; ++c) {
            depths[std::size_t(c)] +=
                std::count_if(centre.begin(), centre.end(), [c](std::int64_t n) { return c < n; });
        }
    }
    return {chain, depths};
}

template <class C>
void backward_input(const MaskedConvCall& call, const View& grad, const View& weight, const View& dx) {
    const std::int64_t inputs = weight.shape[1], kernel = weight.height() * weight.width();
    const auto [chain, depths] = mirrored(call.live, weight);
    const Packed<C> packed(call.threads, {call.dtype, weight.data, kernel, inputs * kernel}, chain, depths);
    const Grid grid(grad, chain, 1, dx.height(), dx.width());
    product(call.threads, packed, Patches<C>(call.dtype, grad, chain, grid),
            Finish<C>(call.dtype, packed, Epilogue{}, inputs, dx));
}

}  // namespace

extern const MaskedConvKernels masked_conv_kernels;
const MaskedConvKernels masked_conv_kernels{
    [](const MaskedConvCall& call, const View& x, const View& weight, const Epilogue& epilogue, const View& y) {
        with_computed(call.dtype, [&](auto zero) { forward<decltype(zero)>(call, x, weight, epilogue, y); });
    },
    [](const MaskedConvCall& call, const View& grad, const View& weight, const View& dx) {
        with_computed(call.dtype, [&](auto zero) { backward_input<decltype(zero)>(call, grad, weight, dx); });
    },
    masked_conv_backward_weight,
    gated_activation,
    gated_activation_backward,
    concat_elu,
    concat_elu_backward,
};

}  // namespace lapcore::LAPCORE_ISA
