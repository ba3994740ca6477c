"""Masked convolutions in plain PyTorch: the masks, the readable definition, and its gradients (van den Oord et al. 2016).

A kernel (kh, kw) has its centre at (kh // 2, kw // 2). In raster order, its first taps are live for every pair of channels, the
centre tap may be live for some, and all later taps are dead:

| mask  | live for every pair of channels     | centre tap, of groups g_in and g_out | for                                     |
| ----- | ----------------------------------- | ------------------------------------ | --------------------------------------- |
| A     | what stands before the centre       | g_in < g_out                         | the first layer                         |
| B     | what stands before the centre       | g_in <= g_out                        | later layers                            |
| rows  | rows up to and with the centre's    | live                                 | vertical stacks, PixelCNN++'s "down"    |
| above | rows above the centre's             | dead                                 | the first layer of a vertical stack     |

Channel c of C is of colour group c * G // C of G: contiguous parts, as in logits viewed as (N, G, levels, H, W), and in RGB. In the
`gated_layout` the output channels are two halves, those of the tanh and of the sigmoid, each divided so by itself.

Everything is computed in float32, or in float64 for float64, and rounded once; autocast does not change that. The gradients are
differentiable PyTorch themselves, so that second derivatives follow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad as conv_grad

MASKS = ("A", "B", "rows", "above")


def whole_taps(mask: str, kernel_size: tuple[int, int]) -> int:
    """How many taps, the first in raster order, are live for every pair of channels."""
    height, width = kernel_size
    row = height // 2 * width
    return row + {"A": width // 2, "B": width // 2, "rows": width, "above": 0}[mask]


def centre_channels(mask: str, in_channels: int, out_channels: int, color_groups: int, gated_layout: bool) -> list[int]:
    """Of masks A and B, for each output channel: for how many input channels, the first ones, the centre tap is live."""
    period = out_channels // 2 if gated_layout else out_channels
    groups = [(o % period) * color_groups // period for o in range(out_channels)]
    # Group g begins at the first c with c * G // C = g, which is ceil(g C / G).
    return [-(-(g + (mask == "B")) * in_channels // color_groups) for g in groups]


def mask_of(
    mask: str,
    kernel_size: tuple[int, int],
    in_channels: int,
    out_channels: int,
    color_groups: int,
    gated_layout: bool,
    device: torch.device | str | None,
) -> Tensor:
    """Which weights are live: bool, (out_channels, in_channels, kh, kw)."""
    taps = whole_taps(mask, kernel_size)
    live = torch.zeros(out_channels, in_channels, math.prod(kernel_size), dtype=torch.bool, device=device)
    live[..., :taps] = True
    if mask in ("A", "B"):
        first = torch.tensor(
            centre_channels(mask, in_channels, out_channels, color_groups, gated_layout), device=device
        )
        live[..., taps] = torch.arange(in_channels, device=device) < first[:, None]
    return live.view(out_channels, in_channels, *kernel_size)


def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    condition: Tensor | None,
    mask: str,
    color_groups: int,
    stride: int,
    activation: str,
    gated_layout: bool,
) -> Tensor:
    """activation(sum over live taps of weight * x + bias + condition); x (N, C, H, W) counts as 0 outside."""
    with torch.autocast(x.device.type, enabled=False):
        y = F.conv2d(_padded(x, weight), _kernel(weight, mask, color_groups, gated_layout), stride=stride)
    if bias is not None:
        y = y + _wide(bias)[:, None, None]
    if condition is not None:
        y = y + _wide(condition)[(..., *[None] * (4 - condition.dim()))]
    if activation == "relu":
        y = torch.relu(y)
    elif activation == "gated":
        y = gated_activation(y, "tanh")
    return y.to(x.dtype)


def masked_conv2d_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    mask: str,
    color_groups: int,
    gated_layout: bool,
    stride: int,
    needs: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Of the linear part, those that are needed: dx, and dweight, which is 0 at dead taps."""
    wide, padded = _wide(grad), _padded(x, weight)
    kernel = _kernel(weight, mask, color_groups, gated_layout)
    dx = dw = None
    if needs[0]:
        top, left = weight.shape[2] // 2, weight.shape[3] // 2
        d_padded = conv_grad.conv2d_input(padded.shape, kernel, wide, stride)  # type: ignore[no-untyped-call]
        dx = d_padded[:, :, top:, left : left + x.shape[3]].to(x.dtype).contiguous()
    if needs[1]:
        d_kernel = conv_grad.conv2d_weight(padded, kernel.shape, wide, stride)  # type: ignore[no-untyped-call]
        d_kernel = F.pad(d_kernel, (0, 0, 0, weight.shape[2] - kernel.shape[2]))
        dw = torch.where(_live(weight, mask, color_groups, gated_layout), d_kernel, 0).to(weight.dtype)
    return dx, dw


def gated_activation(x: Tensor, first: str) -> Tensor:
    """tanh(a) * sigmoid(b), or a * sigmoid(b), of the halves a and b of x (N, 2C, ...)."""
    a, b = _wide(x).chunk(2, 1)
    return ((torch.tanh(a) if first == "tanh" else a) * torch.sigmoid(b)).to(x.dtype)


def gated_activation_backward(grad: Tensor, x: Tensor, first: str) -> Tensor:
    """With t = tanh(a) or a, and s = sigmoid(b): da = grad t' s, db = grad t s (1 - s)."""
    wide, (a, b) = _wide(grad), _wide(x).chunk(2, 1)
    s = torch.sigmoid(b)
    if first == "tanh":
        t = torch.tanh(a)
        da = wide * (1 - t * t) * s
    else:
        t = a
        da = wide * s
    return torch.cat([da, wide * t * s * (1 - s)], 1).to(x.dtype)


def concat_elu(x: Tensor) -> Tensor:
    """elu(x) and elu(-x), elu(x) = max(x, 0) + expm1(min(x, 0)), side by side in the channels."""
    wide = _wide(x)
    return F.elu(torch.cat([wide, -wide], 1)).to(x.dtype)


def concat_elu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """elu'(x) = exp(min(x, 0))."""
    wide, (up, down) = _wide(x), _wide(grad).chunk(2, 1)
    return (up * wide.clamp(max=0).exp() - down * (-wide).clamp(max=0).exp()).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    """In the type that is computed in; contiguous, for the bits of torch's functions depend on the layout."""
    return (x if x.dtype == torch.float64 else x.to(torch.float32)).contiguous()


def _live(weight: Tensor, mask: str, color_groups: int, gated_layout: bool) -> Tensor:
    o, c, height, width = weight.shape
    return mask_of(mask, (height, width), c, o, color_groups, gated_layout, weight.device)


def _kernel(weight: Tensor, mask: str, color_groups: int, gated_layout: bool) -> Tensor:
    """The rows that may be live, 0 where dead, whatever the weight holds there."""
    live = _live(weight, mask, color_groups, gated_layout)
    return torch.where(live, _wide(weight), 0)[:, :, : weight.shape[2] // 2 + 1]


def _padded(x: Tensor, weight: Tensor) -> Tensor:
    """Zeros around the image, as far as those rows of the kernel reach."""
    height, width = weight.shape[2:]
    return F.pad(_wide(x), (width // 2, width - 1 - width // 2, height // 2, 0))
