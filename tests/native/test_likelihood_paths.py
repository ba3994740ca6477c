"""Mixtures on csrc/cpu: threads and instruction sets do not change a bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import lapcore
from lapcore import native
from tests.ops.likelihood_checks import Tensor, draw_image, draw_params, gradients, nll, sample
from tests.tolerance import assert_same_bits

if (reason := native.missing()) is not None:
    pytest.skip(reason, allow_module_level=True)

from lapcore import _C


@pytest.fixture(autouse=True)
def on_the_cpu_backend() -> Iterator[None]:
    with lapcore.backend("cpu"):
        yield


def everything(*shape: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    params, x = draw_params(shape, 1, dtype), draw_image(shape, dtype=torch.promote_types(dtype, torch.float32))
    return [
        nll(params, x),
        *gradients(params, x, torch.ones(shape[0])),
        sample(params, 7, snap=False),
        sample(params, 7),
    ]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_matter(threads: int) -> None:
    want = everything(3, 4, 3, 17, 33)
    torch.set_num_threads(threads)
    for a, b in zip(everything(3, 4, 3, 17, 33), want, strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_instruction_set_gives_the_same_bits(dtype: torch.dtype) -> None:
    results = []
    for isa in _C.isas():
        _C.use_isa(isa)
        results.append(everything(2, 3, 3, 5, 27, dtype=dtype))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert_same_bits(a, b)
