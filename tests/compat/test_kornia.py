"""kornia's face: its sizes, numbers and errors, and its own tests' questions asked again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

import lapcore
from lapcore.compat import kornia as compat
from lapcore.errors import LapcoreError

kornia = pytest.importorskip("kornia", reason="kornia is not installed")

Function = Callable[..., Any]
theirs = kornia.geometry.transform
BORDERS = ("constant", "reflect", "replicate", "circular")
SIZES = [(4, 4), (5, 4), (3, 3), (7, 9), (6, 5), (16, 20), (33, 18), (3, 100)]
borders = pytest.mark.parametrize("border", BORDERS)
corners = pytest.mark.parametrize("align_corners", [False, True], ids=["half_pixel", "aligned"])
sizes = pytest.mark.parametrize("size", SIZES, ids=str)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def image(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def assert_same(got: Any, want: Any, tolerance: float | None = None) -> None:
    """Tensors, or lists of them: type, number, shapes, dtypes, values."""
    assert type(got) is type(want)
    if isinstance(want, list):
        assert len(got) == len(want)
        for mine, other in zip(got, want, strict=True):
            assert_same(mine, other, tolerance)
        return
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    tolerance = TOLERANCE[want.dtype] if tolerance is None else tolerance
    assert not want.numel() or (got.double() - want.double()).abs().max() <= tolerance


@pytest.mark.parametrize("name", ["pyrdown", "pyrup", "build_pyramid", "build_laplacian_pyramid", "PyrDown", "PyrUp"])
def test_signatures(name: str) -> None:
    mine, other = (inspect.signature(getattr(module, name)).parameters for module in (compat, theirs))
    assert [(p.name, p.kind, p.default) for p in mine.values()] == [(p.name, p.kind, p.default) for p in other.values()]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@corners
@borders
@sizes
def test_numbers(size: tuple[int, int], border: str, align_corners: bool, dtype: torch.dtype) -> None:
    x = image(2, 3, *size, dtype=dtype)
    assert_same(compat.pyrup(x, border, align_corners), theirs.pyrup(x, border, align_corners))
    assert_same(compat.pyrdown(x, border, align_corners), theirs.pyrdown(x, border, align_corners))
    for factor in (1.0, 1.5, 2.5, 3.0, 0.5):
        if min(size) >= factor:
            arguments = (x, border, align_corners, factor)
            assert_same(compat.pyrdown(*arguments), theirs.pyrdown(*arguments))


@corners
@borders
@pytest.mark.parametrize(
    ("size", "max_level"), [((16, 20), 3), ((33, 50), 4), ((12, 13), 2), ((48, 48), 4), ((5, 9), 1)], ids=str
)
def test_pyramids(size: tuple[int, int], max_level: int, border: str, align_corners: bool) -> None:
    """Even, odd and padded sizes."""
    x = image(1, 2, *size, dtype=torch.float64)
    for name in ("build_pyramid", "build_laplacian_pyramid"):
        arguments = (x, max_level, border, align_corners)
        assert_same(getattr(compat, name)(*arguments), getattr(theirs, name)(*arguments))


@pytest.mark.parametrize("size", [(8, 12), (12, 12), (9, 16), (40, 24), (8, 5), (17, 64)], ids=str)
@pytest.mark.parametrize("max_level", [1, 2, 3])
def test_padding(size: tuple[int, int], max_level: int) -> None:
    """kornia's rule, case by case: neither side a power of two, or a side that does not halve."""
    x = image(1, 1, *size)
    assert_same(compat.build_laplacian_pyramid(x, max_level), theirs.build_laplacian_pyramid(x, max_level))


@corners
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_16_bit_floats(dtype: torch.dtype, align_corners: bool) -> None:
    """kornia rounds once more than we do, after the first of its two steps, and may round its sum in between."""
    x = image(1, 2, 14, 17, dtype=dtype)
    for name in ("pyrdown", "pyrup"):
        mine, other = (getattr(module, name)(x, align_corners=align_corners) for module in (compat, theirs))
        assert_same(mine, other, 2 * torch.finfo(dtype).eps)


@corners
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool], ids=str)
def test_integers(dtype: torch.dtype, align_corners: bool) -> None:
    """Computed in float32, except that uint8 is resized in uint8."""
    x = image(2, 3, 16, 20).round() if dtype is torch.bool else image(2, 3, 16, 20) * 255
    x = x.to(dtype)
    assert_same(compat.pyrdown(x, align_corners=align_corners), theirs.pyrdown(x, align_corners=align_corners), 1e-4)
    for name in ("build_pyramid", "build_laplacian_pyramid"):
        if name == "build_pyramid" or dtype is not torch.bool:  # torch does not subtract from bool
            mine, other = (getattr(module, name)(x, 3, align_corners=align_corners) for module in (compat, theirs))
            assert_same(mine, other, 1e-4)
    if dtype is torch.uint8:
        assert_same(compat.pyrup(x, align_corners=align_corners), theirs.pyrup(x, align_corners=align_corners), 1e-4)
        return
    for module in (compat, theirs):
        with pytest.raises(NotImplementedError):
            module.pyrup(x)


