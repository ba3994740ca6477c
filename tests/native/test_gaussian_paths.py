"""The C++ noise and Gaussians: the same bits for every instruction set, thread count, batch split and layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import lapcore
from lapcore import native
from tests.tolerance import assert_same_bits

if reason := native.missing():
    pytest.skip(reason, allow_module_level=True)

from lapcore import _C

THREADS = (1, 2, 7)
ISAS = _C.isas()
# Rows shorter than a block of noise, of a few blocks, longer than a tile, a chunk, and what one thread takes.
SHAPES = [(5, 1), (7, 3), (3, 1155), (2, 18_432), (2, 40_001), (300, 130)]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@contextmanager
def running(isa: str, threads: int) -> Iterator[None]:
    before, threads_before = _C.isa(), torch.get_num_threads()
    try:
        _C.use_isa(isa)
        torch.set_num_threads(threads)
        yield
    finally:
        _C.use_isa(before)
        torch.set_num_threads(threads_before)


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def seeds_of(rows: int) -> Tensor:
    return torch.arange(rows) * (2**33 + 7) - 5


def all_ways(function: Callable[[], list[Tensor]], want: list[Tensor]) -> None:
    for isa in ISAS:
        for threads in THREADS:
            with running(isa, threads):
                for a, b in zip(function(), want, strict=True):
                    assert_same_bits(a, b, f"{isa}, {threads} threads")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("per_row", [False, True], ids=["one seed", "seed per row"])
def test_noise_is_the_references(shape: tuple[int, int], per_row: bool) -> None:
    seeds = seeds_of(shape[0]) if per_row else 2**50 + 3

    def function() -> list[Tensor]:
        words = lapcore.random.bits(shape, seeds, stream=2**40 + 1)
        floats = [
            distribution(shape, seeds, stream=-2, dtype=dtype)
            for distribution in (lapcore.random.uniform, lapcore.random.normal)
            for dtype in FLOATS
        ]
        return [words, *floats]

    with lapcore.backend("reference"):
        want = function()
    all_ways(function, want)


def gaussians(mean: Tensor, logvar: Tensor, prior: list[Tensor], seeds: Tensor | int) -> list[Tensor]:
    """Every function, and every gradient, on these rows."""
    tensors = [x.detach().requires_grad_() for x in (mean, logvar, *prior)]
    grads = torch.linspace(-1, 2, len(mean), dtype=torch.promote_types(mean.dtype, torch.float32))
    z, kl = lapcore.reparameterize_kl(*tensors[:2], seeds=seeds)
    with_prior = lapcore.reparameterize_kl(*tensors, seeds=seeds)
    only_kl = lapcore.gaussian_kl(*tensors)
    only_z = lapcore.reparameterize(*tensors[:2], seeds)
    nll = lapcore.gaussian_nll(tensors[2], *tensors[:2])
    assert_same_bits(only_z, z)
    assert_same_bits(only_kl, with_prior[1])
    found = [z, kl, only_kl, nll]
    for outputs, given in ((z, kl), 2), (with_prior, 4), ((only_kl,), 4), ((only_z,), 2), ((nll,), 3):
        incoming = [grads if y.dim() == 1 else (y.detach() * 0.5) for y in outputs]
        found += torch.autograd.grad(outputs, tensors[:given], incoming)
    return [x.detach() for x in found]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_instruction_sets_and_threads_agree(shape: tuple[int, int], dtype: torch.dtype) -> None:
    mean, logvar, *prior = (draw(*shape, seed=k, dtype=dtype) for k in range(4))
    seeds = seeds_of(shape[0])
    with running(ISAS[0], 1):
        want = gaussians(mean, logvar, prior, seeds)
    all_ways(lambda: gaussians(mean, logvar, prior, seeds), want)


@pytest.mark.parametrize("shape", SHAPES[:5], ids=str)
def test_rows_do_not_depend_on_their_batch(shape: tuple[int, int]) -> None:
    mean, logvar, *prior = (draw(*shape, seed=k) for k in range(4))
    seeds = seeds_of(shape[0])

    def rows(i: int, count: int) -> list[Tensor]:
        part = slice(i, i + count)
        z, kl = lapcore.reparameterize_kl(mean[part], logvar[part], *(x[part] for x in prior), seeds=seeds[part])
        return [z, kl, lapcore.gaussian_nll(prior[0][part], mean[part], logvar[part])]

    whole = rows(0, shape[0])
    for i in range(shape[0]):
        for a, b in zip(rows(i, 1), whole, strict=True):
            assert_same_bits(a, b[i : i + 1])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_layouts(dtype: torch.dtype) -> None:
    """Halves of one tensor, rows of one expanded, transposed memory: what contiguous copies give."""
    moments, plane = draw(3, 8, 5, 7, seed=1, dtype=dtype), draw(1, 4, 5, 7, seed=2, dtype=dtype)
    mean, logvar = moments.chunk(2, dim=1)
    prior = [plane.expand(3, -1, -1, -1), draw(3, 7, 5, 4, seed=3, dtype=dtype).transpose(1, 3)]
    want = gaussians(mean.contiguous(), logvar.contiguous(), [x.contiguous() for x in prior], 9)
    for a, b in zip(gaussians(mean, logvar, prior, 9), want, strict=True):
        assert_same_bits(a, b)


def test_large_results_are_written_past_the_caches_alike() -> None:
    """3 x 2^20 elements, whose outputs are streamed, against the same rows one by one."""
    shape = (3, 1 << 20)
    mean, logvar, z_grad = (draw(*shape, seed=k) for k in range(3))
    seeds, kl_grad = seeds_of(3), torch.tensor([1.0, 0.0, -2.0])

    def run(part: slice) -> list[Tensor]:
        tensors = [x[part].detach().requires_grad_() for x in (mean, logvar)]
        z, kl = lapcore.reparameterize_kl(*tensors, seeds=seeds[part])
        return [z, kl, *torch.autograd.grad((z, kl), tensors, (z_grad[part], kl_grad[part]))]

    for i in range(3):
        for a, b in zip(run(slice(i, i + 1)), run(slice(0, 3)), strict=True):
            assert_same_bits(a, b[i : i + 1])


@pytest.mark.parametrize(
    ("logvar", "expected"),
    [
        ([0.0, -torch.inf, 300.0], -torch.inf),
        ([-torch.inf, torch.inf, 0.0], torch.inf),
        ([torch.nan, -torch.inf, torch.inf], None),
    ],
)
def test_infinities_meet_in_a_likelihood(logvar: list[float], expected: float | None) -> None:
    """A point mass that is hit beside one that is not: inf - inf has no place in a sum."""
    lv = torch.tensor([logvar]).repeat(1, 1000)
    got = lapcore.gaussian_nll(torch.zeros_like(lv), torch.zeros_like(lv), lv)
    assert got.isnan().all() if expected is None else got.item() == expected
