"""laplacian_loss against its float64 definition: values, the gradient by formula, every option, size, layout and dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.allocations import allocations, peak
from tests.layouts import LAYOUTS
from tests.ops.pyramid_checks import Tensor, borders, draw, dtypes
from tests.oracle import laplacian_loss as oracle
from tests.oracle.laplacian_loss import Recipe
from tests.tolerance import assert_close, assert_same_bits, loss_error, to_numpy

PROBE = ("laplacian_loss", (1, 1, 4, 4))
SHAPE = (2, 3, 21, 18)
REFUSED = (ValueError, TypeError)


def pair(
    shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    return draw(shape, seed, dtype, device), draw(shape, seed + 50, dtype, device)


def check(input: Tensor, target: Tensor, **options: Any) -> None:
    """The loss, and both gradients for an incoming gradient that is not 1."""
    mask = options.get("mask")
    recipe = Recipe(**{**options, "mask": None if mask is None else to_numpy(mask)})
    a, b = to_numpy(input), to_numpy(target)
    where = f"{tuple(input.shape)} {input.dtype} { {**options, 'mask': mask is not None} }"
    relative = loss_error(tuple(input.shape), input.dtype, recipe.levels)

    leaves = [input.detach().requires_grad_(), target.detach().requires_grad_()]
    loss = lapcore.laplacian_loss(*leaves, **options)
    assert loss.dtype is (torch.float64 if input.dtype is torch.float64 else torch.float32)
    assert_close(
        loss, oracle.laplacian_loss(a, b, recipe), relative * oracle.laplacian_loss_magnitude(a, b, recipe), where
    )
    with torch.no_grad():
        assert_close(
            lapcore.laplacian_loss(*leaves, **options), to_numpy(loss), 2 * relative * to_numpy(loss).max(initial=0)
        )

    incoming = draw(loss.shape, 3, loss.dtype, str(loss.device)) + 3
    grads = torch.autograd.grad(loss, leaves, incoming)
    want = oracle.laplacian_loss_gradient(a, b, recipe, to_numpy(incoming))
    slack = oracle.laplacian_loss_gradient_slack(a, b, recipe, relative, to_numpy(incoming))
    info = torch.finfo(input.dtype)  # stored, then multiplied by the incoming gradient and stored again
    stored = info.eps * np.abs(want) + (1 + np.abs(to_numpy(incoming)).max(initial=0)) * info.tiny * info.eps
    for got, sign in zip(grads, (1, -1), strict=True):
        assert got.dtype is input.dtype
        assert_close(got, sign * want, slack + stored, f"gradient {where}")


# The oracle ----------------------------------------------------------------------------------------------------------------------


def folk_loss(input: Tensor, target: Tensor, levels: int) -> Tensor:
    """As RIFE and others write it, for sides that stay even: blur, every second sample; zeros between, four times the blur."""
    kernel = torch.tensor([1.0, 4, 6, 4, 1], dtype=input.dtype)
    kernel = torch.outer(kernel, kernel)[None, None] / 256

    def blur(x: Tensor, gain: float) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), gain * kernel.repeat(channels, 1, 1, 1), groups=channels)

    def bands(x: Tensor) -> list[Tensor]:
        out = []
        for _ in range(levels):
            coarse = blur(x, 1)[..., ::2, ::2]
            stuffed = torch.zeros_like(x)
            stuffed[..., ::2, ::2] = coarse
            out.append(x - blur(stuffed, 4))
            x = coarse
        return out

    return sum(F.l1_loss(a, b) for a, b in zip(bands(input), bands(target), strict=True))


def test_oracle_and_ours_equal_the_folk_loss_where_it_can_run(backend: str, slow_backend: bool, device: str) -> None:
    size, levels = (8, 1) if slow_backend else (64, 4)
    a, b = pair((2, 3, size, size), dtype=torch.float64)
    want = float(folk_loss(a, b, levels))
    assert float(oracle.laplacian_loss(to_numpy(a), to_numpy(b), Recipe(levels))) == pytest.approx(want, rel=1e-12)
    assert float(lapcore.laplacian_loss(a.to(device), b.to(device), levels)) == pytest.approx(want, rel=1e-12)


@pytest.mark.heavy
@pytest.mark.parametrize("odd", ["exact", "crop"])
def test_wide_rows(backend: str, device: str, odd: str) -> None:
    for shape, levels in (((1, 2, 37, 700), 3), ((1, 1, 9, 1201), 2)):
        check(*pair(shape, device=device), levels=levels, odd=odd)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("odd", ["exact", "crop"])
def test_oracle_gradient_is_the_derivative(reduction: str, odd: str) -> None:
    rng = np.random.default_rng(0)
    a, b, step = rng.normal(size=(3, *SHAPE))
    weight = rng.random(SHAPE[0]) if reduction == "none" else 1.0
    recipe = Recipe(3, "pow2", rng.random((2, 1, *SHAPE[2:])), True, reduction, odd)
    ahead, behind = (oracle.laplacian_loss(a + t * step, b, recipe) for t in (1e-7, -1e-7))
    numeric = float(np.sum((ahead - behind) / 2e-7 * weight))
    assert numeric == pytest.approx(
        float((oracle.laplacian_loss_gradient(a, b, recipe, weight) * step).sum()), rel=1e-5
    )


# Values and gradients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_small_images(backend: str, device: str, reduction: str) -> None:
    a, b = pair((2, 1, 6, 5), 1, device=device)
    mask = torch.rand(2, 1, 6, 5, generator=torch.Generator().manual_seed(1)).to(device)
    check(a, b, levels=2, reduction=reduction)
    check(a, b, levels=2, reduction=reduction, mask=mask, odd="crop", weights="pow2", include_residual=True)


@pytest.mark.heavy
@pytest.mark.parametrize("size", [16, 28, 32, 33, 48, 100, 225])
@pytest.mark.parametrize("depth", ["5 levels", "full depth"])
def test_every_size_to_any_depth(backend: str, device: str, size: int, depth: str) -> None:
    """The usual code stops at 16, 28, 32, 33, 48, 100 and 225 pixels before its fifth level."""
    shape = (2, 3, size, size + size % 3)
    check(*pair(shape, size, device=device), levels=5 if depth == "5 levels" else size.bit_length() + 1)


@pytest.mark.heavy
@borders
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 3), (7, 1), (9, 14), (40, 31)], ids=str)
def test_small_sizes_and_borders(backend: str, device: str, border: str, size: tuple[int, int]) -> None:
    for include_residual in (False, True):
        check(*pair((2, 2, *size), 1, device=device), levels=3, border=border, include_residual=include_residual)


OPTIONS = {
    "defaults": {},
    "pow2": {"weights": "pow2", "levels": 3},
    "sequence": {"weights": [0.5, 0, 3], "levels": 3},
    "residual": {"include_residual": True, "levels": 2},
    "pow2 with the residual": {"weights": "pow2", "include_residual": True, "levels": 2},
    "weighted residual": {"weights": (1, 2.5, 0.125), "include_residual": True, "levels": 2},
    "only the residual": {"weights": (0, 0, 2), "include_residual": True, "levels": 2},
    "crop": {"odd": "crop", "levels": 3},
    "crop with the residual": {"odd": "crop", "levels": 3, "include_residual": True, "weights": "pow2"},
    "one level": {"levels": 1, "border": "replicate"},
}


@pytest.mark.heavy
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("masked", [None, "image", "sample", "broadcast", "full", "binary", "bare"])
@pytest.mark.parametrize("name", OPTIONS)
def test_options(backend: str, device: str, name: str, masked: str | None, reduction: str) -> None:
    options = dict(OPTIONS[name])
    n, c, h, w = SHAPE
    if masked:
        sizes = {
            "image": (1, 1, h, w),
            "sample": (n, 1, h, w),
            "broadcast": (c, h, w),
            "full": SHAPE,
            "binary": (n, 1, h, w),
        }
        mask = torch.rand(sizes.get(masked, (h, w)), generator=torch.Generator().manual_seed(1))
        options["mask"] = (mask.round() if masked == "binary" else mask).to(device)
    check(*pair(SHAPE, 1, device=device), reduction=reduction, **options)


@pytest.mark.heavy
@dtypes
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_every_dtype(backend: str, device: str, dtype: torch.dtype, masked: bool) -> None:
    for reduction in ("mean", "none"):
        mask = torch.rand(2, 1, 21, 18, device=device).to(dtype) if masked else None
        check(*pair(SHAPE, 1, dtype, device), levels=3, mask=mask, reduction=reduction)


@pytest.mark.heavy
def test_halves_are_exact_inputs(backend: str, device: str) -> None:
    """The difference is taken, and the pyramid made, in float32: close images must not lose their small difference."""
    a = (1 + 0.001 * draw(SHAPE, 1, torch.float64)).to(torch.bfloat16)
    b = (1 + 0.001 * draw(SHAPE, 2, torch.float64)).to(torch.bfloat16)
    got = lapcore.laplacian_loss(a.to(device), b.to(device), 3)
    assert_same_bits(got, lapcore.laplacian_loss(a.float().to(device), b.float().to(device), 3))


@pytest.mark.heavy
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout(backend: str, device: str, layout: Callable[[Tensor], Tensor]) -> None:
    for shape in [SHAPE, (2, 6, 7), (1, 1, 1, 5), (2, 1, 2, 3, 5), (3, 2, 40, 37)]:
        a, b = pair(shape, 1, device=device)
        mask = layout(torch.rand(shape, device=device))
        check(layout(a), b, levels=2)
        check(a, layout(b), levels=2, mask=mask, reduction="none")
        loss = lapcore.laplacian_loss(layout(a), layout(b), 2, mask=mask)
        assert_same_bits(
            loss, lapcore.laplacian_loss(layout(a).contiguous(), layout(b).contiguous(), 2, mask=mask.contiguous())
        )


def test_random_recipes(backend: str, slow_backend: bool, device: str) -> None:
    @settings(max_examples=2 if slow_backend else 80)
    @given(
        x=strategies.images(max_side=4 if slow_backend else 24, max_lead=2),
        recipe=st.fixed_dictionaries(
            {
                "levels": st.integers(1, 2 if slow_backend else 5),
                "weights": st.sampled_from(["uniform", "pow2"]),
                "include_residual": st.booleans(),
                "reduction": st.sampled_from(["mean", "sum", "none"]),
                "border": strategies.borders,
            }
        ),
        masked=st.booleans(),
    )
    def run(x: Tensor, recipe: dict[str, Any], masked: bool) -> None:
        x = x if x.dim() > 2 else x[None]
        if 0 in x.shape:
            return
        x = (x if x.dtype is not torch.float16 else x.float()).to(device)
        target = draw(x.shape, 7, x.dtype, device)
        mask = torch.rand(x.shape[-2:], device=device).to(x.dtype) if masked else None
        check(x, target, mask=mask, **recipe)

    run()


def test_equal_images_have_no_loss_and_no_gradient(backend: str, device: str) -> None:
    x = draw((2, 1, 5, 6), 1, device=device).requires_grad_()
    loss = lapcore.laplacian_loss(x, x.detach().clone(), 2)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, x)[0].any()


def test_an_empty_mask_gives_zero(backend: str, device: str) -> None:
    a, b = pair((2, 1, 5, 6), device=device)
    a.requires_grad_()
    mask = torch.zeros(2, 1, 5, 6, device=device)
    assert lapcore.laplacian_loss(a, b, 2, mask=mask).item() == 0
    mask[1] = 1
    loss = lapcore.laplacian_loss(a, b, 2, mask=mask, reduction="none")
    assert loss[0].item() == 0 and loss[1].item() > 0
    (grad,) = torch.autograd.grad(loss.sum(), a)
    assert not grad[0].any() and grad[1].any() and torch.isfinite(grad).all()


def test_a_mask_of_ones_changes_nothing(backend: str, device: str) -> None:
    a, b = pair((2, 1, 5, 6), device=device)
    for reduction in ("mean", "sum", "none"):
        plain = lapcore.laplacian_loss(a, b, 2, reduction=reduction)
        ones = lapcore.laplacian_loss(a, b, 2, mask=torch.ones(5, 6, device=device), reduction=reduction)
        assert_close(ones, to_numpy(plain), 1e-6 * float(plain.max()))


def test_samples_do_not_know_of_each_other(backend: str, slow_backend: bool, device: str) -> None:
    a, b = pair((3, 1, 6, 5) if slow_backend else (5, 3, 33, 40), 1, device=device)
    together = lapcore.laplacian_loss(a, b, 3, reduction="none")
    alone = [lapcore.laplacian_loss(a[i : i + 1], b[i : i + 1], 3, reduction="none")[0] for i in range(len(a))]
    assert_same_bits(together, torch.stack(alone))
    mean = lapcore.laplacian_loss(a, b, 3)
    assert_close(mean, to_numpy(together).mean(), 1e-6 * float(mean))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 5, 4)], ids=str)
def test_empty_batches(backend: str, device: str, shape: tuple[int, ...]) -> None:
    a, b = pair(shape, device=device)
    a.requires_grad_()
    loss = lapcore.laplacian_loss(a, b, 2, reduction="none")
    assert loss.shape == shape[:1] and not loss.any()
    total = lapcore.laplacian_loss(a, b, 2, reduction="sum")
    assert total.item() == 0
    assert torch.autograd.grad(total, a)[0].shape == shape


# Autograd ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("odd", ["exact", "crop"])
def test_gradcheck_and_gradgradcheck(backend: str, device: str, reduction: str, odd: str) -> None:
    a, b = pair((2, 1, 5, 6), 1, torch.float64, device)
    mask = torch.rand(2, 1, 5, 6, dtype=torch.float64, device=device)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return lapcore.laplacian_loss(a, b, 2, mask=mask, include_residual=True, reduction=reduction, odd=odd)

    inputs = [a.requires_grad_(), b.requires_grad_()]
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


def test_double_backward_reaches_what_made_the_images(backend: str, device: str) -> None:
    """A gradient penalty: d/ds of |d loss(s x^2) / dx|^2, by hand from the oracle's gradient, on which s has no other influence."""
    x, target = pair((1, 1, 5, 6), 1, torch.float64, device)
    x.requires_grad_()
    scale = torch.tensor(1.5, dtype=torch.float64, device=device, requires_grad=True)
    loss = lapcore.laplacian_loss(scale * x * x, target, 2)
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    (got,) = torch.autograd.grad(grad.square().sum(), scale)
    values = to_numpy(x)
    inner = oracle.laplacian_loss_gradient(1.5 * values**2, to_numpy(target), Recipe(2))
    assert float(got) == pytest.approx(float((2 * 1.5 * (2 * values * inner) ** 2).sum()), rel=1e-9)


