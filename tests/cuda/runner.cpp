// Runs the cases of one file and writes what they produced to another. A case is a row of int64s,
//   function, count of numbers, the numbers, count of tensors
// and the tensors: ndim (-1 for none), shape, strides, whether it is an output, bytes, and their memory. Each lies in a
// block of exactly that size, so that a sanitizer sees an access beside it. The memory of the outputs is written.
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <memory>
#include <vector>

#include "cuda/activations.h"
#include "cuda/gaussian.h"
#include "cuda/laplacian_loss.h"
#include "cuda/likelihood.h"
#include "cuda/masked_conv.h"
#include "cuda/parzen.h"
#include "cuda/pixelcnn_sampler.h"
#include "cuda/pyramid.h"
#include "cuda/pyramid_level.h"
#include "cuda/pyramids.h"
#include "cuda/random.h"
#include "cuda/vector_quantize.h"

namespace {

using namespace lapcore;

std::vector<std::int64_t> numbers(std::istream& in, std::size_t count) {
    std::vector<std::int64_t> values(count);
    in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof values[0]));
    return values;
}

struct Tensor {
    std::unique_ptr<char[]> memory;
    std::int64_t bytes = 0;
    bool output = false;
    View view;
    const View* given() const { return memory ? &view : nullptr; }
};

Tensor read_tensor(std::istream& in) {
    Tensor tensor;
    const std::int64_t ndim = numbers(in, 1)[0];
    if (ndim < 0) return tensor;
    tensor.view.shape = numbers(in, ndim);
    tensor.view.strides = numbers(in, ndim);
    tensor.output = numbers(in, 1)[0] != 0;
    tensor.bytes = numbers(in, 1)[0];
    tensor.memory.reset(new char[tensor.bytes]);
    tensor.view.data = tensor.memory.get();
    in.read(tensor.memory.get(), tensor.bytes);
    return tensor;
}

struct Case {
    std::vector<std::int64_t> n;
    std::vector<Tensor> tensors;

    cuda::PyramidCall call() const {
        return {static_cast<DType>(n[0]), static_cast<Border>(n[1]), reinterpret_cast<void*>(n[2])};
    }
    const View& operator[](std::size_t i) const { return tensors[i].view; }
};

// numbers: dtype border stream op alpha; tensors: src, base, dst
void apply(const Case& c) {
    cuda::pyramid_apply(c.call(), static_cast<Op>(c.n[3]), c[0], c.tensors[1].given(), static_cast<double>(c.n[4]),
                        c[2]);
}

// numbers: dtype border stream alpha; tensors: src, base, dst, and index and weight of rows and columns
void apply_table(const Case& c) {
    const auto table = [&](std::size_t i) {
        return TapTable{static_cast<const std::int64_t*>(c[i].data), c[i + 1].data, c[i].shape[0]};
    };
    cuda::pyramid_apply_table(c.call(), table(3), table(5), c[0], c.tensors[1].given(), static_cast<double>(c.n[3]),
                              c[2]);
}

// As apply.
void stream(const Case& c) {
    if (!cuda::stream_operator(c.call(), static_cast<Op>(c.n[3]), c[0], c.tensors[1].given(),
                               static_cast<double>(c.n[4]), c[2])) {
        throw std::runtime_error("not taken");
    }
}

// numbers: dtype border stream; tensors: fine, low, band
void level(const Case& c) { cuda::laplacian_level(c.call(), c[0], c[1], c[2]); }

// numbers: dtype border stream; tensors: grad, below, work, total
void level_adjoint(const Case& c) { cuda::laplacian_level_adjoint(c.call(), c[0], c[1], c[2], c[3]); }

// numbers: dtype border stream levels; tensors: the image, levels of a pyramid, and those to work in.
template <class Run>
void pyramid(const Case& c, std::size_t count, const Run& run) {
    cuda::Views levels, work;
    for (std::size_t i = 1; i < c.tensors.size(); ++i) (i <= count ? levels : work).push_back(c[i]);
    const cuda::PyramidCall call = c.call();
    run(call, c[0], levels, work);
}

