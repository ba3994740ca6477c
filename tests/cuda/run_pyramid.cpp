// Runs pyramid_apply on the cases of one file and writes the outputs to another. A case is a row of int64s,
//   op dtype border stream height width alpha images ndim
// then one or two images, src and base: shape[ndim], strides[ndim], bytes, and their memory. Each lies in a block of
// exactly that size, so that a sanitizer sees an access beside it.
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <memory>
#include <vector>

#include "cuda/pyramid.h"

namespace {

using namespace lapcore;

std::vector<std::int64_t> numbers(std::istream& in, std::size_t count) {
    std::vector<std::int64_t> values(count);
    in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof values[0]));
    return values;
}

struct Image {
    std::unique_ptr<char[]> memory;
    View view;
};

Image read_image(std::istream& in, std::size_t ndim) {
    Image image;
    image.view.shape = numbers(in, ndim);
    image.view.strides = numbers(in, ndim);
    const std::int64_t bytes = numbers(in, 1)[0];
    image.memory.reset(new char[bytes]);
    image.view.data = image.memory.get();
    in.read(image.memory.get(), bytes);
    return image;
}

void run_case(std::istream& in, std::ostream& out, const std::vector<std::int64_t>& head) {
    constexpr std::int64_t item_size[] = {2, 2, 4, 8};
    const std::int64_t height = head[4], width = head[5];
    const Image src = read_image(in, head[8]);
    const Image base = head[7] == 2 ? read_image(in, head[8]) : Image{};
    const std::int64_t bytes = src.view.planes() * height * width * item_size[head[1]];
    const std::unique_ptr<char[]> dst(new char[bytes]);
    std::memset(dst.get(), 0xff, bytes);  // NaN in every dtype
    const cuda::PyramidCall call{static_cast<DType>(head[1]), static_cast<Border>(head[2]),
                                 reinterpret_cast<void*>(head[3])};
    cuda::pyramid_apply(call, static_cast<Op>(head[0]), src.view, base.memory ? &base.view : nullptr,
                        static_cast<double>(head[6]), dst.get(), height, width);
    out.write(dst.get(), bytes);
}

}  // namespace

int main(int, char** argv) try {
    std::ifstream in(argv[1], std::ios::binary);
    std::ofstream out(argv[2], std::ios::binary);
    while (in.peek() != EOF) run_case(in, out, numbers(in, 9));
    return out.flush() ? 0 : 1;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
}