@pytest.mark.parametrize("shape", [(1, 2, 4, 4), (2, 2, 4, 4), (2, 3, 4, 4), (0, 3, 6, 4)], ids=str)
@corners
def test_modules_and_cardinality(shape: tuple[int, ...], align_corners: bool) -> None:
    x = image(*shape)
    n, c, h, w = shape
    down, up = compat.PyrDown(align_corners=align_corners), compat.PyrUp(align_corners=align_corners)
    assert down(x).shape == (n, c, h // 2, w // 2)
    assert up(x).shape == (n, c, 2 * h, 2 * w)
    assert torch.equal(down(x), compat.pyrdown(x, align_corners=align_corners))
    assert torch.equal(up(x), compat.pyrup(x, align_corners=align_corners))
    assert compat.PyrDown(factor=3.0)(image(1, 2, 9, 9)).shape == (1, 2, 3, 3)
    assert (down.border_type, down.align_corners, down.factor) == ("reflect", align_corners, 2.0)
    assert (up.border_type, up.align_corners) == ("reflect", align_corners)
    assert not [*down.state_dict(), *up.state_dict()]


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("max_level", [1, 2, 3, 4])
def test_number_of_levels(batch: int, channels: int, max_level: int) -> None:
    for build, width in ((compat.build_pyramid, 20), (compat.build_laplacian_pyramid, 32)):
        x = image(batch, channels, 16, width)
        pyramid = build(x, max_level)
        assert [tuple(level.shape) for level in pyramid] == [
            (batch, channels, 16 >> level, width >> level) for level in range(max_level)
        ]
        if build is compat.build_pyramid or max_level == 1:
            assert pyramid[0] is x


def test_symmetry() -> None:
    x = torch.zeros(1, 1, 6, 6)
    x[:, :, 2:4, 2:4] = 1
    down = compat.PyrDown()(x)
    assert torch.allclose(down, down.flip(2), atol=1e-7)
    assert torch.allclose(down, down.flip(3), atol=1e-7)


def test_conventions() -> None:
    """The defaults matter, and sizes are floored."""
    x = torch.arange(25.0).view(1, 1, 5, 5)
    for function in (compat.pyrdown, compat.pyrup):
        assert torch.equal(function(x), function(x, "reflect", False))
        assert (function(x) - function(x, align_corners=True)).abs().max() > 1e-2
        assert (function(x) - function(x, "constant")).abs().max() > 1e-2
        assert torch.equal(function(x, "REPLICATE"), function(x, "replicate"))
    assert compat.pyrdown(x).shape == (1, 1, 2, 2)


def test_docstring_examples_of_kornia() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    expected = torch.tensor([[[[3.75, 5.25], [9.75, 11.25]]]])
    assert torch.allclose(compat.pyrdown(x, align_corners=True), expected, atol=1e-6)
    expected = torch.tensor([0.75, 0.875, 1.125, 1.25]) + torch.tensor([0.0, 0.25, 0.75, 1.0])[:, None]
    assert torch.allclose(compat.pyrup(x[:, :, :2, :2] % 4 + x[:, :, :2, :2] // 4 * 2, align_corners=True), expected)


CALLS: dict[str, Function] = {
    "pyrdown": lambda m, x: m.pyrdown(x),
    "pyrdown aligned": lambda m, x: m.pyrdown(x, align_corners=True),
    "pyrdown by 3": lambda m, x: m.pyrdown(x, "replicate", factor=3.0),
    "pyrup": lambda m, x: m.pyrup(x),
    "pyrup aligned": lambda m, x: m.pyrup(x, "circular", align_corners=True),
    "build_pyramid": lambda m, x: m.build_pyramid(x, 2)[1:],
    "build_pyramid of one level": lambda m, x: m.build_pyramid(x, 1),
    "build_laplacian_pyramid": lambda m, x: m.build_laplacian_pyramid(x, 2),
    "build_laplacian_pyramid aligned": lambda m, x: m.build_laplacian_pyramid(x, 2, align_corners=True),
    "build_laplacian_pyramid of one level": lambda m, x: m.build_laplacian_pyramid(x, 1),
}
calls = pytest.mark.parametrize("call", CALLS)


@calls
def test_gradcheck(call: str) -> None:
    x = image(1, 2, 5, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: CALLS[call](compat, x), (x,), nondet_tol=1e-8, fast_mode=True)


@calls
@pytest.mark.parametrize("size", [(16, 20), (7, 9)], ids=str)
def test_gradients_are_kornias(call: str, size: tuple[int, int]) -> None:
    x = image(2, 3, *size, dtype=torch.float64).requires_grad_()
    grads = []
    for module in (compat, theirs):
        out = CALLS[call](module, x)
        levels = out if isinstance(out, list) else [out]
        grads.append(torch.autograd.grad(sum((level**3).sum() for level in levels), x)[0])
    assert (grads[0] - grads[1]).abs().max() <= 1e-12 * grads[1].abs().max()


@calls
def test_dynamo(call: str) -> None:
    """One graph, the same values, the same gradient."""
    x = image(2, 3, 12, 16).requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: CALLS[call](compat, x), backend="aot_eager", fullgraph=True)
    got, want = compiled(x), CALLS[call](compat, x)
    assert_same(list(got) if isinstance(got, tuple) else got, want, 1e-6)
    mine, other = (
        torch.autograd.grad((out[-1] if isinstance(out, list | tuple) else out).square().sum(), x)[0]
        for out in (got, want)
    )
    assert (mine - other).abs().max() <= 1e-5


@pytest.mark.parametrize("module", [compat.PyrDown(), compat.PyrUp(), compat.PyrDown("constant", True)], ids=str)
def test_modules_compile_and_export(module: torch.nn.Module) -> None:
    x = image(1, 3, 10, 14)
    torch._dynamo.reset()
    assert_same(torch.compile(module, backend="aot_eager", fullgraph=True)(x), module(x), 1e-6)
    assert_same(torch.export.export(module, (x,)).module()(x), module(x), 1e-6)


def test_aligned_upsampling_is_deterministic() -> None:
    """No interpolate in its graph, whose backward scatters on CUDA."""
    x = image(1, 1, 4, 4).requires_grad_()
    names, nodes = set(), [compat.pyrup(x, align_corners=True).grad_fn]
    while nodes:
        node = nodes.pop()
        names.add(type(node).__name__)
        nodes += [parent for parent, _ in node.next_functions if parent is not None]
    assert names
    assert not any("Upsample" in name for name in names)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (2, 7)], ids=str)
