"""Masked convolutions and their activations: against the oracle on every backend, their structure, gradients and bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.layouts import LAYOUTS
from tests.oracle import masked_conv as oracle
from tests.tolerance import ACCUMULATOR, assert_close, assert_same_bits, to_numpy

PROBE = ("masked_conv2d", (1, 1, 2, 2))
MASKS = ("A", "B", "rows", "above")
KERNELS = [(k, k) for k in range(1, 8)] + [(2, 3), (1, 2), (1, 3), (1, 7), (3, 1), (4, 5)]
EXACT = ("cpu", "cuda")
"""Backends whose sums are one chain whatever the call."""

Tensor = torch.Tensor
# NumPy's, in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def spoilt(weight: Tensor, mask: str, groups: int, gated: bool = False) -> Tensor:
    """NaN where dead: it must have no effect."""
    o, c, height, width = weight.shape
    live = torch.from_numpy(oracle.mask_of(mask, (height, width), c, o, groups, gated)).to(weight.device)
    return torch.where(live, weight, torch.nan)


def rounding(terms: int, dtype: torch.dtype) -> float:
    """Of a sum of so many products, in any order, relative to the sum of their magnitudes, before it is stored."""
    return (terms + 1) * torch.finfo(ACCUMULATOR[dtype]).eps / 2


def stored(value: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The error of rounding to the dtype: relative, and of 16-bit floats too small to be normal."""
    return np.abs(value) * torch.finfo(dtype).eps / 2 + torch.finfo(dtype).tiny


def check(x: Tensor, weight: Tensor, bias: Tensor | None = None, **call) -> Tensor:
    """Against the oracle. A gate's slopes are at most 1 and 1/4, and its own functions good to 8 units."""
    mask, groups, activation = call["mask"], call.get("color_groups", 1), call.get("activation", "none")
    gated = call.get("gated_layout", False) or activation == "gated"
    y = lapcore.masked_conv2d(x, spoilt(weight, mask, groups, gated), bias, **call)
    assert y.dtype == x.dtype and y.is_contiguous()
    arrays = [None if t is None else to_numpy(t) for t in (x, weight, bias, call.get("condition"))]
    exact = dict(call, condition=arrays[3])
    want = oracle.masked_conv2d(*arrays[:3], **exact)
    large = [None if a is None else np.abs(a) for a in arrays]
    magnitude = oracle.masked_conv2d(
        *large[:3], **dict(exact, condition=large[3], activation="none", gated_layout=gated)
    )
    allowed = rounding(weight[0].numel() + 2, x.dtype) * magnitude
    if activation == "gated":
        half = allowed.shape[1] // 2
        allowed = allowed[:, :half] + allowed[:, half:] / 4 + 8 * torch.finfo(ACCUMULATOR[x.dtype]).eps
    assert_close(y, want, allowed * 1.01 + stored(want, x.dtype))
    return y


def check_gradients(x: Tensor, weight: Tensor, mask: str, groups: int, gated: bool, stride: int) -> None:
    """Of the linear part. At the weight, dead taps get exactly 0."""
    x = x.detach().requires_grad_()
    w = spoilt(weight, mask, groups, gated).requires_grad_()
    y = lapcore.masked_conv2d(x, w, mask=mask, color_groups=groups, stride=stride, gated_layout=gated)
    grad = draw(*y.shape, seed=9, dtype=x.dtype, device=str(x.device))
    got = torch.autograd.grad(y, (x, w), grad)
    arrays = to_numpy(grad), to_numpy(x), to_numpy(weight)
    want = oracle.masked_conv2d_gradients(*arrays, mask, groups, gated, stride)
    magnitude = oracle.masked_conv2d_gradients(*map(np.abs, arrays), mask, groups, gated, stride)
    terms = weight[:, 0].numel(), grad[:, 0].numel()
    for name, g, exact, large, count in zip(("x", "weight"), got, want, magnitude, terms, strict=True):
        assert_close(g, exact, rounding(count, x.dtype) * large * 1.01 + stored(exact, x.dtype), f"gradient at {name}")
    o, c, height, width = weight.shape
    live = oracle.mask_of(mask, (height, width), c, o, groups, gated)
    assert not to_numpy(got[1])[~live].any()


