// Autoregressive networks as tables of maps and steps (lapcore/reference/pixelcnn_program.py), which the samplers of
// csrc/cpu and csrc/cuda run. A table's row is a row of int64 in memory: so Python hands it over.
#pragma once

#include <cstdint>

namespace lapcore {

// A buffer: of level L, `columns` places a row, or one place in all where it is read only where it was just written.
// The last `rows` rows are kept, with `border` columns of zeros at either end. Buffers of one storage share memory.
struct PixelMap {
    std::int64_t channels, level, rows, border, columns, storage, one_place;
};

enum class StepKind : std::int64_t {
    conv,
    relu,
    concat_elu,
    gated_tanh,
    gated_identity,
    add,
    cat,
    ones,
    shuffle,
    embed
};
enum class StepPhase : std::int64_t { row, pixel, drawn };

// What is done for the channels [first, first + count) of the map dst; for all groups together in phase row.
struct PixelStep {
    StepKind kind;
    StepPhase phase;
    std::int64_t group, a, b, dst, first, count;
    // conv: the first `taps` of the kernel whole, the next for the first `centre` channels. condition: -1 for none.
    std::int64_t kernel_height, kernel_width, stride, taps, centre, condition;
    // Where the program's weights hold its own, (count, taps channels + centre) of a conv, (channels, levels, dim) of
    // an embed, and its bias, (count), -1 for none.
    std::int64_t weight, bias;
    std::int64_t levels, dim;
};

constexpr float kNoBias = -0.0f;  // leaves every sum as it is, a -0 too

constexpr std::int64_t kMapNumbers = 7, kStepNumbers = 18;
static_assert(sizeof(PixelMap) == kMapNumbers * sizeof(std::int64_t));
static_assert(sizeof(PixelStep) == kStepNumbers * sizeof(std::int64_t));

}  // namespace lapcore