void laplacian_pyramid(const Case& c) { pyramid(c, c.n[3] + 1, cuda::laplacian_pyramid); }

void collapse(const Case& c) {
    pyramid(c, c.n[3] + 1,
            [](auto& call, auto& image, auto& levels, auto& work) { cuda::collapse(call, levels, image, work); });
}

void laplacian_pyramid_adjoint(const Case& c) {
    pyramid(c, c.n[3] + 1, [](auto& call, auto& image, auto& grads, auto& work) {
        cuda::laplacian_pyramid_adjoint(call, grads, image, work);
    });
}

void gaussian_pyramid(const Case& c) {
    pyramid(c, c.n[3], [](auto& call, auto& x, auto& levels, auto&) { cuda::gaussian_pyramid(call, x, levels); });
}

void collapse_adjoint(const Case& c) {
    pyramid(c, c.n[3], [](auto& call, auto& grad, auto& levels, auto&) { cuda::collapse_adjoint(call, grad, levels); });
}

// Images of float32 that the loss works with, in blocks of exactly their size.
class Workspace {
public:
    // Of the leading dimensions of `like`.
    View image(const View& like, std::int64_t height, std::int64_t width, int fill) {
        View view = like;
        view.shape[view.shape.size() - 2] = height;
        view.shape[view.shape.size() - 1] = width;
        std::int64_t count = 1;
        for (std::size_t d = view.shape.size(); d-- > 0; count *= view.shape[d]) view.strides[d] = count;
        view.data = memory(count * static_cast<std::int64_t>(sizeof(float)), fill);
        return view;
    }
    void* memory(std::int64_t bytes, int fill) {
        blocks_.emplace_back(new char[bytes]);
        std::memset(blocks_.back().get(), fill, bytes);
        return blocks_.back().get();
    }

private:
    std::vector<std::unique_ptr<char[]>> blocks_;
};

View cropped(View view, std::int64_t height, std::int64_t width) {
    view.shape[view.shape.size() - 2] = height;
    view.shape[view.shape.size() - 1] = width;
    return view;
}

// numbers: dtype border stream terms with_grad, then height and width of each level and of the residual;
// tensors: input, target, coefficients, loss, the gradient, and masks of each level or none
void laplacian_loss(const Case& c) {
    const int terms = static_cast<int>(c.n[3]), levels = static_cast<int>(c.n.size() - 7) / 2;
    const auto height = [&](int l) { return c.n[5 + 2 * l]; };
    const auto width = [&](int l) { return c.n[6 + 2 * l]; };
    Workspace work;
    cuda::LossImages images{};
    images.input = cropped(c[0], height(0), width(0));
    images.target = cropped(c[1], height(0), width(0));
    for (std::size_t i = 5; i < c.tensors.size(); ++i) images.masks.push_back(c[i]);
    if (c.n[4]) images.totals.push_back(cropped(c[4], height(0), width(0)));
    for (int l = 0; l < levels; ++l) {
        const std::int64_t h = (height(l) + 1) / 2, w = (width(l) + 1) / 2;
        images.lows.push_back(work.image(images.input, h, w, 0xff));
        images.fine.push_back(cropped(images.lows[l], height(l + 1), width(l + 1)));
        if (!c.n[4]) continue;
        images.signs.push_back(work.image(images.input, height(l), width(l), 0xff));
        images.below.push_back(work.image(images.input, h, w, 0));
        images.totals.push_back(cropped(images.below[l], height(l + 1), width(l + 1)));
    }
    const std::int64_t parts = cuda::loss_parts(images.input, images.fine, terms);
    const cuda::LossSums sums{static_cast<const float*>(c[2].data), static_cast<double*>(work.memory(8 * parts, 0xff)),
                              static_cast<float*>(c[3].data), c[3].shape[0], terms};
    cuda::laplacian_loss(c.call(), images, sums);
}

