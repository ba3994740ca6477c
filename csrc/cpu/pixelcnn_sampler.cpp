// Autoregressive networks, run at one pixel after the other for a slice of images on each thread. A slice goes through
// the whole network by itself; threads do not wait for each other.
//
// A map lies as [row of the ring][column][image][channel]: what a tap reads of all images is one block, and output
// channels are the lanes.
#include "cpu/pixelcnn_sampler.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "common/activations.h"
#include "common/logistic.h"
#include "cpu/activations.h"
#include "cpu/categorical.h"
#include "cpu/elements.h"
#include "cpu/pixel_product.h"
#include "cpu/threads.h"

namespace lapcore::LAPCORE_ISA {
namespace {

// The most images of a slice, and numbers in its buffers. With more images weights are read less often, but beyond 8
// that gains nothing, and a thread that is stopped holds up its slice. Threads take as many slices each.
constexpr std::int64_t kSliceImages = 8;
constexpr std::int64_t kSliceFloats = std::int64_t{1} << 26;

// Steps of a time, in order.
struct Schedule {
    std::vector<std::size_t> row;
    std::vector<std::vector<std::size_t>> pixel, drawn;  // by group
};

struct Compiled {
    PixelProgramSpec spec;
    std::vector<PackedWeights> weights;  // by step; none but of convolutions
    std::vector<std::vector<float>> tables;
    std::vector<std::int64_t> storage;  // floats an image
    Schedule schedule;
};

// A slice's memory of a map.
class Map {
public:
    Map(const PixelMap& map, float* data, std::int64_t images)
        : channels(map.channels),
          shift(map.level),
          columns(map.columns),
          place_(images * map.channels),
          rows_(map.rows),
          border_(map.border),
          data_(data),
          one_place_(map.one_place != 0) {}

    // The images' channels at a place; of rows above the image, and columns beside it, zeros.
    float* at(std::int64_t y, std::int64_t x) const {
        if (one_place_) return data_;
        return data_ + ((y + rows_) % rows_ * (columns + 2 * border_) + x + border_) * place_;
    }

    std::int64_t channels, shift, columns;

private:
    std::int64_t place_, rows_, border_;
    float* data_;
    bool one_place_;
};

std::int64_t floats_of(const PixelMap& map) {
    return map.channels * (map.one_place ? 1 : map.rows * (map.columns + 2 * map.border));
}

// Where a step is done: the places (y, x) .. (y, x + count - 1) of its destination.
struct Places {
    std::int64_t y, x, count;
};

class Slice {
public:
    Slice(const Compiled& compiled, const PixelCall& call, std::int64_t first, std::int64_t images)
        : compiled_(compiled), spec_(compiled.spec), call_(call), first_(first), images_(images) {
        for (const std::int64_t floats : compiled.storage) {
            memory_.emplace_back(floats * images);
            std::fill_n(memory_.back().get(), floats * images, 0.0f);
        }
        for (const PixelMap& map : spec_.maps) maps_.emplace_back(map, memory_[std::size_t(map.storage)].get(), images);
        std::int64_t taps = 1;
        for (const PixelStep& step : spec_.steps) taps = std::max(taps, step.kernel_height * step.kernel_width);
        taps_.resize(std::size_t(taps));
    }

    void run() {
        for (std::int64_t y = 0; y < spec_.height; ++y) {
            for (const std::size_t i : compiled_.schedule.row) {
                const Map& to = maps_[std::size_t(spec_.steps[i].dst)];
                if ((y & ((1 << to.shift) - 1)) == 0) do_step(i, {y >> to.shift, 0, to.columns});
            }
            for (std::int64_t x = 0; x < spec_.width; ++x) {
                for (std::size_t group = 0; group < std::size_t(spec_.groups); ++group) {
                    at_pixel(compiled_.schedule.pixel[group], y, x);
                    draw(y, x, std::int64_t(group));
                    at_pixel(compiled_.schedule.drawn[group], y, x);
                }
            }
        }
    }

private:
    void at_pixel(const std::vector<std::size_t>& steps, std::int64_t y, std::int64_t x) {
        for (const std::size_t i : steps) {
            const std::int64_t shift = maps_[std::size_t(spec_.steps[i].dst)].shift;
            if (((y | x) & ((1 << shift) - 1)) == 0) do_step(i, {y >> shift, x >> shift, 1});
        }
    }

