"""What masked convolutions and their activations are held to, whatever the backend: the oracle, to within derived roundings."""

from __future__ import annotations

import numpy as np
import torch

import lapcore
from tests.oracle import masked_conv as oracle
from tests.tolerance import ACCUMULATOR, assert_close, to_numpy

Tensor = torch.Tensor
MASKS = ("A", "B", "rows", "above")
ACTIVATIONS = {
    "gated": (lapcore.gated_activation, oracle.gated_activation, oracle.gated_activation_gradient),
    "identity": (
        lambda x: lapcore.gated_activation(x, first="identity"),
        lambda x: oracle.gated_activation(x, "identity"),
        lambda grad, x: oracle.gated_activation_gradient(grad, x, "identity"),
    ),
    "elu": (lapcore.concat_elu, oracle.concat_elu, oracle.concat_elu_gradient),
}


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


def check_activation(name: str, x: Tensor, grad: Tensor) -> None:
    """Good to 8 units, and so are the gradients, of the largest there could be: slopes are at most 1, a factor's the other one."""
    function, want, gradient = ACTIVATIONS[name]
    unit = 8 * torch.finfo(ACCUMULATOR[x.dtype]).eps
    x = x.detach().requires_grad_()
    y = function(x)
    exact = want(to_numpy(x))
    assert y.dtype == x.dtype and y.is_contiguous()
    assert_close(y, exact, unit * np.abs(exact) + stored(exact, x.dtype), f"{name} {tuple(x.shape)} {x.dtype}")
    got = torch.autograd.grad(y, x, grad)[0]
    exact, size = gradient(to_numpy(grad), to_numpy(x)), np.abs(to_numpy(grad))
    half = x.shape[1] // 2
    if name == "elu":
        size = size[:, : x.shape[1]] + size[:, x.shape[1] :]
    else:
        factor = np.maximum(1, np.abs(to_numpy(x[:, :half]))) if name == "identity" else 1
        size = np.concatenate([size, size * factor], axis=1)
    assert_close(got, exact, unit * size + stored(exact, x.dtype), f"gradient of {name} {tuple(x.shape)} {x.dtype}")
