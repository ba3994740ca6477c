"""Triton's masked convolutions: what tests/ops/test_masked_conv.py cannot ask of every backend, or not of an interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.oracle import masked_conv as oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

pytest.importorskip("triton", reason="triton is not installed")

from lapcore.kernels import masked_conv
from lapcore.kernels._launch import index_type

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
U = torch.finfo(torch.float32).eps / 2
# Mask, kernel, colour groups, gated layout.
KINDS = [("A", (3, 3), 3, False), ("B", (2, 3), 3, True), ("B", (1, 1), 2, False), ("rows", (2, 3), 1, False)]
# NumPy's, in the interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")

Tensor = torch.Tensor


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).to(DEVICE, dtype)


def forward(
    x: Tensor, weight: Tensor, kind: tuple, activation: str = "none", condition: Tensor | None = None
) -> Tensor:
    mask, _, groups, gated = kind
    y = masked_conv.masked_conv2d(x, weight, None, condition, mask, groups, 1, activation, gated)
    assert y is not None
    return y


def backward(grad: Tensor, x: Tensor, weight: Tensor, kind: tuple) -> tuple[Tensor, Tensor]:
    mask, _, groups, gated = kind
    d_x, d_weight = masked_conv.masked_conv2d_backward(grad, x, weight, mask, groups, gated, 1, (True, True))
    return d_x, d_weight


def check(got: Tensor, want: np.ndarray, magnitude: np.ndarray, terms: int, what: str) -> None:
    """A sum of so many products in any order, stored in float32."""
    assert_close(got, want, (terms + 2) * U * magnitude + torch.finfo(torch.float32).tiny, what)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[1]], ids=str)
@pytest.mark.parametrize("channels", [(3, 140), (40, 12)], ids=str)
def test_several_tiles(kind: tuple, channels: tuple[int, int]) -> None:
    """Of pixels, of the columns of a colour group, and of depth, whose last step is not a whole one."""
    mask, kernel, groups, gated = kind
    inputs, outputs = channels
    x, weight, grad = draw(1, inputs, 9, 8), draw(outputs, inputs, *kernel), draw(1, outputs, 9, 8)
    arrays = [to_numpy(t) for t in (grad, x, weight)]
    large = [np.abs(a) for a in arrays]
    call = {"mask": mask, "color_groups": groups, "gated_layout": gated}
    want, magnitude = (oracle.masked_conv2d(*a[1:], **call) for a in (arrays, large))
    check(forward(x, weight, kind), want, magnitude, weight[0].numel(), "result")
    wants, magnitudes = (oracle.masked_conv2d_gradients(*a, mask, groups, gated, 1) for a in (arrays, large))
    got = backward(grad, x, weight, kind)
    check(got[0], wants[0], magnitudes[0], weight[:, 0].numel(), "gradient at x")
    check(got[1], wants[1], magnitudes[1], grad[:, 0].numel(), "gradient at the weight")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_is_masked_is_not_multiplied(kind: tuple) -> None:
    """NaN reaches those outputs alone that see it, and those inputs alone that are seen, also inside a step of a product."""
    mask, kernel, groups, gated = kind
    x, weight, grad = torch.zeros(1, 4, 3, 4), torch.ones(6, 4, *kernel), torch.zeros(1, 6, 3, 4)
    call = {"mask": mask, "color_groups": groups, "gated_layout": gated}
    for channel in range(4):
        x[0, channel, 1, 2] = 1
        seen = oracle.masked_conv2d(x.numpy(), weight.numpy(), **call) != 0
        y = forward(x.where(x == 0, torch.nan).to(DEVICE), weight.to(DEVICE), kind)
        assert np.array_equal(np.isnan(to_numpy(y)), seen)
        x[0, channel, 1, 2] = 0
    for channel in range(6):
        grad[0, channel, 1, 2] = 1
        sees = oracle.masked_conv2d_gradients(grad.numpy(), x.numpy(), weight.numpy(), mask, groups, gated, 1)[0] != 0
        d_x, _ = backward(grad.where(grad == 0, torch.nan).to(DEVICE), x.to(DEVICE), weight.to(DEVICE), kind)
        assert np.array_equal(np.isnan(to_numpy(d_x)), sees)
        grad[0, channel, 1, 2] = 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_gradient_at_the_weight_over_several_splits(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """More pixels than one split has, the last split being short; and the same bits again."""
    monkeypatch.setattr(masked_conv, "LEAST_SHARE", 100)
    kind = ("B", (2, 2), 2, True)
    x, weight, grad = draw(3, 3, 9, 13, dtype=dtype), draw(8, 3, 2, 2, dtype=dtype), draw(3, 8, 9, 13, dtype=dtype)
    _, got = backward(grad, x, weight, kind)
    arrays = [to_numpy(t) for t in (grad, x, weight)]
    _, want = oracle.masked_conv2d_gradients(*arrays, "B", 2, True, 1)
    _, magnitude = oracle.masked_conv2d_gradients(*map(np.abs, arrays), "B", 2, True, 1)
    stored = np.abs(want) * torch.finfo(dtype).eps / 2
    assert_close(got, want, (grad[:, 0].numel() + 2) * U * magnitude + stored * 1.01)
    assert not to_numpy(got)[~oracle.mask_of("B", (2, 2), 3, 8, 2, True)].any()
    assert_same_bits(backward(grad, x, weight, kind)[1], got)


@pytest.mark.gpu
@pytest.mark.skipif(
    DEVICE.type == "cpu", reason="NumPy's products depend on the place of a row, and the interpreter's with them"
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_images_do_not_depend_on_their_batch(dtype: torch.dtype) -> None:
    kind = KINDS[1]
    x, weight, grad = draw(3, 5, 7, 9, dtype=dtype), draw(6, 5, 2, 3, dtype=dtype), draw(3, 6, 7, 9, dtype=dtype)
    y, (d_x, _) = forward(x, weight, kind), backward(grad, x, weight, kind)
    for i in range(3):
        assert_same_bits(forward(x[i : i + 1], weight, kind), y[i : i + 1])
        assert_same_bits(backward(grad[i : i + 1], x[i : i + 1], weight, kind)[0], d_x[i : i + 1])


@pytest.mark.parametrize("maps", [False, True])
def test_a_fused_gate_is_the_gate(maps: bool) -> None:
    kind = ("B", (3, 3), 3, True)
    x, weight = draw(2, 4, 5, 6), draw(14, 4, 3, 3)
    condition = draw(2, 14, 5, 6) if maps else draw(2, 14)
    apart = masked_conv.gated_activation(forward(x, weight, kind, "none", condition), "tanh")
    assert_same_bits(forward(x, weight, kind, "gated", condition), apart)


def test_images_that_are_rows_already_are_not_copied() -> None:
    x = draw(2, 6, 3, 4)
    for there in (draw(2, 8, 3, 4).to(memory_format=torch.channels_last), draw(2, 4, 1, 1)):
        assert masked_conv.rows_of(there) is there
    filled = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 2))  # rows are of whole 16 bytes
    assert_same_bits(masked_conv.rows_of(x[:, :, ::2]), filled[:, :, ::2].permute(0, 2, 3, 1).reshape(-1, 8))
    turned = masked_conv.rows_of(x, pairs=True, reverse=True)
    assert_same_bits(turned, filled[:, [2, 5, 1, 4, 0, 3, 6, 7]].permute(0, 2, 3, 1).reshape(-1, 8))


def test_offsets_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that need them would not fit here, so a call that does not is given them."""
    kind = KINDS[1]
    x, weight, grad = draw(2, 4, 5, 6), draw(6, 4, 2, 3), draw(2, 6, 5, 6)
    want = forward(x, weight, kind), *backward(grad, x, weight, kind)
    wide = index_type(2**40)
    monkeypatch.setattr(masked_conv, "index_type", lambda *sizes: wide)
    for got, expected in zip((forward(x, weight, kind), *backward(grad, x, weight, kind)), want, strict=True):
        assert_same_bits(got, expected)


def test_float32_is_multiplied_as_pytorch_is_told() -> None:
    x = draw(1, 1, 1, 1)
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        precisions = []
        for allowed in (False, True):
            torch.backends.cuda.matmul.allow_tf32 = allowed
            precisions.append(masked_conv.tile_of(x, 64).precision)
        assert precisions == ["ieee", "tf32"]
        assert masked_conv.tile_of(x.half(), 64).precision == "ieee"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_float64_convolutions_are_the_references() -> None:
    x, weight = draw(1, 1, 2, 2, dtype=torch.float64), draw(1, 1, 1, 1, dtype=torch.float64)
    assert masked_conv.masked_conv2d(x, weight, None, None, "B", 1, 1, "none", False) is None
    assert masked_conv.masked_conv2d_backward(x, x, weight, "B", 1, False, 1, (True, True)) is None