# The mask ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_mask_of(mask: str, kernel: tuple[int, int]) -> None:
    for inputs, outputs, groups in ((1, 1, 1), (3, 3, 3), (3, 6, 3), (7, 8, 3), (4, 10, 2), (5, 4, 1)):
        for gated in (False, True):
            if outputs // (1 + gated) < groups:
                continue
            got = lapcore.mask_of(mask, kernel, inputs, outputs, groups, gated_layout=gated)
            assert got.dtype == torch.bool
            assert np.array_equal(got.numpy(), oracle.mask_of(mask, kernel, inputs, outputs, groups, gated))


def test_mask_of_rgb() -> None:
    """The paper's: red sees no colour of its own pixel, green red, blue red and green; in B each itself too."""
    a, b = (lapcore.mask_of(mask, 1, 3, 3, 3)[:, :, 0, 0].int().tolist() for mask in "AB")
    assert a == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert b == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert lapcore.mask_of("A", 3, 1, 1)[0, 0].int().tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


# Against the oracle --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_every_mask_and_kernel(
    backend: str, slow_backend: bool, device: str, mask: str, kernel: tuple[int, int]
) -> None:
    """Channels that three does not divide, and an image smaller than the largest kernels."""
    for groups, stride in ((3, 1 + kernel[1] % 2),) if slow_backend else ((1, 1), (3, 2)):
        x, weight = draw(2, 4, 5, 6, device=device), draw(5, 4, *kernel, seed=1, device=device)
        check(x, weight, draw(5, seed=2, device=device), mask=mask, color_groups=groups, stride=stride)
        check_gradients(x, weight, mask, groups, False, stride)


