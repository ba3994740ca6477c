// lapcore/native/pixelcnn_sampler.py's side of csrc/cpu/pixelcnn_sampler.h.
#pragma once

#include <array>
#include <cstring>
#include <memory>

#include "bindings/bindings.h"

namespace lapcore::bindings::pixelcnn_sampler {

using MapNumbers = std::array<std::int64_t, kMapNumbers>;
using StepNumbers = std::array<std::int64_t, kStepNumbers>;
using ConditionNumbers = std::tuple<std::uintptr_t, std::int64_t, bool>;

template <class Row, std::size_t kNumbers>
inline std::vector<Row> table_of(const std::vector<std::array<std::int64_t, kNumbers>>& numbers) {
    static_assert(sizeof(Row) == sizeof numbers[0]);
    std::vector<Row> rows(numbers.size());
    if (!rows.empty()) std::memcpy(rows.data(), numbers.data(), rows.size() * sizeof(Row));
    return rows;
}

inline std::unique_ptr<PixelProgram> compile(std::pair<std::int64_t, std::int64_t> size, std::int64_t channels,
                                             std::int64_t groups, const std::vector<MapNumbers>& maps,
                                             const std::vector<StepNumbers>& steps, std::uintptr_t weights,
                                             const std::tuple<bool, std::int64_t, std::int64_t>& head) {
    const auto& [mixture, src, levels] = head;
    const PixelProgramSpec spec{size.first,
                                size.second,
                                channels,
                                groups,
                                table_of<PixelMap>(maps),
                                table_of<PixelStep>(steps),
                                static_cast<const float*>(pointer(weights)),
                                {mixture, src, levels}};
    return kernels().pixelcnn_sampler.compile(spec);
}

inline void run(const PixelProgram& program, int threads, std::int64_t images, std::uintptr_t noise,
                std::int64_t noise_rows, std::uintptr_t given, std::uintptr_t known,
                const std::vector<ConditionNumbers>& conditions, std::uintptr_t out) {
    PixelCall call{threads,
                   images,
                   static_cast<const float*>(pointer(noise)),
                   noise_rows,
                   static_cast<const float*>(pointer(given)),
                   static_cast<const bool*>(pointer(known)),
                   {},
                   static_cast<float*>(pointer(out))};
    for (const auto& [data, channels, spatial] : conditions)
        call.conditions.push_back({static_cast<const float*>(pointer(data)), channels, spatial});
    const WithoutGil released;
    program.run(call);
}

inline void categorical(int dtype, int threads, std::int64_t rows, std::int64_t levels, std::uintptr_t logits,
                        std::uintptr_t u, std::uintptr_t indices) {
    const WithoutGil released;
    kernels().pixelcnn_sampler.categorical(static_cast<DType>(dtype), threads, rows, levels, pointer(logits),
                                           pointer(u), static_cast<std::int64_t*>(pointer(indices)));
}

inline void bind(py::module_& m) {
    using py::arg;
    py::class_<PixelProgram>(m, "PixelProgram", "A program of csrc/cpu/pixelcnn_sampler.h for one instruction set.")
        .def("run", &run, arg("threads"), arg("images"), arg("noise"), arg("noise_rows"), arg("given"), arg("known"),
             arg("conditions"), arg("out"));
    m.def("compile_pixel_program", &compile, arg("size"), arg("channels"), arg("groups"), arg("maps"), arg("steps"),
          arg("weights"), arg("head"),
          "Maps, steps and the head are the members of PixelMap, PixelStep and PixelHead in order.");
    m.def("categorical", &categorical, arg("dtype"), arg("threads"), arg("rows"), arg("levels"), arg("logits"),
          arg("u"), arg("indices"));
}

}  // namespace lapcore::bindings::pixelcnn_sampler