    void do_step(std::size_t i, const Places& places) {
        const PixelStep& step = spec_.steps[i];
        const Map &a = maps_[std::size_t(step.a)], &b = maps_[std::size_t(step.b)], &to = maps_[std::size_t(step.dst)];
        switch (step.kind) {
            case StepKind::conv: return convolve(i, a, to, places);
            case StepKind::shuffle: return shuffle(a, to, places);
            case StepKind::embed: return embed(i, a, to, places);
            default: break;
        }
        const float *from = a.at(places.y, places.x), *other = b.at(places.y, places.x);
        float* out = to.at(places.y, places.x);
        std::int64_t rows = places.count * images_, n = step.count;
        if (a.channels == n && b.channels == n && to.channels == n) n *= rows, rows = 1;
        for (std::int64_t m = 0; m < rows; ++m, from += a.channels, other += b.channels, out += to.channels) {
            elementwise(step, n, a.channels, b.channels, from, other, out);
        }
    }

    // Of one row (place, image), or, where all channels of all maps take part, of all rows as one.
    static void elementwise(const PixelStep& step, std::int64_t n, std::int64_t a_channels, std::int64_t b_channels,
                            const float* a, const float* b, float* out) {
        const float* const from = a + step.first;
        float* const to = out + step.first;
        switch (step.kind) {
            case StepKind::relu:
                return over_places<float>(
                    n, false, [&](const auto& at) LAPCORE_INLINE_LAMBDA { at.store(to, relu_of(at.load(from))); });
            case StepKind::add:
                return over_places<float>(n, false, [&](const auto& at) LAPCORE_INLINE_LAMBDA {
                    at.store(to, at.load(from) + at.load(b + step.first));
                });
            case StepKind::gated_tanh: return gate(First::tanh, n, from, a_channels / 2, to);
            case StepKind::gated_identity: return gate(First::identity, n, from, a_channels / 2, to);
            case StepKind::concat_elu: {
                float* const halves[]{out, out + a_channels};
                return float_functions.concat_elu(a_channels, &a, halves);
            }
            case StepKind::cat:
                std::copy_n(a, a_channels, out);
                std::copy_n(b, b_channels, out + a_channels);
                return;
            default: std::copy_n(a, a_channels, out); out[a_channels] = 1.0f;  // ones
        }
    }

    static void gate(First first, std::int64_t n, const float* a, std::int64_t half, float* out) {
        const float* const halves[]{a, a + half};
        float_functions.gate[int(first)](n, halves, &out);
    }

    void convolve(std::size_t i, const Map& a, const Map& to, const Places& places) {
        const PixelStep& step = spec_.steps[i];
        if (step.stride > 1 && places.count > 1) {
            for (std::int64_t x = 0; x < places.count; ++x) convolve(i, a, to, {places.y, places.x + x, 1});
            return;
        }
        const std::int64_t top = step.stride * places.y - step.kernel_height / 2;
        const std::int64_t left = step.stride * places.x - step.kernel_width / 2;
        const std::int64_t count = step.taps + (step.centre > 0);
        for (std::int64_t t = 0; t < count; ++t)
            taps_[std::size_t(t)] = a.at(top + t / step.kernel_width, left + t % step.kernel_width);
        const TapRows rows{taps_.data(), count, a.channels, step.centre > 0 ? step.centre : a.channels, a.channels};
        const ConditionRows condition = condition_of(step, to, places);
        compiled_.weights[i].multiply(rows, places.count * images_, condition.data ? &condition : nullptr,
                                      to.at(places.y, places.x) + step.first, to.channels);
    }

    ConditionRows condition_of(const PixelStep& step, const Map& to, const Places& places) const {
        if (step.condition < 0) return {nullptr, 1, 0, 0};
        const PixelCondition& condition = call_.conditions[std::size_t(step.condition)];
        const float* const data = condition.data + first_ * condition.channels + step.first;
        const std::int64_t place = condition.spatial ? call_.images * condition.channels : 0;
        return {data + (places.y * to.columns + places.x) * place, images_, place, condition.channels};
    }