// numbers: dtype stream; tensors: z, codebook, quantized, indices
void vector_quantize(const Case& c) {
    const auto dtype = static_cast<DType>(c.n[0]);
    Workspace work;
    void* const memory = work.memory(cuda::vector_quantize_work(dtype, c[0].shape[0], c[1].shape[0]), 0xff);
    cuda::vector_quantize(dtype, reinterpret_cast<void*>(c.n[1]), c[0], c[1], c[2],
                          static_cast<std::int64_t*>(c[3].data), memory);
}

// numbers: dtype stream; tensors: x, samples, sigmas in float64, log-likelihoods
void parzen_log_likelihood(const Case& c) {
    const auto dtype = static_cast<DType>(c.n[0]);
    const auto* const sigma = static_cast<const double*>(c[2].data);
    const std::vector<double> sigmas(sigma, sigma + c[2].shape[0]);
    Workspace work;
    void* const memory = work.memory(cuda::parzen_work(dtype, c[0].shape[0], c[1].shape[0], c[2].shape[0]), 0xff);
    cuda::parzen_log_likelihood(dtype, reinterpret_cast<void*>(c.n[1]), c[0], c[1], sigmas, c[3].data, memory);
}

// The seeds of tensor i: of the rows, or of all of them.
Seeds seeds_of(const View& seeds, std::int64_t per_row, std::int64_t stream) {
    const std::int64_t stride = seeds.strides.empty() ? 0 : seeds.strides[0];
    return {static_cast<const std::int64_t*>(seeds.data), stride, per_row != 0, std::uint64_t(stream)};
}

// numbers: distribution dtype stream per_row stream_of_noise; tensors: seeds, the rows drawn
void random(const Case& c) {
    cuda::random_draw(static_cast<Distribution>(c.n[0]), static_cast<DType>(c.n[1]), reinterpret_cast<void*>(c.n[2]),
                      seeds_of(c[0], c.n[3], c.n[4]), c[1].shape[0], c[1].shape[1], c[1].data);
}

cuda::MixtureCall mixture_call(const Case& c) {
    return {static_cast<DType>(c.n[0]), static_cast<int>(c.n[2]), c.n[3] != 0, reinterpret_cast<void*>(c.n[1])};
}

// numbers: dtype stream channels official; tensors: params, x, nll
void mixture_nll(const Case& c) {
    Workspace work;
    const std::int64_t parts = c[0].shape[0] * cuda::mixture_parts(c[0].shape[2]);
    cuda::mixture_nll(mixture_call(c), c[0], c[1], static_cast<double*>(work.memory(8 * parts, 0xff)), c[2].data);
}

// numbers: as mixture_nll; tensors: grad, params, x, their gradients, that of x or none
void mixture_nll_backward(const Case& c) {
    const View* const d_x = c.tensors[4].given();
    cuda::mixture_nll_backward(mixture_call(c), c[0].data, c[1], c[2], c[3].data, d_x ? d_x->data : nullptr);
}

// numbers: dtype stream channels snap per_row stream_of_noise; tensors: params, seeds, the draws
void mixture_sample(const Case& c) {
    cuda::mixture_sample(mixture_call(c), c[0], seeds_of(c[1], c.n[4], c.n[5]), c.n[3] != 0, c[2].data);
}

Rows rows_of(const Tensor& tensor) { return tensor.given() ? Rows{tensor.view.data, tensor.view.strides[0]} : Rows{}; }

// Those of tensors i .. i + 3: mean, logvar and the prior's, each of which may not be there.
Moments moments_of(const Case& c, std::size_t i) {
    return {rows_of(c.tensors[i]), rows_of(c.tensors[i + 1]), rows_of(c.tensors[i + 2]), rows_of(c.tensors[i + 3])};
}

// numbers: dtype stream per_row stream_of_noise; rows and their length are those of tensor i
cuda::GaussianCall gaussian_call(const Case& c, std::size_t i) {
    return {static_cast<DType>(c.n[0]), reinterpret_cast<void*>(c.n[1]), c[i].shape[0], c[i].shape[1]};
}

