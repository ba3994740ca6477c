// The module lapcore._C: plain functions over raw pointers, sizes and strides, so that one build serves every PyTorch.
// Arguments have been checked by lapcore.ops. The GIL is released while a kernel runs.
#include "bindings/bindings.h"

#include "bindings/gaussian.h"
#include "bindings/likelihood.h"
#include "bindings/masked_conv.h"
#include "bindings/parzen.h"
#include "bindings/pixelcnn_sampler.h"
#include "bindings/pyramid.h"
#include "bindings/random.h"
#include "bindings/vector_quantize.h"
#include "cpu/memory.h"
#if defined(LAPCORE_CUDA)
#include "cuda/bindings.h"
#endif

// Calls run beside each other with the GIL and without it. What they share guards itself: the choice of an instruction
// set is atomic, the memory of outputs that are gone has a lock, threads and jobs are made for several callers.
PYBIND11_MODULE(_C, m, pybind11::mod_gil_not_used()) {
    using namespace lapcore;
    namespace py = pybind11;
    using py::arg;
    m.doc() =
        "Kernels of lapcore over raw pointers: a tensor is (address, shape, strides in elements), outputs are "
        "contiguous.";
    m.def("isa", &isa, "The instruction set whose kernels are in use.");
    m.def("isas", &isas, "The instruction sets this CPU and build can use, best last.");
    m.def("use_isa", &use_isa, arg("name"),
          "Switches to the kernels of another instruction set, for tests and benchmarks.");
    py::class_<Block>(m, "Block", py::buffer_protocol(), "Memory for one large output, as a writable buffer of bytes.")
        .def(py::init<std::size_t>(), arg("bytes"))
        .def_buffer([](Block& block) {
            return py::buffer_info(static_cast<std::uint8_t*>(block.data()), std::ptrdiff_t(block.bytes()));
        });
    m.def("release_kept_blocks", &release_kept_blocks,
          "Gives the memory of outputs that are gone back to the system; how many bytes that were.");
    bindings::pyramid::bind(m);
    bindings::gaussian::bind(m);
    bindings::parzen::bind(m);
    bindings::likelihood::bind(m);
    bindings::masked_conv::bind(m);
    bindings::pixelcnn_sampler::bind(m);
    bindings::random::bind(m);
    bindings::vector_quantize::bind(m);
#if defined(LAPCORE_CUDA)
    cuda::bind(m);
    m.attr("has_cuda") = true;
#else
    m.attr("has_cuda") = false;
#endif
}