    void shuffle(const Map& a, const Map& to, const Places& places) const {
        for (std::int64_t x = places.x; x < places.x + places.count; ++x) {
            const float* from = a.at(places.y / 2, x / 2) + 2 * (places.y % 2) + x % 2;
            float* out = to.at(places.y, x);
            for (std::int64_t c = 0; c < images_ * to.channels; ++c) out[c] = from[4 * c];
        }
    }

    void embed(std::size_t i, const Map& a, const Map& to, const Places& places) const {
        const PixelStep& step = spec_.steps[i];
        const float scale = float(step.levels - 1) / 2, *const from = a.at(places.y, places.x);
        float* const out = to.at(places.y, places.x);
        for (std::int64_t n = 0; n < images_; ++n) {
            for (std::int64_t c = step.first / step.dim; c < (step.first + step.count) / step.dim; ++c) {
                const float level = nearbyintf((from[n * a.channels + c] + 1.0f) * scale),
                            last = float(step.levels - 1);
                const auto k = std::int64_t(level > 0 ? (level < last ? level : last) : 0);  // NaN: 0
                std::copy_n(compiled_.tables[i].data() + (c * step.levels + k) * step.dim, step.dim,
                            out + n * to.channels + c * step.dim);
            }
        }
    }

    void draw(std::int64_t y, std::int64_t x, std::int64_t group) {
        const std::int64_t channels = spec_.channels, each = channels / spec_.groups;
        float* const drawn = maps_[0].at(y, x);
        if (spec_.head.mixture) {
            draw_mixtures(y, x, drawn);
        } else {
            for (std::int64_t c = group * each; c < (group + 1) * each; ++c) draw_levels(y, x, c, drawn + c);
        }
        for (std::int64_t n = 0; n < images_; ++n) {
            for (std::int64_t c = group * each; c < (group + 1) * each; ++c) {
                const std::int64_t place = (((first_ + n) * channels + c) * spec_.height + y) * spec_.width + x;
                if (call_.known && call_.known[place]) drawn[n * channels + c] = call_.given[place];
                call_.out[place] = drawn[n * channels + c];
            }
        }
    }

    // An image's uniforms at a place, a plane apart.
    const float* noise(std::int64_t n, std::int64_t y, std::int64_t x) const {
        return call_.noise + (first_ + n) * call_.noise_rows * plane() + y * spec_.width + x;
    }

    std::int64_t plane() const { return spec_.height * spec_.width; }

    // Channel c of all images.
    void draw_levels(std::int64_t y, std::int64_t x, std::int64_t c, float* drawn) {
        constexpr std::int64_t kRows = CategoricalDraws<float>::kRows;
        const Map& head = maps_[std::size_t(spec_.head.src)];
        const std::int64_t levels = spec_.head.levels;
        float u[kRows];
        std::int64_t indices[kRows];
        for (std::int64_t first = 0; first < images_; first += kRows) {
            const std::int64_t rows = std::min(kRows, images_ - first);
            for (std::int64_t i = 0; i < rows; ++i) u[i] = noise(first + i, y, x)[c * plane()];
            categorical_.draw(head.at(y, x) + first * head.channels + c * levels, head.channels, rows, levels, u,
                              indices);
            for (std::int64_t i = 0; i < rows; ++i)
                drawn[(first + i) * spec_.channels] = float(2 * indices[i]) / float(levels - 1) - 1.0f;
        }
    }

    void draw_mixtures(std::int64_t y, std::int64_t x, float* drawn) const {
        const Map& head = maps_[std::size_t(spec_.head.src)];
        const int channels = int(spec_.channels);
        for (std::int64_t n = 0; n < images_; ++n) {
            const float *const params = head.at(y, x) + n * head.channels, *const u = noise(n, y, x);
            draw_mixture(
                channels, components_of(head.channels, channels), [&](std::int64_t row) { return params[row]; },
                [&](std::int64_t j) { return u[j * plane()]; }, drawn + n * channels, 1);
        }
    }

