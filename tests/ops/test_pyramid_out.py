"""pyr_down and pyr_up into memory of the caller's, and inputs read where they lie: nothing is copied or allocated on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import lapcore
from tests.allocations import allocations
from tests.layouts import LAYOUTS
from tests.ops.pyramid_checks import Tensor, draw
from tests.oracle.filters import FILTERS
from tests.tolerance import assert_same_bits

PROBE = ("pyr_down", (1, 1, 4, 4))
OPS = {"pyr_down": lapcore.pyr_down, "pyr_up": lapcore.pyr_up}
ops = pytest.mark.parametrize("op", OPS.values(), ids=OPS.keys())
PLACES = [name for name in LAYOUTS if not name.startswith("expanded")]
DTYPES = [torch.uint8, torch.int16, torch.uint16, torch.bfloat16, torch.float32, torch.float64]
X = torch.zeros(2, 5, 4)


def place(layout: str, like: Tensor) -> Tensor:
    """A tensor of this layout full of what must not remain."""
    return LAYOUTS[layout](torch.full_like(like, 99, memory_format=torch.contiguous_format))


@ops
@pytest.mark.parametrize("layout", PLACES)
def test_writes_to_every_layout(
    backend: str, slow_backend: bool, device: str, op: Callable[..., Tensor], layout: str
) -> None:
    shapes = (
        [(2, 3, 4)]
        if slow_backend
        else [(2, 3, 6, 7), (5, 4), (1, 3, 1, 5), (0, 3, 4, 5), (2, 1, 2, 3, 5), (3, 33, 70)]
    )
    for shape in shapes:
        for dtype in DTYPES[::4] if slow_backend else DTYPES:
            x = draw(shape, 1, dtype, device)
            want = op(x)
            out = place(layout, want)
            before = [None if out._base is None else out._base.clone(), out.stride(), out.data_ptr()]
            assert op(x, out=out) is out
            assert_same_bits(out, want, f"{shape} {dtype} {layout}")
            assert [out.stride(), out.data_ptr()] == before[1:]
            if out._base is not None:  # nothing around it was touched
                restored = out._base.clone()
                restored.as_strided(out.shape, out.stride(), out.storage_offset()).fill_(99)
                assert_same_bits(restored, before[0])


@ops
@pytest.mark.parametrize("filter", FILTERS)
def test_takes_every_filter_and_size(backend: str, device: str, op: Callable[..., Tensor], filter: str) -> None:
    x = draw((2, 4, 5), 1, device=device)
    size = None if filter == "binomial" else (3, 4) if op is lapcore.pyr_down else (7, 9)
    want = op(x, size, filter=filter)
    out = torch.full_like(want, 99)
    assert op(x, size, filter=filter, out=out) is out
    assert_same_bits(out, want)


@ops
def test_chains_reuse_their_buffers(backend: str, device: str, op: Callable[..., Tensor]) -> None:
    out = op(draw((2, 6, 5), 1, device=device))
    for seed in (2, 3):
        x = draw((2, 6, 5), seed, device=device)
        assert_same_bits(op(x, out=out), op(x))


@ops
def test_no_gradient_and_inference_mode(backend: str, device: str, op: Callable[..., Tensor]) -> None:
    x = draw((4, 5), 1, device=device).requires_grad_()
    out = torch.empty_like(op(x).detach())
    with torch.no_grad():
        assert_same_bits(op(x, out=out), op(x))
    with torch.inference_mode():
        assert_same_bits(op(x, out=out), op(x))
    assert not out.requires_grad


def test_compiles(backend: str, device: str) -> None:
    x = draw((2, 4, 6), 1, device=device)

    def function(x: Tensor, out: Tensor) -> Tensor:
        lapcore.pyr_down(x, out=out)
        return out + 1

    torch.compiler.reset()
    out = torch.full((2, 2, 3), 99.0, device=device)
    got = torch.compile(function, fullgraph=True, backend="aot_eager")(x, out)
    assert_same_bits(out, lapcore.pyr_down(x))
    assert_same_bits(got, out + 1)


# Refusals ------------------------------------------------------------------------------------------------------------------------


def overlapping() -> tuple[Tensor, Tensor]:
    memory = torch.zeros(60)
    return memory[:40].view(2, 5, 4), memory[39:51].view(2, 3, 2)


REFUSED = {
    "a list": (X, [1.0], TypeError, "list"),
    "shape": (X, torch.zeros(2, 3, 3), ValueError, r"2, 3, 2.*2, 3, 3"),
    "one dimension more": (X, torch.zeros(1, 2, 3, 2), ValueError, r"2, 3, 2.*1, 2, 3, 2"),
    "dtype": (X, torch.zeros(2, 3, 2, dtype=torch.float64), (ValueError, TypeError), r"float32.*float64"),
    "int16 for uint8": (X.byte(), torch.zeros(2, 3, 2, dtype=torch.int16), (ValueError, TypeError), r"uint8.*int16"),
    "device": (X, torch.zeros(2, 3, 2, device="meta"), ValueError, r"cpu.*meta"),
    "overlap": (*overlapping(), ValueError, "overlap"),
    "itself": (torch.zeros(1, 1), None, ValueError, "overlap"),
    "stride 0": (X, torch.zeros(2, 3, 1).expand(2, 3, 2), ValueError, "one place|stride"),
    "elements that share memory": (
        X,
        torch.zeros(9).as_strided((2, 3, 2), (3, 1, 1)),
        ValueError,
        "one place|stride|memory",
    ),
    "requires a gradient": (X, torch.zeros(2, 3, 2, requires_grad=True), ValueError, "gradient|requires"),
    "a gradient of x": (X.clone().requires_grad_(), torch.zeros(2, 3, 2), ValueError, "gradient"),
    "sparse": (X, torch.zeros(2, 3, 2).to_sparse(), TypeError, "dense|strided|layout"),
}


@pytest.mark.parametrize(("x", "out", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_written_is_refused(
    backend: str, x: Tensor, out: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=rf"(?s)\bout\b.*({message})"):
        lapcore.pyr_down(x, out=x if out is None else out)


def test_under_transforms_it_is_refused(backend: str) -> None:
    out = torch.zeros(3, 2)
    with pytest.raises((ValueError, RuntimeError), match="out"):
        torch.func.grad(lambda x: lapcore.pyr_down(x, out=out).sum())(torch.zeros(5, 4))


# Nothing is copied ---------------------------------------------------------------------------------------------------------------


@pytest.mark.real_memory
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("layout", ["channels_last", "interleaved_window", "frames_last", "sliced", "expanded_all"])
def test_the_cpu_kernels_allocate_their_results_and_nothing_else(layout: str, dtype: torch.dtype) -> None:
    x = LAYOUTS[layout](draw((2, 3, 3, 48, 50), 1, dtype))  # results that malloc gives: larger ones reuse memory
    bands = [LAYOUTS[layout](band) for band in lapcore.laplacian_pyramid(x, 2)]
    gradient = {torch.float32, torch.float16}

    def sizes(outputs: list[Tensor]) -> list[int]:
        return sorted(out.numel() * out.element_size() for out in outputs)

    with lapcore.backend("cpu"):
        for call in (
            lambda: [lapcore.pyr_down(x)],
            lambda: [lapcore.pyr_up(x)],
            lambda: lapcore.laplacian_pyramid(x, 1),
            lambda: lapcore.gaussian_pyramid(x, 2)[1:],
            lambda: [lapcore.collapse(bands[1:])],
        ):
            kept: list[Tensor] = []
            given = allocations(lambda call=call, kept=kept: kept.extend(call()))
            assert sorted(given) == sizes(kept), f"{layout}: allocated {given}"
        out = lapcore.pyr_down(x)
        assert allocations(lambda: lapcore.pyr_down(x, out=out)) == []
        if dtype in gradient:
            leaf = x.detach().requires_grad_()
            down = lapcore.pyr_down(leaf)
            grad = LAYOUTS[layout](torch.ones_like(down))
            kept = []
            given = allocations(lambda: kept.extend(torch.autograd.grad(down, leaf, grad)))
            assert sorted(given) == sizes(kept), f"backward {layout}: allocated {given}"