def test_tiny_images_that_kornia_cannot_pad(size: tuple[int, int]) -> None:
    x = image(1, 1, *size)
    with pytest.raises(RuntimeError):
        theirs.pyrdown(x)
    up = compat.pyrup(x)
    assert up.shape == (1, 1, 2 * size[0], 2 * size[1])
    assert torch.allclose(compat.pyrup(torch.ones_like(x)), torch.ones_like(up), atol=1e-6)
    if min(size) > 1:
        assert torch.equal(compat.pyrdown(x), lapcore.pyr_down(x, filter="half_pixel"))


ERRORS: dict[str, tuple[Function, type[Exception], str]] = {
    "three dimensions": (lambda m: m.pyrdown(torch.zeros(3, 4, 4)), compat.ShapeError, "expected 4 dimensions, got 3"),
    "up of two": (lambda m: m.pyrup(torch.zeros(4, 4)), compat.ShapeError, "expected 4 dimensions, got 2"),
    "pyramid of five": (
        lambda m: m.build_pyramid(torch.zeros(1, 1, 1, 4, 4), 2),
        compat.ShapeError,
        "expected 4 dimensions, got 5",
    ),
    "Laplacian of three": (
        lambda m: m.build_laplacian_pyramid(torch.zeros(3, 4, 4), 2),
        compat.ShapeError,
        "expected 4 dimensions, got 3",
    ),
    "border": (
        lambda m: m.pyrdown(torch.zeros(1, 1, 4, 4), "symmetric"),
        compat.BaseError,
        "Invalid border, symmetric",
    ),
    "border of up": (lambda m: m.pyrup(torch.zeros(1, 1, 4, 4), "mirror"), compat.BaseError, "Invalid border, mirror"),
    **{
        f"max_level {level!r} of {name}": (
            lambda m, name=name, level=level: getattr(m, name)(torch.zeros(1, 1, 8, 8), level),
            compat.BaseError,
            "Invalid max_level, it must be a positive integer",
        )
        for name in ("build_pyramid", "build_laplacian_pyramid")
        for level in (0, -1, 1.0, True, "2", None)
    },
    "nothing left": (lambda m: m.pyrdown(torch.zeros(1, 1, 4, 4), factor=5.0), RuntimeError, "factor|greater than 0"),
    "too deep": (lambda m: m.build_pyramid(torch.zeros(1, 1, 8, 8), 5, "replicate"), RuntimeError, "max_level|greater"),
    "too deep a Laplacian": (
        lambda m: m.build_laplacian_pyramid(torch.zeros(1, 1, 8, 8), 5, "replicate"),
        RuntimeError,
        "max_level|greater",
    ),
    "no tensor": (lambda m: m.pyrdown([[1.0]]), TypeError, "input"),
}
STANDS_FOR = {compat.BaseError: "BaseError", compat.ShapeError: "ShapeError"}


@pytest.mark.parametrize("case", ERRORS)
def test_exceptions(case: str) -> None:
    call, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message) as caught:
        call(compat)
    assert isinstance(caught.value, LapcoreError)
    if case == "no tensor":
        return  # kornia fails on the list's missing shape, with an AttributeError
    expected = getattr(kornia.core.check, STANDS_FOR[kind]) if kind in STANDS_FOR else kind
    with pytest.raises(expected, match=message):
        call(theirs)


def test_error_types() -> None:
    for mine, name in ((compat.ShapeError, "ShapeError"), (compat.TypeCheckError, "TypeCheckError")):
        other = getattr(kornia.core.check, name)
        for base in (ValueError, TypeError):
            assert issubclass(mine, base) == issubclass(other, base)
        assert issubclass(mine, compat.BaseError)
    assert not issubclass(compat.BaseError, ValueError | TypeError)