    const Compiled& compiled_;
    const PixelProgramSpec& spec_;
    const PixelCall& call_;
    std::int64_t first_, images_;
    std::vector<Buffer<float>> memory_;
    std::vector<Map> maps_;
    std::vector<const float*> taps_;
    CategoricalDraws<float> categorical_;
};

class Program final : public PixelProgram {
public:
    explicit Program(const PixelProgramSpec& spec) {
        compiled_.spec = spec;
        const std::size_t steps = spec.steps.size(), groups = std::size_t(spec.groups);
        compiled_.weights.resize(steps);
        compiled_.tables.resize(steps);
        compiled_.schedule = {{}, std::vector<std::vector<std::size_t>>(groups), {}};
        compiled_.schedule.drawn = compiled_.schedule.pixel;
        compiled_.spec.weights = nullptr;  // the caller's
        for (std::size_t i = 0; i < steps; ++i) add(spec, i);
        for (const PixelMap& map : spec.maps) {
            auto& storage = compiled_.storage;
            if (storage.size() <= std::size_t(map.storage)) storage.resize(std::size_t(map.storage) + 1);
            storage[std::size_t(map.storage)] = std::max(storage[std::size_t(map.storage)], floats_of(map));
        }
    }

    void run(const PixelCall& call) const override {
        std::int64_t floats = 1;
        for (const std::int64_t each : compiled_.storage) floats += each;
        const std::int64_t most = std::max<std::int64_t>(1, std::min(kSliceImages, kSliceFloats / floats));
        const std::int64_t rounds = (call.images + most * call.threads - 1) / (most * call.threads);
        const std::int64_t slices = std::min(call.images, rounds * call.threads);
        parallel_for(slices, call.threads, [&](std::int64_t i) {
            const std::int64_t first = i * call.images / slices, last = (i + 1) * call.images / slices;
            Slice(compiled_, call, first, last - first).run();
        });
    }

private:
    void add(const PixelProgramSpec& spec, std::size_t i) {
        const PixelStep& step = spec.steps[i];
        const float* const weight = spec.weights + step.weight;
        auto& [row, pixel, drawn] = compiled_.schedule;
        const std::size_t group = std::size_t(step.group);
        (step.phase == StepPhase::row     ? row
         : step.phase == StepPhase::pixel ? pixel[group]
                                          : drawn[group])
            .push_back(i);
        const std::int64_t channels = spec.maps[std::size_t(step.a)].channels;
        if (step.kind == StepKind::conv) {
            const std::int64_t depth = step.taps * channels + step.centre;
            const float* const bias = step.bias < 0 ? nullptr : spec.weights + step.bias;
            compiled_.weights[i] = PackedWeights(weight, bias, step.count, depth);
        } else if (step.kind == StepKind::embed) {
            compiled_.tables[i].assign(weight, weight + channels * step.levels * step.dim);
        }
    }

    Compiled compiled_;
};

template <class C>
void draw_rows(int threads, std::int64_t rows, std::int64_t levels, const C* logits, const C* u,
               std::int64_t* indices) {
    constexpr std::int64_t kRows = CategoricalDraws<C>::kRows, kTiles = 8;
    parallel_for((rows + kTiles * kRows - 1) / (kTiles * kRows), threads, [&](std::int64_t task) {
        CategoricalDraws<C> draws;
        for (std::int64_t i = task * kTiles * kRows; i < std::min(rows, (task + 1) * kTiles * kRows); i += kRows)
            draws.draw(logits + i * levels, levels, std::min(kRows, rows - i), levels, u + i, indices + i);
    });
}

void categorical(DType dtype, int threads, std::int64_t rows, std::int64_t levels, const void* logits, const void* u,
                 std::int64_t* indices) {
    if (dtype == DType::float64) {
        return draw_rows(threads, rows, levels, static_cast<const double*>(logits), static_cast<const double*>(u),
                         indices);
    }
    draw_rows(threads, rows, levels, static_cast<const float*>(logits), static_cast<const float*>(u), indices);
}

}  // namespace

extern const PixelcnnSamplerKernels pixelcnn_sampler_kernels;
const PixelcnnSamplerKernels pixelcnn_sampler_kernels{
    [](const PixelProgramSpec& spec) -> std::unique_ptr<PixelProgram> { return std::make_unique<Program>(spec); },
    categorical};

}  // namespace lapcore::LAPCORE_ISA