def test_only_what_asks_for_a_gradient_gets_one(backend: str, device: str) -> None:
    a, b = pair((1, 1, 5, 6), device=device)
    assert not lapcore.laplacian_loss(a, b, 2).requires_grad
    b.requires_grad_()
    lapcore.laplacian_loss(a, b, 2).backward()
    assert a.grad is None and b.grad is not None and b.grad.any()
    with torch.no_grad():
        assert not lapcore.laplacian_loss(a, b, 2).requires_grad


@pytest.mark.heavy
def test_deterministic_algorithms_are_accepted_and_threads_do_not_matter(backend: str, device: str) -> None:
    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count if backend == "cpu" else 1)
            a, b = pair((4, 3, 65, 50), 1, device=device)
            loss = lapcore.laplacian_loss(a.requires_grad_(), b, 4, mask=torch.ones(65, 50, device=device))
            results.append((loss, *torch.autograd.grad(loss, a)))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    for loss, grad in results[1:]:
        assert_same_bits(loss, results[0][0])
        assert_same_bits(grad, results[0][1])


# Memory --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.real_memory
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_forward_holds_no_bands(layout: str) -> None:
    """A difference of the images would be as large as one of them, its bands 4/3 of that."""
    shape = (4, 3, 1024, 1024)
    a, b = (LAYOUTS[layout](x) for x in pair(shape))
    image = a.numel() * a.element_size()
    with lapcore.backend("cpu"):
        lapcore.laplacian_loss(a[..., :64, :64], b[..., :64, :64])
        assert sum(allocations(lambda: lapcore.laplacian_loss(a, b))) < 2**16
        assert peak(lambda: lapcore.laplacian_loss(a, b)) < image / 2
        leaf = a.detach().requires_grad_()
        assert peak(lambda: lapcore.laplacian_loss(leaf, b)) < 1.6 * image, "more than the gradient itself"


