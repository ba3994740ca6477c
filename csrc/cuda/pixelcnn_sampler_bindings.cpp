// Programs of autoregressive networks over raw pointers. Arguments have been checked by lapcore.ops.
#include <array>

#include "cuda/bindings.h"
#include "cuda/pixelcnn_sampler.h"
#include "gil.h"
#include "tensors.h"

namespace py = pybind11;

namespace lapcore::cuda {
namespace {

// height, width, channels, groups, mixture, head, levels, floats
using Numbers = std::array<std::int64_t, 8>;
// maps, steps, bounds, conditions, weights
using Tables = std::array<std::uintptr_t, 5>;

template <class T>
const T* table(std::uintptr_t address) {
    return static_cast<const T*>(pointer(address));
}

PixelProgram program_of(const Numbers& n, const std::vector<std::int64_t>& one_place, const Tables& tables) {
    return {n[0],
            n[1],
            n[2],
            n[3],
            table<PixelMap>(tables[0]),
            table<PixelStep>(tables[1]),
            table<std::int64_t>(tables[2]),
            table<PixelConditionOf>(tables[3]),
            table<float>(tables[4]),
            n[4] != 0,
            n[5],
            n[6],
            n[7],
            one_place};
}

void sample(std::uintptr_t stream, const Numbers& numbers, const std::vector<std::int64_t>& one_place,
            const Tables& tables, std::int64_t images, const SeedsTensor& seeds, std::uintptr_t conditions,
            std::uintptr_t given, std::uintptr_t known, std::uintptr_t out, std::uintptr_t work) {
    const PixelProgram program = program_of(numbers, one_place, tables);
    const WithoutGil released;
    sample_program(program,
                   {pointer(stream), images, seeds_of(seeds), table<float>(conditions), table<float>(given),
                    table<bool>(known), static_cast<float*>(pointer(out))},
                   pointer(work));
}

}  // namespace

void bind_pixelcnn_sampler(py::module_& m) {
    using py::arg;
    m.def(
        "cuda_sample_program_work",
        [](const Numbers& numbers, const std::vector<std::int64_t>& one_place, std::int64_t images) {
            return sample_program_work(program_of(numbers, one_place, {}), images);
        },
        arg("numbers"), arg("one_place"), arg("images"), "How many bytes cuda_sample_program wants for `work`.");
    m.def("cuda_sample_program", &sample, arg("stream"), arg("numbers"), arg("one_place"), arg("tables"), arg("images"),
          arg("seeds"), arg("conditions"), arg("given"), arg("known"), arg("out"), arg("work"),
          "Enqueues the draw of a batch: a program as csrc/cuda/pixelcnn_sampler.h takes it.");
    m.def(
        "cuda_categorical",
        [](int dtype, std::uintptr_t stream, std::int64_t rows, std::int64_t levels, std::uintptr_t logits,
           std::uintptr_t u, std::uintptr_t indices) {
            const WithoutGil released;
            categorical(static_cast<DType>(dtype), pointer(stream), rows, levels, pointer(logits), pointer(u),
                        static_cast<std::int64_t*>(pointer(indices)));
        },
        arg("dtype"), arg("stream"), arg("rows"), arg("levels"), arg("logits"), arg("u"), arg("indices"),
        "Enqueues categorical draws.");
}

}  // namespace lapcore::cuda
