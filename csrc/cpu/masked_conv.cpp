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
#include <numeric>

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

// A weight between a channel of the outputs and one of the sources, at a tap: data[o * output + c * source + index].
template <class T>
struct Weights {
    const T* data;
    std::int64_t output, source;
};

// The places of the values in ascending order, equal ones in the order they have.
inline std::vector<std::int64_t> sorted_by(const std::vector<std::int64_t>& values) {
    std::vector<std::int64_t> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return values[std::size_t(a)] < values[std::size_t(b)]; });
    return order;
}

// The weights of the output channels, those of one depth side by side in tiles.
template <class T>
class Packed {
public:
    using C = Sum<T>;

    // depths: of each output channel, how much of the chain it has.
    Packed(int threads, const Weights<T>& weights, const Chain& chain, const std::vector<std::int64_t>& depths)
        : places_(depths.size()) {
        const std::vector<std::int64_t> order = sorted_by(depths);
        std::vector<std::int64_t> channels;  // of the rows
        for (const std::int64_t o : order) {
            const std::int64_t depth = depths[std::size_t(o)];
            if (depths_.empty() || depth != depths_.back() || channels.size() % kTileRows == 0) {
                channels.resize(depths_.size() * kTileRows, -1);
                depths_.push_back(depth);
                rows_.push_back(0);
            }
            places_[std::size_t(o)] = std::int64_t(channels.size());
            channels.push_back(o);
            ++rows_.back();
        }
        channels.resize(depths_.size() * kTileRows, -1);
        tile_ = blocks_of(depth()) * kBlock;
        packed_ = Buffer<C>(tiles() * tile_);
        std::atomic<bool> finite = true;
        parallel_for(tiles(), threads, [&](std::int64_t t) {
            const std::int64_t* const of_tile = channels.data() + t * kTileRows;
            pack_rows(rows_[std::size_t(t)], kTileRows, depths_[std::size_t(t)], tile_, kBlock,
                      packed_.get() + t * tile_, [&](std::int64_t r, std::int64_t first, std::int64_t n, C* to) {
                          read(weights, chain, of_tile[r], first, n, to);
                          if (!all_finite(to, n)) finite = false;
                      });
        });
        finite_ = finite;
    }

    std::int64_t tiles() const { return std::int64_t(depths_.size()); }
    std::int64_t depth() const { return *std::max_element(depths_.begin(), depths_.end()); }
    // The row of the tiles' sums that is an output channel's.
    std::int64_t place(std::int64_t channel) const { return places_[std::size_t(channel)]; }

    bool finite() const { return finite_; }

    // The sums of a tile go on from number `first` of the chain up to `end`; `first` is a multiple of kDepth.
    void go_on(std::int64_t t, const C* patches, std::int64_t first, std::int64_t end, Tile<C>& sums) const {
        const std::int64_t n = std::min(end, depths_[std::size_t(t)]) - first;
        if (n <= 0) return;
        add_product(rows_[std::size_t(t)], packed_.get() + t * tile_ + first / kDepth * kBlock, kBlock, patches, n,
                    sums);
    }

private:
    static bool all_finite(const C* numbers, std::int64_t n) {
        bool found = false;
        for (std::int64_t i = 0; i < n; ++i) found |= !(std::abs(numbers[i]) <= std::numeric_limits<C>::max());
        return !found;
    }

    static void read(const Weights<T>& weights, const Chain& chain, std::int64_t output, std::int64_t first,
                     std::int64_t n, C* to) {
        chain.over_taps(first, first + n, [&](const Tap& tap, const std::int64_t* order, std::int64_t count) {
            const T* const from = weights.data + output * weights.output + tap.index;
            for (std::int64_t c = 0; c < count; ++c) *to++ = widen(from[order[c] * weights.source]);
        });
    }

    std::vector<std::int64_t> places_;         // of the output channels
    std::vector<std::int64_t> depths_, rows_;  // of the tiles: of the chain, and how many are output channels
    std::int64_t tile_ = 0;
    bool finite_ = true;
    Buffer<C> packed_;
};

