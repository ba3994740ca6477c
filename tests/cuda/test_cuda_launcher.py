"""What Python hands to the CUDA functions of lapcore._C: the launchers of the cuda backend, with the reference behind them."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lapcore import native
from lapcore.reference import laplacian_loss as loss_reference
from lapcore.reference import pyramid as reference
from lapcore.reference.taps import tables
from tests.cuda.harness import BORDERS, DTYPES, OPS, blank, draw, level_sizes
from tests.tolerance import assert_same_bits

STREAM = 7
FILTERS = ("binomial", "half_pixel")
Described = tuple[int, tuple[int, ...], tuple[int, ...]]


class Kernels:
    """Stands for lapcore._C on CPU tensors: knows every tensor by its address, and does what its kernels do."""

    def __init__(self) -> None:
        self.lent: dict[int, torch.Tensor] = {}
        self.filter = "binomial"
        self.loss_images: dict[str, list[torch.Tensor]] = {}

    def describe(self, x: torch.Tensor) -> Described:
        self.lent.setdefault(x.data_ptr(), x)
        return x.data_ptr(), tuple(x.shape), tuple(x.stride())

    def at(self, described: Described) -> torch.Tensor:
        address, shape, strides = described
        return self.lent[address].as_strided(shape, strides)

    def all(self, described: list[Described]) -> list[torch.Tensor]:
        return [self.at(each) for each in described]

    def cuda_pyramid_apply(
        self, op: int, dtype: int, border: int, stream: int, src: Any, dst: Any, base: Any, alpha: int, taps: Any
    ) -> None:
        image, target = self.at(src), self.at(dst)
        assert stream == STREAM and image.dim() - 2 <= 6 and image.dtype == DTYPES[dtype]
        assert (taps is None) == (self.filter == "binomial")
        size = target.shape[-2], target.shape[-1]
        added = None if base is None else self.at(base)
        if taps is not None:
            source = image.shape[-2], image.shape[-1]
            expected = tables(OPS[op], source, size, self.filter, BORDERS[border], image.device, image.dtype)
            assert [depth for *_, depth in taps] == [len(index) for index in expected[::2]]
        reference.apply(OPS[op], image, size, self.filter, BORDERS[border], added, alpha, target)

    def cuda_pyramid(self, name: str, dtype: int, border: int, stream: int, image: Any, levels: Any, work: Any) -> None:
        whole, each, between = self.at(image), self.all(levels), self.all(work)
        assert stream == STREAM and whole.dtype == DTYPES[dtype]
        gathers = name in ("collapse", "laplacian_pyramid_adjoint")
        listed = [whole, *each] if name in ("gaussian_pyramid", "collapse_adjoint") else each
        sizes = [(x.shape[-2], x.shape[-1]) for x in listed]
        expected = {"laplacian_pyramid": sizes[1:-1], "collapse": sizes[1:-1], "laplacian_pyramid_adjoint": sizes[1:]}
        assert [(x.shape[-2], x.shape[-1]) for x in between] == expected.get(name, [])
        made = getattr(reference, name)(each if gathers else [whole], sizes, "binomial", BORDERS[border])
        outputs = [whole] if gathers else each
        for target, result in zip(outputs, made[-len(outputs) :], strict=True):
            target.copy_(result)

    def cuda_loss_parts(self, input: Any, fine: Any, terms: int) -> int:
        return 3

    def cuda_laplacian_loss(self, dtype: int, border: int, stream: int, input: Any, target: Any, *rest: Any) -> None:
        *lists, coefficients, parts, loss = rest
        masks, fine, lows, signs, totals, below = map(self.all, lists)
        weights, result = self.at(coefficients), self.at(loss).zero_()
        samples, terms = weights.shape
        assert stream == STREAM and weights.is_contiguous() and result.shape == (samples,)
        assert self.at(parts).shape == (3,) and self.at(parts).dtype == torch.float64
        apply = reference.apply
        image = self.at(input).float() - self.at(target).float()
        for level in range(terms):
            size = image.shape[-2], image.shape[-1]
            mask = masks[level] if masks else torch.ones(())
            if level < len(lows):
                low = lows[level]
                apply("down", image, (low.shape[-2], low.shape[-1]), "binomial", BORDERS[border], out=low)
                band = apply("up", low, size, "binomial", BORDERS[border], image, -1)
                image = fine[level]
            else:
                band = image
            c = loss_reference.per_sample(weights[:, level], band)
            result += (c * mask * band.abs()).flatten(1).sum(1)
            if totals:
                (signs[level] if level < len(signs) else totals[level]).copy_(band.sign() * mask * c)
        for level in reversed(range(len(signs))):
            sign, under = signs[level], below[level]
            pyramid_of = [sign, under], [(x.shape[-2], x.shape[-1]) for x in (sign, under)]
            totals[level].copy_(reference.laplacian_pyramid_adjoint(*pyramid_of, "binomial", BORDERS[border])[0])


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore.native.cuda import pyramid

    fake = Kernels()
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(pyramid, "_C", fake)
    monkeypatch.setattr(pyramid, "describe", fake.describe)
    monkeypatch.setattr(pyramid, "describe_all", lambda images: [fake.describe(x) for x in images])
    return fake


@pytest.mark.parametrize("leading", [(), (2, 3), (2, 1, 2, 1, 2, 1, 2)], ids=str)
@pytest.mark.parametrize("filter", FILTERS)
def test_single_operators(kernels: Kernels, leading: tuple[int, ...], filter: str) -> None:
    from lapcore.native.cuda import pyramid as cuda

    kernels.filter = filter
    x = draw(*leading, 5, 6, seed=5, dtype=torch.float32).mT
    taps = None if filter == "binomial" else tables("down", (6, 5), (3, 3), filter, "circular", x.device, x.dtype)
    for base in (None, draw(*leading, 5, 3, seed=6, dtype=torch.float32).mT.contiguous().mT[..., :3, :]):
        for out in (None, blank(*leading, 3, 3, dtype=x.dtype).mT):
            got = cuda.apply("down", x, (3, 3), filter, "circular", base, -1, out, taps)
            assert out is None or got is out
            assert_same_bits(got, reference.apply("down", x, (3, 3), filter, "circular", base, -1))


def test_the_band_of_an_integer_image_is_int16(kernels: Kernels) -> None:
    from lapcore.native.cuda import pyramid as cuda

    x, base = draw(3, 4, seed=0, dtype=torch.uint8), draw(6, 8, seed=1, dtype=torch.uint8)
    got = cuda.apply("up", x, (6, 8), "binomial", "reflect", base, -1)
    assert_same_bits(got, reference.apply("up", x, (6, 8), "binomial", "reflect", base, -1))


@pytest.mark.parametrize("given", [False, True], ids=["allocated", "given"])
@pytest.mark.parametrize(
    "name", ["gaussian_pyramid", "laplacian_pyramid", "collapse", "laplacian_pyramid_adjoint", "collapse_adjoint"]
)
def test_whole_pyramids(kernels: Kernels, name: str, given: bool) -> None:
    from lapcore.native.cuda import pyramid as cuda

    sizes = level_sizes((9, 6), 3)
    gathers = name in ("collapse", "laplacian_pyramid_adjoint")
    inputs = [draw(2, *size, seed=k, dtype=torch.float32) for k, size in enumerate(sizes if gathers else sizes[:1])]
    expected = getattr(reference, name)(inputs, sizes, "binomial", "replicate")
    adjoint = name.endswith("adjoint")
    out = [torch.empty_like(x) for x in expected] if given and not adjoint else None
    fine = sizes[1:-1] if name in ("laplacian_pyramid", "collapse") else []
    work = [torch.empty(2, *size) for size in fine] if out else None
    got = getattr(cuda, name)(inputs, sizes, "binomial", "replicate", out, work)
    assert out is None or all(a is b for a, b in zip(got, out, strict=True))
    for mine, want in zip(got, expected, strict=True):
        assert_same_bits(mine, want)


def test_what_is_left_to_single_operators(kernels: Kernels) -> None:
    from lapcore.native.cuda import pyramid as cuda

    sizes = level_sizes((4, 4), 1)
    for dtype, filter, dims in (
        (torch.int16, "binomial", 3),
        (torch.float32, "area", 3),
        (torch.float32, "binomial", 9),
    ):
        x = torch.zeros(*(1,) * (dims - 2), 4, 4, dtype=dtype)
        assert cuda.laplacian_pyramid([x], sizes, filter, "reflect") is None
        assert cuda.gaussian_pyramid([x], sizes, filter, "reflect") is None
    x, c = torch.zeros(1, 1, 4, 4), torch.ones(1, 1)
    assert cuda.laplacian_loss(x.double(), x.double(), None, c.double(), sizes, "reflect", True) is None
    assert cuda.laplacian_loss(x, x, None, c, sizes, "circular", True) is None
    assert cuda.laplacian_loss(x[:0], x[:0], None, c[:0], sizes, "reflect", True) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("sizes", [[(9, 7), (5, 4), (3, 2)], [(8, 6), (4, 2), (2, 1)]], ids=["exact", "crop"])
def test_the_loss(kernels: Kernels, sizes: list[tuple[int, int]], residual: bool, dtype: torch.dtype) -> None:
    from lapcore.native.cuda import pyramid as cuda

    input, target = (draw(2, 3, 9, 7, seed=k, dtype=dtype) for k in range(2))
    coefficients = draw(1, 2 + residual, seed=2, dtype=torch.float32).abs().expand(2, -1)
    masks = [draw(2, 3, *size, seed=3, dtype=dtype).abs() for size in sizes[: 2 + residual]] if residual else None
    loss, grad = cuda.laplacian_loss(input, target, masks, coefficients, sizes, "reflect", True)
    want, want_grad = loss_reference.laplacian_loss(input, target, masks, coefficients, sizes, "reflect", True)
    assert torch.allclose(loss, want, rtol=1e-6) and want_grad is not None
    assert_same_bits(grad, want_grad)
