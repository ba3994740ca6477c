// Autoregressive networks, run at one pixel after the other: a block has a few images, which it takes through the whole
// network by itself. Blocks do not wait for each other, and one launch draws a batch.
//
// A map lies as [row of the ring][column][channel][image]. A step is done by all threads of the block, which then wait
// for each other. In a convolution a thread has an output channel, of all images, or of several places beside each
// other; weights and inputs pass through shared memory in slices of the depth, one of which arrives while the other is
// multiplied. What is read only where it was just written stays in shared memory too, as far as there is room.
#include <algorithm>
#include <stdexcept>

#include "common/activations.h"
#include "common/logistic.h"
#include "cuda/categorical.h"
#include "cuda/launch.h"
#include "cuda/noise.h"
#include "cuda/pixelcnn_sampler.h"
#include "cuda/weight_slices.h"

namespace lapcore::cuda {
namespace {

// Rows (place, image) that a convolution of whole rows takes at a time.
constexpr int kRowTile = WeightSlices::kMostRows;

// Leaves a multiprocessor enough of its memory as a cache for the tables of maps and steps.
constexpr std::size_t kMostShared = 128 * 1024;

struct Problem {
    int height, width, channels, groups;
    const PixelMap* maps;
    const PixelStep* steps;
    const std::int64_t* bounds;
    const PixelConditionOf* condition_table;
    const float* weights;
    bool mixture;
    int head, levels;
    std::int64_t floats, local;  // an image's memory, and how much of it is in shared memory
    int images;
    Noise noise;
    const float *conditions, *given;
    const bool* known;
    float *out, *work;
};

// A block's memory of a map of I images.
template <int I>
struct Map {
    float* data;
    int channels, shift, columns, rows, border;
    bool one_place;

    // The channels at a place; of rows above the image, and columns beside it, zeros.
    __device__ float* at(int y, int x) const {
        if (one_place) return data;
        return data + std::int64_t{(y + rows) % rows * (columns + 2 * border) + x + border} * (channels * I);
    }
};

// Where a step is done: the places (y, x) .. (y, x + count - 1) of its destination.
struct Places {
    int y, x, count;
};

template <int I>
class Tile {
public:
    __device__ explicit Tile(const Problem& problem)
        : p_(problem),
          first_image_(static_cast<int>(blockIdx.x) * I),
          slices_(*reinterpret_cast<WeightSlices*>(dynamic_shared())) {
        local_ = reinterpret_cast<float*>(dynamic_shared() + sizeof(WeightSlices));
        far_ = p_.work + std::int64_t{blockIdx.x} * I * (p_.floats - p_.local);
    }

    __device__ void run() {
        clear(local_, I * p_.local);
        clear(far_, I * (p_.floats - p_.local));
        __syncthreads();
#pragma unroll 1
        for (int y = 0; y < p_.height; ++y) {
            steps<false>(0, y, 0);
#pragma unroll 1
            for (int x = 0; x < p_.width; ++x) {
#pragma unroll 1
                for (int group = 0; group < p_.groups; ++group) {
                    steps<true>(1 + 2 * group, y, x);
                    draw(y, x, group);
                    __syncthreads();
                    steps<true>(2 + 2 * group, y, x);
                }
            }
        }
    }

private:
    __device__ void clear(float* memory, std::int64_t count) const {
#pragma unroll 1
        for (std::int64_t i = threadIdx.x; i < count; i += kSliceThreads) memory[i] = 0;
    }

    __device__ Map<I> map(std::int64_t number) const {
        const PixelMap& map = p_.maps[number];
        const bool near = map.storage < p_.local;
        float* const data = near ? local_ + I * map.storage : far_ + I * (map.storage - p_.local);
        return {data,
                static_cast<int>(map.channels),
                static_cast<int>(map.level),
                static_cast<int>(map.columns),
                static_cast<int>(map.rows),
                static_cast<int>(map.border),
                map.one_place != 0};
    }