double* parts_of(const cuda::GaussianCall& call, Workspace& work) {
    return static_cast<double*>(work.memory(8 * cuda::gaussian_parts(call.rows, call.length), 0xff));
}

// tensors: the moments, seeds, and z and kl, or one of them
void gaussian_forward(const Case& c) {
    Workspace work;
    const cuda::GaussianCall call = gaussian_call(c, 1);
    cuda::gaussian_forward(call, moments_of(c, 0), seeds_of(c[4], c.n[2], c.n[3]), c[5].data, c[6].data,
                           parts_of(call, work));
}

// tensors: the gradients at z and kl, or at one of them, the moments, seeds, and the moments' gradients
void gaussian_backward(const Case& c) {
    cuda::gaussian_backward(gaussian_call(c, 3), rows_of(c.tensors[0]), c[1].data, moments_of(c, 2),
                            seeds_of(c[6], c.n[2], c.n[3]), moments_of(c, 7));
}

// tensors: x, mean, logvar, nll
void gaussian_nll(const Case& c) {
    Workspace work;
    const cuda::GaussianCall call = gaussian_call(c, 0);
    cuda::gaussian_nll(call, rows_of(c.tensors[0]), rows_of(c.tensors[1]), rows_of(c.tensors[2]), c[3].data,
                       parts_of(call, work));
}

// tensors: grad, x, mean, logvar and their gradients
void gaussian_nll_backward(const Case& c) {
    cuda::gaussian_nll_backward(gaussian_call(c, 1), c[0].data, rows_of(c.tensors[1]), rows_of(c.tensors[2]),
                                rows_of(c.tensors[3]), c[4].data, c[5].data, c[6].data);
}

// numbers: dtype stream whole groups own halves stride
cuda::MaskedConvCall masked_call(const Case& c) {
    return {
        static_cast<DType>(c.n[0]), static_cast<int>(c.n[2]),       static_cast<int>(c.n[3]), c.n[4] != 0, c.n[5] != 0,
        static_cast<int>(c.n[6]),   reinterpret_cast<void*>(c.n[1])};
}

// numbers: and activation; tensors: x, weight, bias or none, condition or none, the result
void masked_conv(const Case& c) {
    Workspace work;
    const cuda::MaskedConvCall call = masked_call(c);
    void* const memory = work.memory(cuda::masked_conv_work(call, c[1]), 0xff);
    cuda::masked_conv(call, c[0], c[1], c[2].data, c.tensors[3].given(), static_cast<Activation>(c.n[7]), c[4], memory);
}

// tensors: grad, weight, dx
void masked_conv_input(const Case& c) {
    Workspace work;
    const cuda::MaskedConvCall call = masked_call(c);
    cuda::masked_conv_input(call, c[0], c[1], c[2], work.memory(cuda::masked_conv_work(call, c[1]), 0xff));
}

// tensors: grad, x, dw
void masked_conv_weight(const Case& c) {
    Workspace work;
    const cuda::MaskedConvCall call = masked_call(c);
    const std::int64_t pixels = c[0].shape[0] * c[0].height() * c[0].width();
    void* const memory = work.memory(cuda::masked_conv_weight_work(call, c[2], pixels), 0xff);
    cuda::masked_conv_weight(call, c[0], c[1], c[2], memory);
}

// numbers: dtype stream first; rows and their length are those of tensor i, which has one half
cuda::ActivationCall activation_call(const Case& c, std::size_t i) {
    return {static_cast<DType>(c.n[0]), reinterpret_cast<void*>(c.n[1]), c[i].shape[0], c[i].shape[1]};
}

// tensors: x, y
void gated_activation(const Case& c) {
    cuda::gated_activation(activation_call(c, 1), static_cast<First>(c.n[2]), rows_of(c.tensors[0]), c[1].data);
}

// tensors: grad, x, dx
void gated_activation_backward(const Case& c) {
    cuda::gated_activation_backward(activation_call(c, 0), static_cast<First>(c.n[2]), rows_of(c.tensors[0]),
                                    rows_of(c.tensors[1]), c[2].data);
}