# Refusals ------------------------------------------------------------------------------------------------------------------------

IMAGE = torch.zeros(2, 3, 12, 9)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[1.0]], IMAGE), {}, "input: .*list"),
        ((IMAGE, None), {}, "target: .*None"),
        ((IMAGE[0, 0], IMAGE[0, 0]), {}, r"input: .*12, 9"),
        ((IMAGE[..., :0], IMAGE[..., :0]), {}, r"input: .*2, 3, 12, 0"),
        ((IMAGE, IMAGE[:1]), {}, r"target: .*2, 3, 12, 9.*1, 3, 12, 9"),
        ((IMAGE, IMAGE.double()), {}, "target: .*float32.*float64"),
        ((IMAGE, IMAGE.to("meta")), {}, "target: .*cpu.*meta"),
        ((IMAGE.byte(), IMAGE.byte()), {}, "input: .*uint8"),
        ((IMAGE.to(torch.complex64), IMAGE), {}, "input: .*complex64"),
        ((IMAGE, IMAGE, 0), {}, "levels: .*0"),
        ((IMAGE, IMAGE, -1), {}, "levels: .*-1"),
        ((IMAGE, IMAGE, 2.0), {}, "levels: .*2.0"),
        ((IMAGE, IMAGE, None), {}, "levels: .*None"),
        ((IMAGE, IMAGE), {"weights": "linear"}, "weights: .*linear"),
        ((IMAGE, IMAGE), {"weights": [1, 2]}, r"weights: .*5.*\[1, 2\]"),
        ((IMAGE, IMAGE), {"weights": [1.0] * 5, "include_residual": True}, "weights: .*6"),
        ((IMAGE, IMAGE), {"weights": [1, 1, -1, 1, 1]}, "weights: .*-1"),
        ((IMAGE, IMAGE), {"weights": [1, 1, float("nan"), 1, 1]}, "weights: .*nan"),
        ((IMAGE, IMAGE), {"weights": [1, 1, float("inf"), 1, 1]}, "weights: .*inf"),
        ((IMAGE, IMAGE), {"weights": [1, 1, "1", 1, 1]}, "weights"),
        ((IMAGE, IMAGE), {"weights": 2.0}, "weights: .*2.0"),
        ((IMAGE, IMAGE), {"weights": None}, "weights: .*None"),
        ((IMAGE, IMAGE), {"reduction": "max"}, "reduction: .*max"),
        ((IMAGE, IMAGE), {"odd": "pad"}, "odd: .*pad"),
        ((IMAGE, IMAGE), {"border": "mirror"}, "border: .*mirror"),
        ((IMAGE, IMAGE, 4), {"odd": "crop"}, "levels: .*3.*12x9.*4"),
        ((IMAGE, IMAGE), {"mask": 1.0}, "mask: .*float"),
        ((IMAGE, IMAGE), {"mask": torch.ones(12, 9, dtype=torch.bool)}, "mask: .*bool"),
        ((IMAGE, IMAGE), {"mask": torch.ones(12, 9, dtype=torch.float64)}, "mask: .*float32.*float64"),
        ((IMAGE, IMAGE), {"mask": torch.ones(12, 1)}, r"mask: .*12, 1"),
        ((IMAGE, IMAGE), {"mask": torch.ones(3, 1, 12, 9)}, r"mask: .*3, 1, 12, 9"),
        ((IMAGE, IMAGE), {"mask": torch.ones(1, 2, 3, 12, 9)}, r"mask: .*1, 2, 3, 12, 9"),
        ((IMAGE, IMAGE), {"mask": torch.ones(12, 9, requires_grad=True)}, "mask: .*gradient"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(REFUSED, match=f"^{message}"):
        lapcore.laplacian_loss(*arguments, **options)


def test_options_are_keywords() -> None:
    with pytest.raises(TypeError):
        lapcore.laplacian_loss(IMAGE, IMAGE, 5, "pow2")