    // Those of part `part` of the table that are due at a pixel, or, of a row, at its first.
    template <bool kPixel>
    __device__ void steps(int part, int y, int x) {
        const int end = static_cast<int>(p_.bounds[part + 1]);
        int begun = -1;
#pragma unroll 1
        for (int i = static_cast<int>(p_.bounds[part]); i < end; ++i) {
            const PixelStep& step = p_.steps[i];
            if (!due(step, y, x)) continue;
            const Map<I> a = map(step.a), to = map(step.dst);
            const Places places{y >> to.shift, x >> to.shift, kPixel ? 1 : to.columns};
            if (step.kind == StepKind::conv) {
                convolve<kPixel ? I : kRowTile>(step, a, to, places, begun == i);
                begun = begin_next(i + 1, end, y, x);
            } else {
                const Map<I> b = map(step.b);
#pragma unroll 1
                for (int j = 0; j < places.count; ++j) at_place(step, a, b, to, places.y, places.x + j);
            }
            __syncthreads();
        }
    }

    __device__ bool due(const PixelStep& step, int y, int x) const {
        return ((y | x) & ((1 << p_.maps[step.dst].level) - 1)) == 0;
    }

    // The next convolution that is due: its first weights may come while other steps are done.
    __device__ int begin_next(int i, int end, int y, int x) {
#pragma unroll 1
        while (i < end && !(p_.steps[i].kind == StepKind::conv && due(p_.steps[i], y, x))) ++i;
        if (i < end) {
            const PixelStep& step = p_.steps[i];
            const int count = static_cast<int>(step.count), channels = static_cast<int>(p_.maps[step.a].channels);
            slices_.begin(p_.weights + step.weight, min(count, kPanelOutputs), depth_of(step, channels));
        }
        return i;
    }

    __device__ static int depth_of(const PixelStep& step, int channels) {
        return static_cast<int>(step.taps) * channels + static_cast<int>(step.centre);
    }

    // function(i) of the numbers below `count`, which the threads share.
    template <class Function>
    __device__ static void each(int count, const Function& function) {
#pragma unroll 1
        for (int i = static_cast<int>(threadIdx.x); i < count; i += kSliceThreads) function(i);
    }

    __device__ void at_place(const PixelStep& step, const Map<I>& a, const Map<I>& b, const Map<I>& to, int y,
                             int x) const {
        if (step.kind == StepKind::shuffle) return shuffle(a.at(y / 2, x / 2), 2 * (y % 2) + x % 2, to, to.at(y, x));
        const int first = static_cast<int>(step.first) * I, n = static_cast<int>(step.count) * I, all = a.channels * I;
        const float *const whole = a.at(y, x), *const from = whole + first;
        float *const begin = to.at(y, x), *const out = begin + first;
        switch (step.kind) {
            case StepKind::relu: return each(n, [&](int i) { out[i] = relu_of(from[i]); });
            case StepKind::add: {
                const float* const other = b.at(y, x) + first;
                return each(n, [&](int i) { out[i] = from[i] + other[i]; });
            }
            case StepKind::gated_tanh:
                return each(n, [&](int i) { out[i] = gated<First::tanh>(from[i], from[all / 2 + i]); });
            case StepKind::gated_identity:
                return each(n, [&](int i) { out[i] = gated<First::identity>(from[i], from[all / 2 + i]); });
            case StepKind::concat_elu:
                return each(all, [&](int i) {
                    const auto both = concat_elu(whole[i]);
                    begin[i] = both.first;
                    begin[all + i] = both.second;
                });
            case StepKind::cat: {
                const float* const other = b.at(y, x);
                return each(to.channels * I, [&](int i) { begin[i] = i < all ? whole[i] : other[i - all]; });
            }
            case StepKind::ones: return each(all + I, [&](int i) { begin[i] = i < all ? whole[i] : 1.0f; });
            default: return embed(step, whole, begin);
        }
    }

    __device__ static void shuffle(const float* from, int corner, const Map<I>& to, float* out) {
        each(to.channels * I, [&](int i) { out[i] = from[(4 * (i / I) + corner) * I + i % I]; });
    }

    __device__ void embed(const PixelStep& step, const float* image, float* out) const {
        const float* const table = p_.weights + step.weight;
        const int dim = static_cast<int>(step.dim), first = static_cast<int>(step.first);
        const float last = static_cast<float>(step.levels - 1);
        each(static_cast<int>(step.count) * I, [&](int i) {
            const int channel = first + i / I, c = channel / dim;
            const float level = nearbyintf((image[c * I + i % I] + 1.0f) * (last / 2));
            const auto k = static_cast<std::int64_t>(level > 0 ? (level < last ? level : last) : 0);  // NaN: 0
            out[channel * I + i % I] = table[(c * step.levels + k) * dim + channel % dim];
        });
    }