// tensors: x, y
void concat_elu(const Case& c) { cuda::concat_elu(activation_call(c, 0), rows_of(c.tensors[0]), c[1].data); }

// tensors: grad, x, dx
void concat_elu_backward(const Case& c) {
    cuda::concat_elu_backward(activation_call(c, 1), rows_of(c.tensors[0]), rows_of(c.tensors[1]), c[2].data);
}

template <class T>
T* data_of(const Case& c, std::size_t i) {
    return static_cast<T*>(c[i].data);
}

// numbers: stream height width channels groups mixture head levels floats, then where storages of one place begin;
// tensors: maps, steps, bounds, their conditions or none, weights, seeds, conditions, given and known or none, the
// images
void sample_program(const Case& c) {
    cuda::PixelProgram program{};
    program.height = c.n[1];
    program.width = c.n[2];
    program.channels = c.n[3];
    program.groups = c.n[4];
    program.maps = data_of<PixelMap>(c, 0);
    program.steps = data_of<PixelStep>(c, 1);
    program.bounds = data_of<std::int64_t>(c, 2);
    program.conditions = data_of<cuda::PixelConditionOf>(c, 3);
    program.weights = data_of<float>(c, 4);
    program.mixture = c.n[5] != 0;
    program.head = c.n[6];
    program.levels = c.n[7];
    program.floats = c.n[8];
    program.one_place.assign(c.n.begin() + 9, c.n.end());
    const cuda::PixelSamplerCall call{reinterpret_cast<void*>(c.n[0]),
                                      c[9].shape[0],
                                      seeds_of(c[5], 1, 0),
                                      data_of<float>(c, 6),
                                      data_of<float>(c, 7),
                                      data_of<bool>(c, 8),
                                      data_of<float>(c, 9)};
    Workspace work;
    cuda::sample_program(program, call, work.memory(cuda::sample_program_work(program, call.images), 0xff));
}

// numbers: dtype stream; tensors: logits, u, indices
void categorical(const Case& c) {
    cuda::categorical(static_cast<DType>(c.n[0]), reinterpret_cast<void*>(c.n[1]), c[0].shape[0], c[0].shape[1],
                      c[0].data, c[1].data, static_cast<std::int64_t*>(c[2].data));
}

const std::function<void(const Case&)> kFunctions[] = {apply,
                                                       apply_table,
                                                       stream,
                                                       level,
                                                       level_adjoint,
                                                       laplacian_pyramid,
                                                       collapse,
                                                       laplacian_pyramid_adjoint,
                                                       gaussian_pyramid,
                                                       collapse_adjoint,
                                                       laplacian_loss,
                                                       vector_quantize,
                                                       parzen_log_likelihood,
                                                       random,
                                                       mixture_nll,
                                                       mixture_nll_backward,
                                                       mixture_sample,
                                                       gaussian_forward,
                                                       gaussian_backward,
                                                       gaussian_nll,
                                                       gaussian_nll_backward,
                                                       masked_conv,
                                                       masked_conv_input,
                                                       masked_conv_weight,
                                                       gated_activation,
                                                       gated_activation_backward,
                                                       concat_elu,
                                                       concat_elu_backward,
                                                       sample_program,
                                                       categorical};

void run_case(std::istream& in, std::ostream& out) {
    const std::int64_t function = numbers(in, 1)[0];
    Case c;
    c.n = numbers(in, numbers(in, 1)[0]);
    c.tensors.resize(numbers(in, 1)[0]);
    for (Tensor& tensor : c.tensors) tensor = read_tensor(in);
    kFunctions[function](c);
    for (const Tensor& tensor : c.tensors)
        if (tensor.output) out.write(tensor.memory.get(), tensor.bytes);
}

}  // namespace

int main(int, char** argv) try {
    std::ifstream in(argv[1], std::ios::binary);
    std::ofstream out(argv[2], std::ios::binary);
    while (in.peek() != EOF) run_case(in, out);
    return out.flush() ? 0 : 1;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
}
