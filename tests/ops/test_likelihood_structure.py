"""Mixtures as structure: batches and strides do not change a bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

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