    // Rows of the product are (place, image), R at a time. begun: whether its first weights are on their way.
    template <int R>
    __device__ void convolve(const PixelStep& step, const Map<I>& a, const Map<I>& to, const Places& places,
                             bool begun) {
        const int count = static_cast<int>(step.count), stride = static_cast<int>(step.stride);
        const int kernel_width = static_cast<int>(step.kernel_width);
        const int depth = depth_of(step, a.channels);
        const int top = stride * places.y - static_cast<int>(step.kernel_height) / 2;
        const int left = stride * places.x - kernel_width / 2, rows = places.count * I;
#pragma unroll 1
        for (int row = 0; row < rows; row += R) {
            // Input k of row r of these.
            const auto input = [&](int k, int r) {
                const int tap = k / a.channels, m = min(row + r, rows - 1);
                const float* const at = a.at(top + tap / kernel_width, left + tap % kernel_width + stride * (m / I));
                return at[(k - tap * a.channels) * I + m % I];
            };
#pragma unroll 1
            for (int first = 0; first < count; first += kPanelOutputs) {
                const int outputs = min(count - first, kPanelOutputs), o = first + static_cast<int>(threadIdx.x);
                float sum[R] = {};
                slices_.multiply(p_.weights + step.weight + std::int64_t{first} * depth, outputs, depth, input, sum,
                                 begun && row == 0 && first == 0);
                if (static_cast<int>(threadIdx.x) >= outputs) continue;
                const float bias = step.bias < 0 ? kNoBias : p_.weights[step.bias + o];
#pragma unroll
                for (int r = 0; r < R; ++r) {
                    const int m = row + r, x = places.x + m / I;
                    if (m >= rows) break;
                    float y = sum[r] + bias;
                    if (step.condition >= 0) y += condition(step, to, places.y, x, m % I)[o];
                    to.at(places.y, x)[(static_cast<int>(step.first) + o) * I + m % I] = y;
                }
            }
        }
    }

    // What is added to an image's outputs.
    __device__ const float* condition(const PixelStep& step, const Map<I>& to, int y, int x, int image) const {
        const PixelConditionOf& of = p_.condition_table[step.condition];
        const std::int64_t place = of.spatial ? std::int64_t{y} * to.columns + x : 0;
        return p_.conditions + p_.images * of.begin + (place * p_.images + clamped_image(image)) * of.channels +
               step.first;
    }

    // Of the last block, images that are not there do as the last one does.
    __device__ int clamped_image(int image) const { return min(first_image_ + image, p_.images - 1); }

    __device__ void draw(int y, int x, int group) const {
        const int each_group = p_.channels / p_.groups, first = group * each_group;
        const Map<I> image = map(0), head = map(p_.head);
        const float* const params = head.at(y, x);
        float* const drawn = image.at(y, x);
        const auto uniform = [&](int n, int row) {
            const std::int64_t plane = std::int64_t{p_.height} * p_.width;
            return uniform_at(p_.noise.key(clamped_image(n)), p_.noise.stream, row * plane + y * p_.width + x);
        };
        if (p_.mixture) {
            const int n = static_cast<int>(threadIdx.x);
            if (n >= I) return;
            draw_mixture(
                p_.channels, components_of(head.channels, p_.channels),
                [&](std::int64_t row) { return params[row * I + n]; },
                [&](std::int64_t row) { return uniform(n, static_cast<int>(row)); }, drawn + n, I);
#pragma unroll 1
            for (int c = 0; c < p_.channels; ++c) keep(y, x, c, n, drawn[c * I + n], drawn);
            return;
        }
#pragma unroll 1
        for (int i = static_cast<int>(threadIdx.x) / kWarpLanes; i < each_group * I; i += kSliceThreads / kWarpLanes) {
            const int c = first + i / I, n = i % I;
            const int level = draw_level(params + c * p_.levels * I + n, I, p_.levels, uniform(n, c));
            const float value = static_cast<float>(2 * level) / static_cast<float>(p_.levels - 1) - 1.0f;
            if (threadIdx.x % kWarpLanes == 0) keep(y, x, c, n, value, drawn);
        }
    }