// Calls finish(pixel, count, sums) for all pixels, kTileColumns at a time: sums are (rows of weights, kTileColumns).
template <class T, class Finish>
void product(int threads, const Packed<T>& weights, const Patches<T>& patches, const Finish& finish) {
    using C = Sum<T>;
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
template <class T>
class Finish {
public:
    using C = Sum<T>;

    Finish(const Packed<T>& weights, const Epilogue& epilogue, std::int64_t channels, const View& y)
        : weights_(weights),
          epilogue_(epilogue),
          channels_(channels),
          plane_(y.height() * y.width()),
          y_(static_cast<T*>(y.data)) {}

    std::int64_t outputs() const { return epilogue_.activation == Activation::gated ? channels_ / 2 : channels_; }

    // The outputs [first, end) of `count` pixels.
    void operator()(std::int64_t pixel, std::int64_t count, std::int64_t first, std::int64_t end, const C* sums) const {
        for (std::int64_t lane = 0; lane < count;) {
            const std::int64_t image = (pixel + lane) / plane_, at = (pixel + lane) % plane_;
            const std::int64_t n = std::min(count - lane, plane_ - at);
            for (std::int64_t o = first; o < end; ++o) {
                T* const to = y_ + (image * outputs() + o) * plane_ + at;
                if constexpr (std::is_same_v<T, C>) {
                    finish(sums + lane, image, o, at, n, to);
                } else {
                    C line[kTileColumns<C>];
                    finish(sums + lane, image, o, at, n, line);
                    store_row(line, n, to, 1);
                }
            }
            lane += n;
        }
    }

private:
    // n pixels of output o, from pixel `at` of the image on, whose sums begin at `sums` in their rows.
    void finish(const C* sums, std::int64_t image, std::int64_t o, std::int64_t at, std::int64_t n, C* to) const {
        const bool gate = epilogue_.activation == Activation::gated, relu = epilogue_.activation == Activation::relu;
        linear(sums, image, o, at, n, to, [&](Vector<C> v) LAPCORE_INLINE_LAMBDA { return relu ? relu_of(v) : v; });
        if (!gate) return;
        C line[kTileColumns<C>];
        linear(sums, image, o + channels_ / 2, at, n, line, [](Vector<C> v) LAPCORE_INLINE_LAMBDA { return v; });
        over_places<C>(n, [&](const auto& place) LAPCORE_INLINE_LAMBDA {
            place.store(to, gated<First::tanh>(place.load(to), place.load(line)));
        });
    }

    template <class Then>
    LAPCORE_INLINE void linear(const C* sums, std::int64_t image, std::int64_t o, std::int64_t at, std::int64_t n,
                               C* to, const Then& then) const {
        const T* const bias = static_cast<const T*>(epilogue_.bias);
        const T* const condition = static_cast<const T*>(epilogue_.condition);
        const std::int64_t row = image * channels_ + o;
        C line[kTileColumns<C>];
        if (epilogue_.per_pixel) copy_run(condition + row * plane_ + at, n, line);
        const C* const from = sums + weights_.place(o) * kTileColumns<C>;
        for (std::int64_t i = 0; i < kTileColumns<C> && i < n; i += kLanes<C>) {
            Vector<C> v = load(from + i);
            if (bias) v += widen(bias[o]);
            if (epilogue_.per_pixel) {
                v += load(line + i);
            } else if (condition) {
                v += widen(condition[row]);
            }
            v = then(v);
            if (n - i >= kLanes<C>) {
                store(to + i, v);
            } else {
                store_first(to + i, v, n - i);
            }
        }
    }

    const Packed<T>& weights_;
    const Epilogue& epilogue_;
    std::int64_t channels_, plane_;
    T* y_;
};

template <class T>
void forward(const MaskedConvCall& call, const View& x, const View& weight, const Epilogue& epilogue, const View& y) {
    const std::int64_t outputs = weight.shape[0], inputs = weight.shape[1], kernel = weight.height() * weight.width();
    const Chain chain = chain_of(call.live, weight);
    std::vector<std::int64_t> depths(std::size_t(outputs), call.live.whole * inputs);
    for (std::size_t o = 0; o < call.live.centre.size(); ++o) depths[o] += call.live.centre[o];
    const Packed<T> packed(call.threads, {static_cast<const T*>(weight.data), inputs * kernel, kernel}, chain, depths);
    const Grid grid(x, chain, call.stride, y.height(), y.width());
    product(call.threads, packed, Patches<T>(x, chain, grid), Finish<T>(packed, epilogue, outputs, y));
}

template <class T>
void backward_input(const MaskedConvCall& call, const View& grad, const View& weight, const View& dx) {
    const std::int64_t outputs = weight.shape[0], inputs = weight.shape[1], kernel = weight.height() * weight.width();
    const std::vector<std::int64_t>& centre = call.live.centre;
    Chain chain = chain_of(call.live, weight);
    chain.mirror(outputs);
    std::vector<std::int64_t> depths(std::size_t(inputs), call.live.whole * outputs);
    if (!centre.empty()) {
        chain.last = sorted_by(centre);
        std::reverse(chain.last.begin(), chain.last.end());
        for (std::int64_t c = 0; c < inputs; ++c) {
            depths[std::size_t(c)] +=
                std::count_if(centre.begin(), centre.end(), [c](std::int64_t n) { return c < n; });
        }
    }
    const Packed<T> packed(call.threads, {static_cast<const T*>(weight.data), kernel, inputs * kernel}, chain, depths);
    const Grid grid(grad, chain, 1, dx.height(), dx.width());
    product(call.threads, packed, Patches<T>(grad, chain, grid), Finish<T>(packed, Epilogue{}, inputs, dx));
}

}  // namespace

extern const MaskedConvKernels masked_conv_kernels;
const MaskedConvKernels masked_conv_kernels{
    [](const MaskedConvCall& call, const View& x, const View& weight, const Epilogue& epilogue, const View& y) {
        with_float(call.dtype, [&](auto t) { forward<decltype(t)>(call, x, weight, epilogue, y); });
    },
    [](const MaskedConvCall& call, const View& grad, const View& weight, const View& dx) {
        with_float(call.dtype, [&](auto t) { backward_input<decltype(t)>(call, grad, weight, dx); });
    },
    masked_conv_backward_weight,
    gated_activation,
    gated_activation_backward,
    concat_elu,
    concat_elu_backward,
};

}  // namespace lapcore::LAPCORE_ISA
