"""Mixtures as structure: batches, every stride, threads and instruction sets do not change a bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.conftest import require_backend
from tests.layouts import LAYOUTS
from tests.ops.likelihood_checks import (
    Tensor,
    draw_image,
    draw_params,
    gradients,
    nll,
    sample,
)
from tests.tolerance import assert_same_bits

PROBE = ("discretized_logistic_mixture_nll", (1, 10, 1, 1))


@pytest.mark.heavy
def test_an_image_does_not_depend_on_the_batch(backend: str, device: str) -> None:
    if backend == "reference":
        pytest.skip("torch's own exp and log round by the place in memory")
    shape = (3, 3, 3, 5, 7)
    params, x = draw_params(shape, 1, torch.float32).to(device), draw_image(shape, dtype=torch.float32).to(device)
    seeds = torch.tensor([5, -1, 2**60], device=device)
    grad = torch.ones(3, device=device)
    value, (d_params, d_x), drawn = nll(params, x), gradients(params, x, grad), sample(params, seeds, snap=False)
    for i in range(3):
        one = slice(i, i + 1)
        assert_same_bits(nll(params[one], x[one]), value[one])
        alone = gradients(params[one], x[one], grad[one])
        assert_same_bits(alone[0], d_params[one])
        assert_same_bits(alone[1], d_x[one])
        assert_same_bits(sample(params[one], seeds[one], snap=False), drawn[one])


@pytest.mark.heavy
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(backend: str, device: str, layout: Callable[[Tensor], Tensor]) -> None:
    """Strided inputs and incoming gradients give the bits of contiguous ones."""
    shape = (2, 2, 3, 2, 5)
    params = layout(draw_params(shape, 1, torch.float32).to(device))
    x = layout(draw_image(shape, dtype=torch.float32).to(device))
    grad = torch.ones(1, device=device).expand(2)
    plain = params.contiguous(), x.contiguous()
    assert_same_bits(nll(params, x), nll(*plain))
    for a, b in zip(gradients(params, x, grad), gradients(*plain, grad.contiguous()), strict=True):
        assert_same_bits(a, b)
    seeds = torch.tensor([3, 4, 5, 6], device=device)[::2]
    assert_same_bits(sample(params, seeds), sample(plain[0], seeds.contiguous()))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_matter(threads: int) -> None:
    require_backend("cpu", PROBE[0], torch.zeros(PROBE[1]))
    shape = (3, 4, 3, 17, 33)
    params, x = draw_params(shape, 1, torch.float32), draw_image(shape, dtype=torch.float32)

    def everything() -> list[Tensor]:
        return [nll(params, x), *gradients(params, x, torch.ones(3)), sample(params, 7)]

    before, want = torch.get_num_threads(), everything()
    torch.set_num_threads(threads)
    try:
        for a, b in zip(everything(), want, strict=True):
            assert_same_bits(a, b)
    finally:
        torch.set_num_threads(before)


def test_every_instruction_set_gives_the_same_bits() -> None:
    require_backend("cpu", PROBE[0], torch.zeros(PROBE[1]))
    from lapcore import _C

    shape = (2, 3, 3, 5, 27)
    params, x = draw_params(shape, 1, torch.float32), draw_image(shape, dtype=torch.float32)
    best, results = _C.isa(), []
    try:
        for isa in _C.isas():
            _C.use_isa(isa)
            results.append([nll(params, x), *gradients(params, x, torch.ones(2)), sample(params, 7, snap=False)])
    finally:
        _C.use_isa(best)
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert_same_bits(a, b)