    // A value that was drawn, unless another is given.
    __device__ void keep(int y, int x, int c, int n, float value, float* drawn) const {
        const std::int64_t row = (std::int64_t{clamped_image(n)} * p_.channels + c) * p_.height + y;
        const std::int64_t place = row * p_.width + x;
        if (p_.known && p_.known[place]) value = p_.given[place];
        drawn[c * I + n] = value;
        if (first_image_ + n < p_.images) p_.out[place] = value;
    }

    const Problem& p_;
    const int first_image_;
    WeightSlices& slices_;
    float *local_, *far_;
};

template <int I>
__global__ void __launch_bounds__(kSliceThreads, 1) sample_kernel(const __grid_constant__ Problem problem) {
    Tile<I>(problem).run();
}

template <class C>
__global__ void __launch_bounds__(kSliceThreads)
    categorical_kernel(std::int64_t rows, int levels, const C* const logits, const C* const u,
                       std::int64_t* const indices) {
    const std::int64_t row = std::int64_t{blockIdx.x} * (kSliceThreads / kWarpLanes) + threadIdx.x / kWarpLanes;
    if (row >= rows) return;
    const int drawn = draw_level(logits + row * levels, 1, levels, u[row]);
    if (threadIdx.x % kWarpLanes == 0) indices[row] = drawn;
}

// How the images are shared out, and how much of each one's memory is in shared memory.
struct Plan {
    int images_of_block;
    std::int64_t blocks, local;
    std::size_t shared;
};

Plan plan_of(const PixelProgram& program, std::int64_t images) {
    // As few images a block as give every multiprocessor one.
    int of_block = 1;
    while (of_block < kRowTile && images > of_block * multiprocessors()) of_block *= 2;
    const std::size_t image = of_block * sizeof(float);
    std::int64_t local = 0;
    for (const std::int64_t end : program.one_place)
        if (sizeof(WeightSlices) + end * image <= kMostShared) local = end;
    return {of_block, (images + of_block - 1) / of_block, local, sizeof(WeightSlices) + local * image};
}

std::int64_t bytes_of(const PixelProgram& program, const Plan& plan) {
    return plan.blocks * plan.images_of_block * (program.floats - plan.local) * std::int64_t{sizeof(float)};
}

auto kernel_of(int images_of_block) {
    switch (images_of_block) {
        case 1: return sample_kernel<1>;
        case 2: return sample_kernel<2>;
        case 4: return sample_kernel<4>;
        default: return sample_kernel<kRowTile>;
    }
}

template <class C>
void draw_rows(void* stream, std::int64_t rows, std::int64_t levels, const void* logits, const void* u,
               std::int64_t* indices) {
    constexpr int kRows = kSliceThreads / kWarpLanes;
    launch(categorical_kernel<C>, (rows + kRows - 1) / kRows, kSliceThreads, stream, rows, static_cast<int>(levels),
           static_cast<const C*>(logits), static_cast<const C*>(u), indices);
}

}  // namespace

std::int64_t sample_program_work(const PixelProgram& program, std::int64_t images) {
    return bytes_of(program, plan_of(program, images));
}

void sample_program(const PixelProgram& program, const PixelSamplerCall& call, void* work) {
    const Plan plan = plan_of(program, call.images);
    const auto number = [](std::int64_t value) { return static_cast<int>(value); };
    const Problem problem{number(program.height),
                          number(program.width),
                          number(program.channels),
                          number(program.groups),
                          program.maps,
                          program.steps,
                          program.bounds,
                          program.conditions,
                          program.weights,
                          program.mixture,
                          number(program.head),
                          number(program.levels),
                          program.floats,
                          plan.local,
                          number(call.images),
                          noise_of(call.seeds),
                          call.conditions,
                          call.given,
                          call.known,
                          call.out,
                          static_cast<float*>(work)};
    launch_with_shared(kernel_of(plan.images_of_block), plan.blocks, kSliceThreads, plan.shared, call.stream, problem);
}

void categorical(DType dtype, void* stream, std::int64_t rows, std::int64_t levels, const void* logits, const void* u,
                 std::int64_t* indices) {
    switch (dtype) {
        case DType::float32: return draw_rows<float>(stream, rows, levels, logits, u, indices);
        case DType::float64: return draw_rows<double>(stream, rows, levels, logits, u, indices);
        default: throw std::invalid_argument("dtype: expected float32 or float64");
    }
}

}  // namespace lapcore::cuda