@pytest.mark.parametrize("dtype", strategies.DTYPES, ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_every_dtype_and_activation(backend: str, device: str, mask: str, dtype: torch.dtype) -> None:
    x, weight = draw(2, 7, 4, 5, dtype=dtype, device=device), draw(10, 7, 3, 3, seed=1, dtype=dtype, device=device)
    vectors, maps = (draw(*s, seed=3, dtype=dtype, device=device) for s in ((2, 10), (2, 10, 4, 5)))
    for activation in ("none", "relu", "gated"):
        for condition in (None, vectors, maps):
            check(x, weight, mask=mask, color_groups=3, condition=condition, activation=activation)
    check_gradients(x, weight, mask, 3, True, 1)


SIZES = [(1, 1, 1, 1), (1, 1, 1, 9), (3, 2, 8, 1), (1, 3, 2, 3), (1, 1, 33, 17), (0, 3, 4, 5)]


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_every_size(backend: str, device: str, shape: tuple[int, ...]) -> None:
    for mask, stride in (("A", 1), ("B", 2), ("rows", 2)):
        x, weight = draw(*shape, device=device), draw(2, shape[1], 3, 3, seed=1, device=device)
        y = check(x, weight, mask=mask, stride=stride)
        assert y.shape == (shape[0], 2, -(-shape[2] // stride), -(-shape[3] // stride))
        check_gradients(x, weight, mask, 1, False, stride)


@pytest.mark.heavy
@pytest.mark.parametrize("channels", [(3, 130), (70, 34)], ids=str)
def test_more_channels_than_a_tile(backend: str, device: str, channels: tuple[int, int]) -> None:
    x, weight = draw(1, channels[0], 9, 11, device=device), draw(channels[1], channels[0], 3, 3, seed=1, device=device)
    check(x, weight, mask="B", color_groups=3, activation="gated")
    check_gradients(x, weight, "B", 3, True, 1)


def test_any_call(backend: str, slow_backend: bool, device: str) -> None:
    side, channels = (6, 5) if slow_backend else (12, 10)

    @settings(max_examples=8 if slow_backend else 30)
    @given(
        sizes=st.tuples(st.integers(1, 3), st.integers(1, channels), st.integers(1, side), st.integers(1, side)),
        half=st.integers(1, channels),
        kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        mask=st.sampled_from(MASKS),
        groups=st.integers(1, 3),
        stride=st.sampled_from((1, 2)),
        activation=st.sampled_from(("none", "relu", "gated")),
        gated=st.booleans(),
        dtype=strategies.dtypes,
        layouts=st.tuples(strategies.layouts, strategies.layouts),
    )
    def run(sizes, half, kernel, mask, groups, stride, activation, gated, dtype, layouts) -> None:
        x, weight = draw(*sizes).to(device, dtype), draw(2 * half, sizes[1], *kernel, seed=1).to(device, dtype)
        x, weight = (LAYOUTS[name](t) for name, t in zip(layouts, (x, weight), strict=True))
        groups = min(groups, half, sizes[1])
        call = {"mask": mask, "color_groups": groups, "stride": stride}
        y = check(x, weight, activation=activation, gated_layout=gated, **call)
        assert_same_bits(
            y, check(x.contiguous(), weight.contiguous(), activation=activation, gated_layout=gated, **call)
        )
        check_gradients(x, weight, mask, groups, gated, stride)

    run()


ACTIVATIONS = {
    "gated": (lapcore.gated_activation, oracle.gated_activation, oracle.gated_activation_gradient),
    "identity": (
        lambda x: lapcore.gated_activation(x, first="identity"),
        lambda x: oracle.gated_activation(x, "identity"),
        lambda grad, x: oracle.gated_activation_gradient(grad, x, "identity"),
    ),
    "elu": (lapcore.concat_elu, oracle.concat_elu, oracle.concat_elu_gradient),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", strategies.DTYPES, ids=str)
def test_activations(backend: str, slow_backend: bool, device: str, name: str, dtype: torch.dtype) -> None:
    """Their own functions are good to 8 units, and so are their gradients, of the larger of two terms."""
    function, want, gradient = ACTIVATIONS[name]
    unit = 8 * torch.finfo(ACCUMULATOR[dtype]).eps
    for shape in ((2, 6), (3, 4, 5), (2, 10, 7, 3), (1, 2, 1, 1), (0, 4, 2, 2), (1, 2, 700)):
        for scale in (3,) if slow_backend else (0.01, 1, 30):
            x = (draw(*shape) * scale).to(device, dtype).requires_grad_()
            y = function(x)
            exact = want(to_numpy(x))
            assert y.dtype == dtype and y.is_contiguous()
            assert_close(y, exact, unit * np.abs(exact) + stored(exact, dtype))
            grad = draw(*y.shape, seed=1).to(device, dtype)
            got = torch.autograd.grad(y, x, grad)[0]
            exact = gradient(to_numpy(grad), to_numpy(x))
            terms = np.abs(to_numpy(grad)).max(initial=0) * max(1, 4 * scale if name == "identity" else 1)
            assert_close(got, exact, unit * terms + stored(exact, dtype), "gradient")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_the_ends(backend: str, device: str, name: str) -> None:
    """Exponentials may stop near the last normal number; such a one, and an infinity, meet no factor that could bring them back."""
    function, want, _ = ACTIVATIONS[name]
    ends = torch.tensor([0.0, -0.0, 1e-30, 88.8, -88.8, 104.0, -104.0, 1e30, -1e30, torch.inf, -torch.inf, torch.nan])
    x = torch.cartesian_prod(ends, ends).T.reshape(1, 2, -1).to(device)
    if name == "identity":
        x = torch.cat([x[:, :1].clamp(-1e30, 1e30), x[:, 1:].clamp(-80, 80)], 1)
    with np.errstate(all="ignore"):
        exact = want(to_numpy(x))
    allowed = np.nan_to_num(8 * torch.finfo(torch.float32).eps * np.abs(exact), posinf=0)
    assert_close(function(x), exact.astype(np.float32), allowed + 2 * torch.finfo(torch.float32).tiny)


# Gradients -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "gated"])
def test_gradients_of_every_order(backend: str, device: str, activation: str) -> None:
    x, weight = draw(1, 3, 2, 3, dtype=torch.float64, device=device), draw(6, 3, 2, 2, seed=1).double().to(device)
    condition = draw(1, 6, *(() if activation == "relu" else (1, 2)), seed=3).double().to(device)
    tensors = x, weight, draw(6, seed=2).double().to(device), condition

    def function(x: Tensor, weight: Tensor, bias: Tensor, condition: Tensor) -> Tensor:
        call = {"color_groups": 3, "stride": 2, "activation": activation}
        return lapcore.masked_conv2d(x, weight, bias, mask="B", condition=condition, **call)

    inputs = [t.requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_only_the_gradients_that_are_wanted(backend: str, device: str) -> None:
    tensors = [draw(1, 2, 3, 3), draw(4, 2, 3, 3, seed=1), draw(4, seed=2), draw(1, 4, seed=3)]
    tensors = [t.to(device) for t in tensors]
    every = [t.clone().requires_grad_() for t in tensors]

    def run(x: Tensor, weight: Tensor, bias: Tensor, condition: Tensor) -> Tensor:
        return lapcore.masked_conv2d(x, weight, bias, mask="B", condition=condition, activation="gated").sum()

    want = torch.autograd.grad(run(*every), every)
    for i in range(4):
        one = [t.clone().requires_grad_(i == j) for j, t in enumerate(tensors)]
        assert_same_bits(torch.autograd.grad(run(*one), one[i])[0], want[i])


def test_a_fused_activation_has_its_gradient() -> None:
    """Of a graph that was exported without gradients, and then trained."""
    inputs = [draw(1, 2, 3, 3).requires_grad_(), draw(4, 2, 3, 3, seed=1).requires_grad_()]
    got = torch.ops.lapcore.masked_conv2d(*inputs, None, None, "B", 1, 1, "gated", True)
    want = lapcore.masked_conv2d(*inputs, mask="B", activation="gated")
    grads = [torch.autograd.grad(y.square().sum(), inputs) for y in (got, want)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, to_numpy(b), 1e-5)


# Structure -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mask", MASKS)
def test_the_jacobian_is_the_mask(
    backend: str, slow_backend: bool, device: str, mask: str, stride: int, gated: bool
) -> None:
    """Outputs depend on those inputs that a live tap joins to them, on every one of them, and on no other: forward, on a batch of
    all unit images, and backward, on one of all unit gradients."""
    channels, outputs, kernel = 4, 6, (2, 3)
    height, width = (2, 3) if slow_backend else (3, 4)
    weight = draw(outputs, channels, *kernel, device=device).abs() + 1
    live = oracle.mask_of(mask, kernel, channels, outputs, 3, gated)
    small = -(-height // stride), -(-width // stride)
    want = np.zeros((outputs, *small, channels, height, width), dtype=bool)
    for o, i, j, c, row, column in np.ndindex(want.shape):
        dy, dx = row - stride * i + kernel[0] // 2, column - stride * j + kernel[1] // 2
        want[o, i, j, c, row, column] = 0 <= dy < kernel[0] and 0 <= dx < kernel[1] and live[o, c, dy, dx]

    units = torch.eye(channels * height * width, device=device).view(-1, channels, height, width)
    call = {"mask": mask, "color_groups": 3, "stride": stride, "gated_layout": gated}
    forward = lapcore.masked_conv2d(units, weight, **call)
    assert np.array_equal(to_numpy(forward.flatten(1).T != 0).reshape(want.shape), want)
    x = torch.zeros(want[..., 0, 0, 0].size, channels, height, width, device=device, requires_grad=True)
    y = lapcore.masked_conv2d(x, weight, **call)
    (backward,) = torch.autograd.grad(y, x, torch.eye(len(x), device=device).view(y.shape))
    assert np.array_equal(to_numpy(backward != 0).reshape(want.shape), want)
    assert_same_bits(backward.flatten(1), forward.flatten(1).T.contiguous())


# Bits ----------------------------------------------------------------------------------------------------------------------------


def calls(dtype: torch.dtype, device: str) -> Iterator[tuple[Tensor, Tensor, Tensor, dict[str, object]]]:
    """Wide and narrow ones, of every activation."""
    for mask, channels, outputs, kernel, call in (
        ("A", 3, 66, (7, 7), {"color_groups": 3}),
        ("B", 40, 40, (3, 3), {"color_groups": 3, "activation": "relu"}),
        ("B", 33, 70, (1, 1), {"activation": "none"}),
        ("B", 24, 38, (2, 2), {"color_groups": 2, "activation": "gated"}),
        ("rows", 9, 20, (2, 3), {"stride": 2}),
        ("above", 17, 6, (3, 3), {"activation": "gated"}),
    ):
        x, weight = draw(5, channels, 13, 21, dtype=dtype), draw(outputs, channels, *kernel, seed=1, dtype=dtype)
        bias = draw(outputs, seed=2, dtype=dtype)
        yield x.to(device), weight.to(device), bias.to(device), {"mask": mask, **call}


def exact_only(backend: str) -> None:
    if backend not in EXACT:
        pytest.skip(f"{backend} may sum in any order")


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_an_image_does_not_depend_on_its_batch_or_the_threads(backend: str, device: str, dtype: torch.dtype) -> None:
    exact_only(backend)
    if backend == "cuda" and dtype != torch.float32:
        pytest.skip("tensor cores sum in any order")
    threads = torch.get_num_threads()
    try:
        for x, weight, bias, call in calls(dtype, device):
            torch.set_num_threads(threads)
            whole = lapcore.masked_conv2d(x, weight, bias, **call)
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                assert_same_bits(lapcore.masked_conv2d(x, weight, bias, **call), whole)
                parts = [lapcore.masked_conv2d(part, weight, bias, **call) for part in (x[:1], x[1:3], x[3:])]
                assert_same_bits(torch.cat(parts), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.heavy
def test_a_pixel_does_not_depend_on_its_place(backend: str, device: str) -> None:
    """What a crop knows whole, it computes alike."""
    exact_only(backend)
    for x, weight, bias, call in calls(torch.float32, device):
        if call.get("stride") == 2:
            continue
        height, width = weight.shape[2:]
        whole = lapcore.masked_conv2d(x, weight, bias, **call)
        crop = lapcore.masked_conv2d(x[:, :, 2:11, 3:], weight, bias, **call)
        top, left = height // 2, width // 2
        assert_same_bits(crop[:, :, top:, left:].contiguous(), whole[:, :, 2 + top : 11, 3 + left :].contiguous())


@pytest.mark.heavy
def test_a_stride_or_a_fused_activation_changes_no_bits(backend: str, device: str) -> None:
    exact_only(backend)
    for x, weight, bias, call in calls(torch.float32, device):
        activation, _ = call.pop("activation", "none"), call.pop("stride", None)
        gated = activation == "gated"
        linear = lapcore.masked_conv2d(x, weight, bias, gated_layout=gated, **call)
        halved = lapcore.masked_conv2d(x, weight, bias, gated_layout=gated, stride=2, **call)
        assert_same_bits(halved, linear[:, :, ::2, ::2].contiguous())
        apart = {"none": lambda y: y, "relu": torch.relu, "gated": lapcore.gated_activation}[activation](linear)
        assert_same_bits(lapcore.masked_conv2d(x, weight, bias, activation=activation, **call), apart)


@pytest.mark.heavy
def test_the_chain(backend: str, device: str) -> None:
    """Sums are fused multiply-adds over live taps in raster order, each tap's channels in order, then bias and condition."""
    exact_only(backend)
    if backend == "cpu":
        from lapcore import _C

        if _C.isa() == "baseline":
            pytest.skip("this instruction set has no fused multiply-add")
    for mask, groups in (("A", 3), ("B", 2), ("rows", 1)):
        x, weight = draw(2, 5, 6, 7), draw(7, 5, 3, 3, seed=1)
        bias, condition = draw(7, seed=2), draw(2, 7, seed=3)
        arrays = [t.numpy() for t in (x, weight, bias)]
        call = {"mask": mask, "color_groups": groups}
        want = oracle.masked_conv2d(*arrays, condition=condition.numpy(), accumulate=oracle.fused, **call)
        assert want.dtype == np.float32
        got = lapcore.masked_conv2d(
            x.to(device), weight.to(device), bias.to(device), condition=condition.to(device), **call
        )
        assert_same_bits(got.cpu(), torch.from_numpy(want))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_does_not_depend_on_its_place(backend: str, device: str, name: str) -> None:
    exact_only(backend)
    function = ACTIVATIONS[name][0]
    x = draw(3, 2, 101).to(device) * 3
    want = function(x)
    for part in (slice(0, 1), slice(5, 9), slice(7, 101)):
        assert_same_bits(function(x[:, :, part]), want[:, :, part].contiguous())
    assert_same_bits(function(x[1:2]), want[1:2])


# Refusals ------------------------------------------------------------------------------------------------------------------------

BAD = [
    ("x", TypeError, lambda x, w: (x.numpy(), w), {}),
    ("x", TypeError, lambda x, w: (x.int(), w), {}),
    ("x", ValueError, lambda x, w: (x[0], w), {}),
    ("x", ValueError, lambda x, w: (x[:, :, :0], w), {}),
    ("x", ValueError, lambda x, w: (x, w), {"color_groups": 5}),
    ("weight", TypeError, lambda x, w: (x, 1.0), {}),
    ("weight", ValueError, lambda x, w: (x, w[0]), {}),
    ("weight", ValueError, lambda x, w: (x, w[:, :2]), {}),
    ("weight", ValueError, lambda x, w: (x, w[:, :, :0]), {}),
    ("weight", ValueError, lambda x, w: (x, w.double()), {}),
    ("weight", ValueError, lambda x, w: (x, w.to("meta")), {}),
    ("weight", ValueError, lambda x, w: (x, w[:5]), {"activation": "gated"}),
    ("weight", ValueError, lambda x, w: (x, w[:5]), {"gated_layout": True}),
    ("weight", ValueError, lambda x, w: (x, w[:2]), {"color_groups": 3}),
    ("weight", ValueError, lambda x, w: (x, w[:4]), {"color_groups": 3, "activation": "gated"}),
    ("bias", TypeError, lambda x, w: (x, w, [0.0] * 6), {}),
    ("bias", ValueError, lambda x, w: (x, w, torch.zeros(5)), {}),
    ("bias", ValueError, lambda x, w: (x, w, torch.zeros(6).half()), {}),
    ("condition", TypeError, lambda x, w: (x, w), {"condition": 1}),
    ("condition", ValueError, lambda x, w: (x, w), {"condition": torch.zeros(2, 5)}),
    ("condition", ValueError, lambda x, w: (x, w), {"condition": torch.zeros(2, 6, 5, 6), "stride": 2}),
    ("condition", ValueError, lambda x, w: (x, w), {"condition": torch.zeros(2, 6).double()}),
    ("mask", ValueError, lambda x, w: (x, w), {"mask": "C"}),
    ("color_groups", TypeError, lambda x, w: (x, w), {"color_groups": 1.0}),
    ("color_groups", ValueError, lambda x, w: (x, w), {"color_groups": 0}),
    ("stride", ValueError, lambda x, w: (x, w), {"stride": 3}),
    ("stride", ValueError, lambda x, w: (x, w), {"stride": True}),
    ("activation", ValueError, lambda x, w: (x, w), {"activation": "tanh"}),
    ("gated_layout", TypeError, lambda x, w: (x, w), {"gated_layout": 1}),
]


@pytest.mark.parametrize(("name", "error", "change", "call"), BAD)
def test_refusals(name: str, error: type[Exception], change, call: dict[str, object]) -> None:
    with pytest.raises(error, match=f"^{name}: expected"):
        lapcore.masked_conv2d(*change(draw(2, 4, 5, 6), draw(6, 4, 3, 3)), **{"mask": "B", **call})


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (TypeError, lambda: lapcore.concat_elu([1.0])),
        (TypeError, lambda: lapcore.concat_elu(torch.ones(2, 2, dtype=torch.int32))),
        (ValueError, lambda: lapcore.concat_elu(torch.ones(2))),
        (TypeError, lambda: lapcore.gated_activation(torch.ones(2, 2, dtype=torch.bool))),
        (ValueError, lambda: lapcore.gated_activation(torch.ones(4))),
        (ValueError, lambda: lapcore.gated_activation(torch.ones(2, 3))),
    ],
)
def test_refusals_of_activations(error: type[Exception], call) -> None:
    with pytest.raises(error, match=r"^x: expected"):
        call()
    with pytest.raises(ValueError, match=r"^first: expected"):
        lapcore.gated_activation(torch.ones(2, 2), first="relu")


@pytest.mark.parametrize(
    ("name", "error", "arguments", "gated"),
    [
        ("mask", ValueError, ("a", 3, 3, 3), False),
        ("kernel_size", ValueError, ("A", 0, 3, 3), False),
        ("kernel_size", ValueError, ("A", (3,), 3, 3), False),
        ("kernel_size", TypeError, ("A", (3, 1.5), 3, 3), False),
        ("in_channels", ValueError, ("A", 3, 2, 3, 3), False),
        ("out_channels", ValueError, ("A", 3, 3, 2, 3), False),
        ("out_channels", ValueError, ("A", 3, 3, 5), True),
        ("out_channels", ValueError, ("A", 3, 3, 4, 3), True),
        ("color_groups", ValueError, ("A", 3, 3, 3, 0), False),
    ],
)
def test_refusals_of_masks(name: str, error: type[Exception], arguments: tuple[object, ...], gated: bool) -> None:
    with pytest.raises(error, match=f"^{name}: expected"):
        lapcore.mask_of(*arguments, gated_layout=gated)


def test_forward_mode_is_refused() -> None:
    with pytest.raises(RuntimeError, match="forward-mode"):
        torch.func.jvp(lapcore.concat_elu, (torch.ones(2, 2),), (torch.ones(2, 2),))
