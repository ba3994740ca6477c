#include "cuda/pyramids.h"

#include "cuda/pyramid_level.h"
#include "cuda/pyramid_plane.h"

namespace lapcore::cuda {
namespace {

// The levels of a chain of single operators, each made of the one before.
void decimate_all(const PyramidCall& call, Chain chain, Op op, const View& image, const Views& levels) {
    Views all{image};
    all.insert(all.end(), levels.begin(), levels.end());
    if (plane_chain(call, chain, image, all)) return;
    for (std::size_t l = 0; l < levels.size(); ++l) pyramid_operator(call, op, all[l], nullptr, 1, all[l + 1]);
}

}  // namespace

void pyramid_operator(const PyramidCall& call, Op op, const View& src, const View* base, double alpha,
                      const View& dst) {
    if (!stream_operator(call, op, src, base, alpha, dst)) pyramid_apply(call, op, src, base, alpha, dst);
}

void laplacian_pyramid(const PyramidCall& call, const View& x, const Views& levels, const Views& work) {
    if (plane_chain(call, Chain::laplacian, x, levels)) return;
    const std::size_t last = levels.size() - 1;
    for (std::size_t l = 0; l < last; ++l) {
        laplacian_level(call, l == 0 ? x : work[l - 1], l + 1 < last ? work[l] : levels[last], levels[l]);
    }
}

void collapse(const PyramidCall& call, const Views& levels, const View& image, const Views& work) {
    if (plane_chain(call, Chain::collapse, image, levels)) return;
    const std::size_t last = levels.size() - 1;
    for (std::size_t l = last; l-- > 0;) {
        pyramid_operator(call, Op::up, l + 1 < last ? work[l] : levels[last], &levels[l], 1,
                         l > 0 ? work[l - 1] : image);
    }
}

void laplacian_pyramid_adjoint(const PyramidCall& call, const Views& grads, const View& image, const Views& work) {
    if (plane_chain(call, Chain::laplacian_adjoint, image, grads)) return;
    const std::size_t last = grads.size() - 1;
    for (std::size_t l = last; l-- > 0;) {
        // Where a level takes two launches, what it makes in between may take the place of what it reads.
        const View& below = l + 1 < last ? work[l] : grads[last];
        laplacian_level_adjoint(call, grads[l], below, work[l], l > 0 ? work[l - 1] : image);
    }
}

void gaussian_pyramid(const PyramidCall& call, const View& x, const Views& levels) {
    decimate_all(call, Chain::gaussian, Op::down, x, levels);
}

void collapse_adjoint(const PyramidCall& call, const View& grad, const Views& levels) {
    decimate_all(call, Chain::collapse_adjoint, Op::up_adjoint, grad, levels);
}

}  // namespace lapcore::cuda
